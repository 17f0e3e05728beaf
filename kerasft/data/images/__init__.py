"""Sets of images on a disk: their folders, their archives, and what is wrong with the files."""
