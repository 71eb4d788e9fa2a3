"""Pages that open from disk: one HTML file with its style in it, light or dark as the reader's screen is."""
