"""The steps that the acts in `run.py` are made of, room by room in the order of the flow."""
