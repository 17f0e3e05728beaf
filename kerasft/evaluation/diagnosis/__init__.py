"""What a run suffers from, told by its curves, its gap and its updates."""
