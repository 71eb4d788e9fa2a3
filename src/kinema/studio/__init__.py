"""Web pages over the folders: look at data, runs and videos, make videos, and let people vote."""
