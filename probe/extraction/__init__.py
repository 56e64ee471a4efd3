"""Run a frozen backbone over a dataset once, and find its features again.

request        from options to a pass in which everything is decided
job            the decided pass: images, layers, and the keys of the entries to fill
extract        the pass itself: reuse an entry, copy rows, forward the rest
cached_rows    features of single images, found by the images' content in any entry
transformer    a frozen backbone as a scikit-learn transformer
upkeep, drift  explain, sync, repair and re-check entries that exist
"""
