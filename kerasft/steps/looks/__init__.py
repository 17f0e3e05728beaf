"""A look at data and network before anything trains."""
