"""What pretrained networks there are, and which to begin with."""
