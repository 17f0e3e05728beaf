"""Finished runs: their folders, their models opened again, what is asked of them."""
