"""Other layouts of weights: public checkpoints in, public checkpoints out."""
