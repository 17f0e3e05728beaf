"""Evaluation: what a network keeps of each example, figures with their intervals, and plots."""
