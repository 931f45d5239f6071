"""The photometric term: does a view rebuilt from a source look like the target?

The error of a pixel is 0.85 (1 - SSIM) / 2 + 0.15 |difference|, each averaged over the channels;
the smallest over the sources counts, and over the unwarped sources too if the auto-mask is on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unienc_core.contracts import StepContext, Term, check_shape
from unienc_core.geometry.precision import widen
from unienc_core.losses.ssim import SsimReference
from unienc_core.registry import register

SSIM_WEIGHT = 0.85
TIE_NOISE = 1e-5
"""Spread of the noise on unwarped errors; without it flat regions would always count as static."""


class PhotometricReference:
    """A target image, prepared once for all views compared with it.

    Args:
        target: `B 3 H W`, 0..1.
    """

    def __init__(self, target: Tensor) -> None:
        self._sizes = check_shape(target, "B 3 H W", "target_image")
        # A source axis of one, so that all views of a sample share the target's moments.
        self._target = widen(target).unsqueeze(1)
        self._ssim = SsimReference(self._target)

    def error(self, views: Tensor) -> Tensor:
        """Compare views with the target, pixel by pixel.

        Args:
            views: `B S 3 H W`, 0..1.

        Returns:
            0.85 (1 - SSIM) / 2 + 0.15 L1, means over channels, `B S H W`.
        """
        check_shape(views, "B S 3 H W", "views", **self._sizes)
        views = widen(views)
        dissimilarity = (1 - self._ssim.similarity(views).mean(2)) / 2
        difference = (views - self._target).abs().mean(2)
        return SSIM_WEIGHT * dissimilarity + (1 - SSIM_WEIGHT) * difference


@register("term", "photometric")
class Photometric(Term):
    """Photometric error of the warped sources, minimum over sources, mean over pixels and scales.

    It reads the images as they are in the data, never the jittered copies that the network sees.
    With the auto-mask, the unwarped sources compete for the minimum: pixels that look the same
    without any warping (a standing camera, a car ahead at our speed) teach nothing.

    Args:
        automask: Whether unwarped sources compete.

    Attributes:
        logs: With the auto-mask, of the last batch and the finest scale: `identity`, the mean
            error without any warping; `warped`, the mean error of the warped views (at the
            identity level, depth and pose have learnt nothing or have collapsed);
            `automask_keep`, the share of pixels whose warped error is smaller.
    """

    task = "views"

    def __init__(self, *, automask: bool = True) -> None:
        super().__init__()
        self.automask = automask
        images = ("target_image", "source_images") if automask else ("target_image",)
        self.requires = (*images, "warped_scales")

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss of each sample, `B`."""
        reference = PhotometricReference(values["target_image"])
        errors = [reference.error(views).amin(1) for views in values["warped_scales"]]
        if self.automask:
            unwarped = self._unwarped_error(reference, values["source_images"], context)
            self._log(errors[0].detach(), unwarped)
            errors = [torch.minimum(error, unwarped) for error in errors]
        return torch.stack([error.mean((1, 2)) for error in errors]).mean(0)

    @staticmethod
    @torch.no_grad()
    def _unwarped_error(
        reference: PhotometricReference, sources: Tensor, context: StepContext
    ) -> Tensor:
        """Error of the best unwarped source, `B H W`, with noise that breaks ties."""
        errors = reference.error(sources)
        generator = torch.Generator(errors.device).manual_seed(context.generator_seed)
        noise = torch.randn(
            errors.shape, generator=generator, device=errors.device, dtype=errors.dtype
        )
        return errors.add_(noise, alpha=TIE_NOISE).amin(1)

    def _log(self, warped: Tensor, unwarped: Tensor) -> None:
        self.logs = {
            "identity": unwarped.mean(),
            "warped": warped.mean(),
            "automask_keep": (warped < unwarped).to(warped.dtype).mean(),
        }
