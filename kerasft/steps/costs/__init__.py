"""What a run will take of time and memory, and what of it fits."""
