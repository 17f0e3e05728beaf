"""Data: from a source to splits, an order, and batches that are gathered and augmented."""
