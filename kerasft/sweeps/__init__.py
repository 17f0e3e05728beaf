"""Sweeps: many runs over a grid, and the table that compares runs."""
