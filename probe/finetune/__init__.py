"""Fine-tune the network of a run, starting from the head that was fitted on its features.

In reading order: `source` (the run with its images and head), `start` (the network, and the check
that it gives the run's predictions), `train` (the training loop), `finish` (the run that is
written). `forecast` tries an eighth of the images before. `graph`, `state` and `network` compute a
step. Importing this imports nothing heavy.
"""
