"""Heads: from the features of any backbone to the outputs of a task."""
