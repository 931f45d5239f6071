"""The trainer: the only loop."""
