"""Several runs, one on top of the other, from one file: a tree of models."""
