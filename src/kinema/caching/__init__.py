"""Latents and embeddings made ahead of training, by many processes or machines."""
