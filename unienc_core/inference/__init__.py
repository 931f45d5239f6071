"""Predictor, streams of frames, video in and out, overlays."""
