"""Readers of others' layouts: one file a layout, each a `to_samples(path, *, bad)`."""
