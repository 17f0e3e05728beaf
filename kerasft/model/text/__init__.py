"""Texts in the graph: words, tokens, windows, templates, and how a language model writes."""
