"""Training: stages, schedules, callbacks and the loop around Keras' own step."""
