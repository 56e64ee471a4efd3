"""What every room builds on: files, records, catalogs, options and small helpers.

files, run_folders       write files atomically; name and lock the folders of runs
records, plain           read and write JSON and arrays; dataclasses to and from plain containers
memo                     hashes of files, remembered by size and times
download                 download a file, going on where it stopped
pickles, hdf5            read files of unknown origin without running their code
ndarray_list             write MXNet's file format for arrays
registry                 catalogs of named specs, whose errors suggest similar names
arguments, options       check what the Python functions and the command line were given
indexing, nearest        rows by index or id; nearest neighbours by cosine
machine                  cores, environment variables, the state folder
html, short_repr, text   how results are shown in a notebook and in messages
version                  the version of this package
"""
