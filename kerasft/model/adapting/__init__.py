"""Adapters: what trains in place of a backbone's own weights, and its files."""
