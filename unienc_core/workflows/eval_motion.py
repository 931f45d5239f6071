"""`eval-motion`: score scene flow and motion mask of a checkpoint against exact truth."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.labels import OWN_MOTION
from unienc_core.errors import DataError
from unienc_core.inference.predictor import predictor_from
from unienc_core.inference.scene_motion import MOVES
from unienc_core.metrics.protocols import PROTOCOLS, choose
from unienc_core.workflows.depth_plots import check_plots
from unienc_core.workflows.depth_sources import check_pictures
from unienc_core.workflows.motion_plots import PLOTS, draw_plots
from unienc_core.workflows.motion_report import figures, format_report, make_report, metric_names
from unienc_core.workflows.motion_scoring import MotionScores
from unienc_core.workflows.motion_sources import MASK_KEY, MotionSource, check_store
from unienc_core.workflows.origins import open_scored, open_scorer, store_origin
from unienc_core.workflows.pose_scoring import POSE_KEY, PoseScores

__all__ = [
    "eval_motion",
    "figures",
    "format_report",
    "metric_names",
]

DEFAULT_STORE = Path("data/synth-city")
_FLAT = 0.001
"""Share of pixels below which a mask is called black, and above one less which white."""

_NEEDED = ("image", "K", MASK_KEY, *OWN_MOTION)


def eval_motion(
    store: Path | None = None,
    *,
    checkpoint: Path | None = None,
    protocol: str = "synth",
    plots: Path | None = None,
    device: str = "auto",
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Score what a network says of motion, on all triplets of a store.

    Every target is a pair with each of its two sources, as in training. Mask and flow are scored
    on all pixels of all pairs together; flow and depth of an image are multiplied by one factor,
    the ratio of the medians of true and predicted depth. What the store does not know, or the
    network does not say, is None in the report, which tells why.

    Args:
        store: Store of triplets, or a folder of stores, whose `val` is taken. Motion masks whose
            key declares an ``invalid`` value are scored on the other pixels alone.
        checkpoint: `find_checkpoint` says where it is looked for by default.
        protocol: Which pixels have depth and flow that count: ``synth``, ``kitti-eigen`` or
            ``cityscapes``. The mask is scored wherever it is known.
        plots: Folder for pictures: precision over recall, and the worst, median and best triplet.
        device: Where the network runs.
        force: Replace pictures that exist.
        dry_run: Open everything, score nothing.
        reporter: Takes progress and remarks.

    Returns:
        ``{schema, verb, protocol, num_images, num_skipped, size, checkpoint, seed, data, pixels,
        scale, metrics, mask, subsets, baselines, pose, not_scored, notes}``. A dry run adds
        ``dry_run`` and counts the triplets that would be scored.

    Raises:
        UsageError: If the request makes no sense, or no checkpoint is to be found, or it predicts
            no motion.
        DataError: If the store is missing, damaged, or holds nothing that motion is scored on.
        IntegrityError: If the checkpoint is damaged or predicts NaN.
        ResourceError: If the pictures cannot be written, or memory runs out.
    """
    rules = PROTOCOLS[choose(protocol, PROTOCOLS, "protocol")]
    reporter = reporter or Reporter()
    if plots is not None:
        check_plots(plots, force, PLOTS)
    with closing(open_scored(store or DEFAULT_STORE, reporter, _NEEDED)) as opened:
        not_scored = check_store(opened)
        check_pictures(opened, rules)
        found = open_scorer(checkpoint, reporter)
        predictor = predictor_from(found, device)
        source = MotionSource(opened, predictor)
        heads = "complete_flow" in source.outputs, "motion_logits" in source.outputs
        for there, what, head in zip(
            heads, ("flow", "mask"), ("scene_flow", "motion_mask"), strict=True
        ):
            if not there:
                not_scored[what] = f"the network has no {head} head"
        for what, why in not_scored.items():
            reporter.say(f"{what} is not scored: {why}")
        pose = PoseScores(opened, predictor) if POSE_KEY in opened.keys else None
        scores = MotionScores(rules)
        if not dry_run:
            for done, sample in enumerate(source.walk(pose), 1):
                scores.add(done - 1, sample)
                reporter.progress(Progress("evaluate motion", done, len(source), "triplet"))
            if not scores.num_images:
                raise DataError(
                    f"{opened.path}: none of {scores.num_skipped} triplets has a pixel that counts "
                    f"({rules.describe()})"
                )
            if pose is not None:
                pose.say_what_is_missing(reporter)
            if plots is not None:
                for path in draw_plots(source, scores, plots):
                    reporter.say(f"wrote {path}")
        origin = store_origin(found, opened)
        size = predictor.preset.image_size
        report = make_report(scores, origin, size, heads, pose, not_scored)
        _say_if_flat(report, reporter)
        return {**report, "dry_run": True, "num_images": len(source)} if dry_run else report


def _say_if_flat(report: dict[str, Any], reporter: Reporter) -> None:
    """Say that a mask tells nothing apart, which its figures show to the initiated only."""
    mask = report["mask"]
    if mask is None or _FLAT < mask["share_over_half"] < 1 - _FLAT:
        return
    kind = "black" if mask["share_over_half"] <= _FLAT else "white"
    reporter.say(
        f"the motion mask is {kind}: over {MOVES:g} on {mask['share_over_half']:.3%} of pixels"
    )
