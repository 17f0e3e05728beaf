"""Which network, which learning rate, and what a run suffers from."""
