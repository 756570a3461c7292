"""Semantic patches for the official tree: one technique a module, order in `series`."""
