"""Texts with something marked in them."""
