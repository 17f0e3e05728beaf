"""After training: figures, predictions, pictures, and finished runs measured again."""
