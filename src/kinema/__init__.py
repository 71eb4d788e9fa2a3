"""kinema: raw footage to a video diffusion model, and the model to video."""

__version__ = "0.1.0"
