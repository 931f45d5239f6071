"""Necks: pyramids to pyramids. Importing this registers them."""
