"""Segmentations as files: the official formats of predictions and ground truth."""
