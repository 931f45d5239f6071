"""Blocks, encoders, necks, heads and the network that joins them."""
