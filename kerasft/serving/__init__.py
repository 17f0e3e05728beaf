"""Exports at work: served, verified, measured."""
