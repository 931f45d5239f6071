"""Adapters: data sets as people have them on disk, listed and read into the keys of a store."""
