"""Data sources: each finds examples and labels in one kind of place."""
