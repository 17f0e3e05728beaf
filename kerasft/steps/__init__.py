"""The steps that the acts in `run.py` are made of, in the order of the flow."""
