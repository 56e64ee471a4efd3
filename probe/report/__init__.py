"""Pictures of a run. Matplotlib's object interface only: no pyplot, no state shared by threads."""
