"""Comparing backbones: one protocol, the same rows, tests of whether a difference is real.

    candidates    what is compared, from what a person types
    plan          which images are to be forwarded, how long that takes, whether it fits on the disk
    sources       features as the heads see them: an entry, several side by side, after a PCA
    fitting       the heads, as ordinary runs; a finished one is found again
    scores        ranking without training
    network_cost  parameters and multiply-adds of a cut network
    rows          lines of the leaderboard
    compare       paired tests, tie groups, the verdict
    work          all of it, one after another; `table` writes the CSV

What a bench leaves behind is described in `probe.bench.record`.
"""
