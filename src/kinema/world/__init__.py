"""A small world, rendered, told in captions and checked by looking: what the embedded model learns."""
