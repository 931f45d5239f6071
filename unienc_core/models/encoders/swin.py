"""Swin blocks that pad first, then roll, then crop.

timm rolls the map before padding it to whole windows, so that the padding ends up in the middle of
the scene; OneFormer, Mask2Former and the detectors pad first. With equal weights the two agree
where the windows fit (224x448) and differ elsewhere. Names in the state dict stay timm's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unienc_core.models.timm_compat import SwinTransformerBlock, window_partition, window_reverse


class PadThenRollBlock(SwinTransformerBlock):
    """timm's block with the order of operations of the published segmentation models."""

    def _attn(self, x: Tensor) -> Tensor:
        """Attend within (shifted) windows; `x` is `B H W C`."""
        _, height, width, channels = x.shape
        window_h, window_w = self.window_size
        x = functional.pad(x, (0, 0, 0, -width % window_w, 0, -height % window_h))
        padded_h, padded_w = x.shape[1], x.shape[2]
        shift_h, shift_w = self.shift_size
        shifted = shift_h > 0 or shift_w > 0
        if shifted:
            x = torch.roll(x, shifts=(-shift_h, -shift_w), dims=(1, 2))
        windows = window_partition(x, self.window_size).view(-1, self.window_area, channels)
        windows = self.attn(windows, mask=self.get_attn_mask(x))
        windows = windows.view(-1, window_h, window_w, channels)
        x = window_reverse(windows, self.window_size, padded_h, padded_w)
        if shifted:
            x = torch.roll(x, shifts=(shift_h, shift_w), dims=(1, 2))
        return x[:, :height, :width].contiguous()


def pad_then_roll(model: nn.Module) -> nn.Module:
    """Give every Swin block of a timm model our order of operations, in place.

    The blocks change their class, not their contents: parameters, buffers and their names stay.
    """
    for module in model.modules():
        if type(module) is SwinTransformerBlock:
            module.__class__ = PadThenRollBlock
    return model
