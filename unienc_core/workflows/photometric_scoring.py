"""`eval-depth --protocol photometric`: depth and motion measured without any ground truth.

Of a triplet the network predicts the target's depth and the motion to each source; with these each
source is warped onto the target. What remains is the error that training minimises, without its
auto-mask: 0.85 (1 - SSIM) / 2 + 0.15 L1, the smallest over the sources, mean over the pixels
(Eq. 2, Nguyen et al.). Beside it stands the same of the sources as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from unienc_core.contracts import Batch, Progress, Reporter
from unienc_core.data.dataset import TripletDataset
from unienc_core.data.loader import StepLoader
from unienc_core.device import resource_errors
from unienc_core.errors import IntegrityError, UsageError
from unienc_core.inference.predictor import Predictor, predictor_from
from unienc_core.losses.photometric import PhotometricReference
from unienc_core.presets import StreamSpec
from unienc_core.view_synthesis import synthesise
from unienc_core.workflows.origins import (
    open_scored,
    open_scorer,
    report_head,
    store_origin,
)

PHOTOMETRIC = "photometric"
PHOTOMETRIC_METRICS = ("photometric", "identity", "keep")

_BATCH = 4
_OUTPUTS = ("disparity_scales", "T_source_target")


@dataclass
class PhotometricScores:
    """Sums over the triplets so far.

    Attributes:
        num_images: Triplets.
        sums: Of each metric's mean over the pixels of an image.
    """

    num_images: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHOTOMETRIC_METRICS, 0.0))

    def add(self, target: Tensor, sources: Tensor, warped: Tensor) -> None:
        """Score a batch.

        Args:
            target: `B 3 H W`, 0..1.
            sources: `B S 3 H W`, as they are.
            warped: `B S 3 H W`, warped onto the target.
        """
        reference = PhotometricReference(target)
        error, identity = (reference.error(views).amin(1) for views in (warped, sources))
        keep = (error < identity).to(error.dtype)
        for name, values in zip(PHOTOMETRIC_METRICS, (error, identity, keep), strict=True):
            self.sums[name] += float(values.double().mean((1, 2)).sum())
        self.num_images += len(target)

    def result(self) -> dict[str, float | None]:
        """Return the mean over the images of each metric, None if there was none."""
        count = self.num_images
        return {name: total / count if count else None for name, total in self.sums.items()}


def eval_photometric(
    store: Path,
    checkpoint: Path | None = None,
    *,
    device: str = "auto",
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Score a checkpoint on all triplets of a store, which needs images and K alone.

    Args:
        store: Store, or folder of stores, whose `val` is taken.
        checkpoint: `find_checkpoint` says where it is looked for by default.
        device: Where the network runs.
        dry_run: Open everything, score nothing.
        reporter: Takes progress and remarks.

    Returns:
        ``{schema, verb, protocol, num_images, num_skipped, size, checkpoint, seed, data, metrics}``
        with the metrics `photometric` (mean error of the warped sources), `identity` (of the
        sources as they are) and `keep` (share of pixels that warping makes better).

    Raises:
        UsageError: If no checkpoint is to be found, or it predicts no depth or motion.
        DataError: If the store is missing, damaged, or holds no triplet.
        IntegrityError: If the checkpoint is damaged or predicts NaN.
        ResourceError: If memory runs out.
    """
    reporter = reporter or Reporter()
    with closing(open_scored(store, reporter)) as opened:
        opened.require(("image", "K"))
        found = open_scorer(checkpoint, reporter)
        predictor = predictor_from(found, device)
        _check_outputs(predictor)
        stream = StreamSpec(kind="triplets", batch_size=_BATCH)
        size = predictor.preset.image_size
        triplets = TripletDataset(opened, stream, size, train=False, name="evaluation")
        scores = PhotometricScores()
        if not dry_run:
            for batch in _batches(triplets):
                _score(predictor, batch, scores)
                done = scores.num_images
                reporter.progress(Progress("evaluate views", done, len(triplets), "triplet"))
        report = {
            **report_head("eval-depth", PHOTOMETRIC),
            "num_images": scores.num_images,
            "num_skipped": 0,
            "size": list(size),
            **store_origin(found, opened),
            "metrics": scores.result(),
        }
        return {**report, "dry_run": True, "num_images": len(triplets)} if dry_run else report


def format_photometric(report: Mapping[str, Any]) -> str:
    """Return the report of `eval_photometric` as text."""
    height, width = report["size"]
    lines = [
        str(report["checkpoint"]),
        f"on {report['data']['store']}",
        f"{report['num_images']} triplets of gap {report['data']['gap']} at {height}x{width}",
        "",
    ]
    metrics = report["metrics"]
    lines += [
        f"photometric  {metrics['photometric']:.4f}  error of the warped sources, smallest of each",
        f"identity     {metrics['identity']:.4f}  error of the sources as they are",
        f"keep         {metrics['keep']:.4f}  share of pixels that warping makes better",
    ]
    return "\n".join(lines)


def _check_outputs(predictor: Predictor) -> None:
    missing = [key for key in _OUTPUTS if key not in predictor.network.produces]
    if missing:
        raise UsageError(
            f"preset '{predictor.preset.name}' predicts no {' and no '.join(missing)}, which the "
            "protocol photometric needs; give a checkpoint of depth and pose"
        )


def _batches(triplets: TripletDataset) -> Iterator[Batch]:
    """Yield every triplet once: the last batch may be smaller."""
    steps = -(-len(triplets) // _BATCH)
    for step, batch in StepLoader(triplets).steps(0, steps):
        rest = len(triplets) - step * _BATCH
        yield {key: value[:rest] for key, value in batch.items()}


def _score(predictor: Predictor, batch: Batch, scores: PhotometricScores) -> None:
    preset = predictor.preset
    with resource_errors("evaluation"), torch.inference_mode():
        batch = {key: value.to(predictor.device) for key, value in batch.items()}
        predictions = predictor.network({"triplets": batch}, _OUTPUTS)["triplets"]
        finest, motion = predictions["disparity_scales"][0], predictions["T_source_target"]
        if not all(bool(torch.isfinite(made).all()) for made in (finest, cast(Tensor, motion))):
            raise IntegrityError("the network predicts NaN or infinity; use another checkpoint")
        made = {"disparity_scales": [finest], "T_source_target": motion}
        views = synthesise(
            {**batch, **made}, "ego", preset.depth, preset.image_size, wanted=("warped",)
        )
        scores.add(batch["target_image"], batch["source_images"], views["warped"])
