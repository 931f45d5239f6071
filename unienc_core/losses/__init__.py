"""Loss terms and the objective that holds them."""

from unienc_core.losses.balancing import Balancing
from unienc_core.losses.distil import DistilFlow, DistilMask
from unienc_core.losses.masks import ClassTerm, MaskDice, MaskEntropy, QueryTextContrast
from unienc_core.losses.motion import AboveGround, Consistency, Sparsity
from unienc_core.losses.objective import Objective
from unienc_core.losses.photometric import Photometric
from unienc_core.losses.smooth import FlowSmooth, MaskSmooth, Smooth
from unienc_core.losses.steering import SteeringError

__all__ = [
    "AboveGround",
    "Balancing",
    "ClassTerm",
    "Consistency",
    "DistilFlow",
    "DistilMask",
    "FlowSmooth",
    "MaskDice",
    "MaskEntropy",
    "MaskSmooth",
    "Objective",
    "Photometric",
    "QueryTextContrast",
    "Smooth",
    "Sparsity",
    "SteeringError",
]
