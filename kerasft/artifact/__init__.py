"""What lies in an exported artifact, and how it answers without Keras."""
