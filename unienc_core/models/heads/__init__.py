"""Heads: pyramids to predictions. Importing this registers them."""

from unienc_core.models.heads.masks import Masks
from unienc_core.models.heads.motion import MotionMask, SceneFlow
from unienc_core.models.heads.pose import MultiScalePose, SingleScalePose
from unienc_core.models.heads.steering import Steering
from unienc_core.models.heads.transdssl import TransDSSLDepth
from unienc_core.models.heads.unet import UNetDepth

__all__ = [
    "Masks",
    "MotionMask",
    "MultiScalePose",
    "SceneFlow",
    "SingleScalePose",
    "Steering",
    "TransDSSLDepth",
    "UNetDepth",
]
