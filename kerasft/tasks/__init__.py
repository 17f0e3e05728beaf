"""Tasks: what the labels of an example mean to a network: its loss, its answers, its figures."""
