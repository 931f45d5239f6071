"""Preset files shipped with unienc."""
