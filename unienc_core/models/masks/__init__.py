"""Masks by queries: pixel decoder, queries told of their task, and texts to compare them with."""

from unienc_core.models.masks.deformable import MultiScaleDeformableAttention
from unienc_core.models.masks.pixel_decoder import STRIDES, PixelDecoder
from unienc_core.models.masks.query_decoder import (
    MaskedAttentionDecoder,
    QueryInitialiser,
    QueryPredictions,
    QueryValues,
)
from unienc_core.models.masks.task import TaskToken, TextQueries

__all__ = [
    "STRIDES",
    "MaskedAttentionDecoder",
    "MultiScaleDeformableAttention",
    "PixelDecoder",
    "QueryInitialiser",
    "QueryPredictions",
    "QueryValues",
    "TaskToken",
    "TextQueries",
]
