"""Labels: from the cells and folder names of a source to what a network learns."""
