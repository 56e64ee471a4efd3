"""Fine-tuning the network that won, from where its probe ended.

In reading order: `source` (a run, its images, its head), `start` (the network, and the proof that
it is the one that was probed), `train` (the loop), `finish` (the run that comes of it). `graph`,
`state` and `network` are what a step computes. Importing this imports nothing heavy.
"""
