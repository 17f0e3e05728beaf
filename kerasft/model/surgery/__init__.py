"""Surgery: steps that change the layers of a pretrained network before it is trained."""
