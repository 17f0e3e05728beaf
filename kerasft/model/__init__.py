"""The network: a pretrained backbone with its preprocessing, a head, and what regularizes them."""
