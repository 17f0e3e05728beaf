"""Writes a fine-tuned model in the formats that others run."""
