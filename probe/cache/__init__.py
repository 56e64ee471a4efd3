"""The feature cache: what makes entries equal, their files, and the folder they lie in.

key, compare         the identity of an entry, and the differences between two
checksum, file       the layout of the file (FORMAT.md describes it for other languages)
create, pending      write an entry: its structure, then its rows, block by block, with a journal
filling, unfinished  copy the rows that other entries, or interrupted runs, have already
features, rows       read an entry; every block is checked when it is first touched
damage               name the damaged rows of a block whose checksum does not match
pack                 compressed and half-precision entries
store, locks         the folder of entries: find, choose, lock and remove
prune, needed        which entries may be removed, and which ones runs still need
joining              several entries that are used together
"""
