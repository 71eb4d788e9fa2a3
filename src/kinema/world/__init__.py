"""A small world that is rendered, told in captions, and checked by looking: what the embedded model learns."""
