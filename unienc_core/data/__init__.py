"""Stores, triplets, transforms, data sets, and the synthetic city."""
