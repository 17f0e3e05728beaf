"""Answers to raw input, and exports."""
