"""Training past this machine: the real order of batches under a model of what they cost."""
