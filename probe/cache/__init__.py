"""The feature cache. Nothing here imports MXNet.

key, compare        what makes entries equal, and why two are not
checksum, file      what an entry is on disk (FORMAT.md says it for other languages)
folds, damage       which rows are damaged, where a checksum says that some are
create, writer      its structure, then its rows, block by block, with a journal
pending, filling    an entry on its way: taken up after a kill, filled from what is at hand
journal, unfinished what a run left that was interrupted: seen, copied from, removed
features, rows      reading, checked when touched
pack, disk          smaller entries, on a disk that may fill
store, locks, prune the folder of entries
joining             splits that were extracted apart
"""
