"""`eval-depth --protocol odometry`: camera motion alone, on a store of pictures and poses.

The figures are those of `PoseScores`; `ate_5` is the measure of Zhou et al. (CVPR 2017), whose test
is sequences 09 and 10 of KITTI's odometry set at a gap of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.store import Store
from unienc_core.errors import DataError, IntegrityError
from unienc_core.inference.predictor import Predictor, predictor_from
from unienc_core.metrics.pose import POSE_METRICS
from unienc_core.workflows.inspect_data import columns
from unienc_core.workflows.origins import (
    open_scored,
    open_scorer,
    report_head,
    store_origin,
)
from unienc_core.workflows.pose_scoring import POSE_KEY, PoseScores, describe_pose, pose_table

ODOMETRY = "odometry"


def eval_odometry(
    store: Path,
    checkpoint: Path | None = None,
    *,
    device: str = "auto",
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Score the camera motion of a checkpoint along all drives of a store, which needs no depth.

    Args:
        store: Store with poses, or folder of stores, whose `val` is taken.
        checkpoint: `find_checkpoint` says where it is looked for by default.
        device: Where the network runs.
        dry_run: Open everything, score nothing.
        reporter: Takes progress and remarks.

    Returns:
        ``{schema, verb, protocol, num_images, num_skipped, size, checkpoint, seed, data, metrics}``
        with `POSE_METRICS` as metrics, and the counts and baselines of `PoseScores.result`.

    Raises:
        UsageError: If no checkpoint is to be found, or it predicts no motion.
        DataError: If the store is missing or damaged, or has no poses, or no drive of two frames.
        IntegrityError: If the checkpoint is damaged or predicts NaN.
    """
    reporter = reporter or Reporter()
    with closing(open_scored(store, reporter)) as opened:
        opened.require(["image", POSE_KEY])
        if all(drive.num_frames <= opened.gap for drive in opened.drives):
            raise DataError(f"{opened.path}: no drive has two frames {opened.gap} apart to score")
        found = open_scorer(checkpoint, reporter)
        predictor = predictor_from(found, device)
        scores = PoseScores(opened, predictor)
        if not dry_run:
            _score(opened, predictor, scores, reporter)
            scores.say_what_is_missing(reporter)
        result = scores.result()
        report = {
            **report_head("eval-depth", ODOMETRY),
            "num_images": opened.num_frames,
            "num_skipped": 0,
            "size": list(predictor.preset.image_size),
            **store_origin(found, opened),
            "metrics": {name: result.pop(name) for name in POSE_METRICS},
            **result,
        }
        return {**report, "dry_run": True} if dry_run else report


def _score(store: Store, predictor: Predictor, scores: PoseScores, reporter: Reporter) -> None:
    done = 0
    for drive, info in enumerate(store.drives):
        for index in range(info.num_frames):
            name = f"{info.name}/{index}"
            try:
                encoded = predictor.encode(store.frame(drive, index, ["image"])["image"])
            except IntegrityError as error:
                raise IntegrityError(f"{name}: {error}") from None
            scores.add(name, (drive, index), encoded)
            done += 1
            reporter.progress(Progress("evaluate motion", done, store.num_frames, "frame"))


def format_odometry(report: Mapping[str, Any]) -> str:
    """Return the report of `eval_odometry` as text."""
    height, width = report["size"]
    pose = {**report, **report["metrics"]}
    lines = [
        str(report["checkpoint"]),
        f"on {report['data']['store']}",
        f"{report['num_images']} frames at {height}x{width}; {describe_pose(pose)}",
        "",
        *(line[2:] for line in columns([tuple(row) for row in pose_table(pose)])),
    ]
    return "\n".join(lines)
