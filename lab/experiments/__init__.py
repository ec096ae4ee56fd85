"""Experiments: what is set and called, what clients saw, and whether the reports agree."""
