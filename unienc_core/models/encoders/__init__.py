"""Encoders: images to feature pyramids. Importing this registers them."""

from unienc_core.models.encoders.timm_encoder import TimmEncoder

__all__ = ["TimmEncoder"]
