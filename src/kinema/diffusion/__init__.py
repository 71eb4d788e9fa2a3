"""Diffusion processes and samplers: mathematics on tensors, without input or output."""
