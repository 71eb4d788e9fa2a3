"""Pictures of 3D models: meshes read, lit and drawn without a display, and orbits of them as a dataset."""
