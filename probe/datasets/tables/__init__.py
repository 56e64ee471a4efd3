"""Tables about images: their cells from files of every form, and what the columns are for."""
