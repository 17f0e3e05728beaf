"""Files of rows: read into columns, and doubted where the format swallows or changes cells."""
