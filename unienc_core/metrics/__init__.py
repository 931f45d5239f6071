"""Metrics: pure functions, one definition each."""
