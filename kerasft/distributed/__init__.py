"""Several devices and several machines: who takes part in a run, and what they agree on."""
