"""Training, and what a run is compared with."""
