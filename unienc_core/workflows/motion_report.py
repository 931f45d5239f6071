"""The result of a motion evaluation as one JSON-able document, and as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unienc_core.inference.scene_motion import MOVES
from unienc_core.metrics.depth import METRICS
from unienc_core.metrics.motion import GROUPS, SUBSETS, ThresholdCounts, group_names, mask_scores
from unienc_core.metrics.pose import POSE_METRICS
from unienc_core.metrics.protocols import PROTOCOLS
from unienc_core.workflows.depth_report import aligned
from unienc_core.workflows.motion_flows import FLOW_ERRORS, THRESHOLDED, ZERO_ERRORS
from unienc_core.workflows.motion_scoring import MotionScores
from unienc_core.workflows.origins import report_head
from unienc_core.workflows.pose_scoring import PoseScores, describe_pose, pose_table

MASK_METRICS = (
    "motion_iou",
    "motion_precision",
    "motion_recall",
    "motion_f1",
    "motion_ap",
    "motion_best_iou",
    "motion_best_f1",
)
_COLUMNS = ("iou", "precision", "recall", "f1", "ap")

HINDSIGHT = (
    "the threshold of the largest IoU, chosen with hindsight on the very pixels it is scored on"
)


def metric_names() -> list[str]:
    """Return the names that thresholds may be set on."""
    flows = [metric for name in FLOW_ERRORS for metric in group_names(name)]
    apart = [f"{subset}.{name}" for subset in SUBSETS for name in METRICS]
    return [*MASK_METRICS, *flows, *METRICS, *apart, *(f"pose.{name}" for name in POSE_METRICS)]


def figures(report: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what a report measured under the names of `metric_names`."""
    found = dict(report["metrics"])
    for subset, values in report["subsets"].items():
        found |= {f"{subset}.{name}": value for name, value in values.items()}
    pose = report["pose"] or {}
    return found | {f"pose.{name}": pose.get(name) for name in POSE_METRICS}


def make_report(
    scores: MotionScores,
    origin: Mapping[str, Any],
    size: tuple[int, int],
    heads: tuple[bool, bool],
    pose: PoseScores | None,
    not_scored: Mapping[str, str],
) -> dict[str, Any]:
    """Return everything that made the numbers, and the numbers; shares lie in 0..1.

    Args:
        scores: What was found.
        origin: ``checkpoint``, ``seed`` and ``data``.
        size: (H, W) at which the network sees images.
        heads: Whether the network predicts flow, and a mask.
        pose: What was found of the camera's motion, if it is known.
        not_scored: What could not be scored, and why.
    """
    with_flow, with_mask = heads
    flows: dict[str, float | None] = {}
    for name in FLOW_ERRORS:
        flows |= scores.flows.errors[name].result(name)
    zero: dict[str, float | None] = {}
    for name in ZERO_ERRORS:
        zero |= scores.flows.zero[name].result(name)
    moving, known = scores.num_moving, scores.num_known
    guesses = {"black_mask": (0, 0, moving), "white_mask": (moving, known - moving, 0)}
    baselines: dict[str, dict[str, Any]] = {
        name: _prefixed(mask_scores(*counts)) for name, counts in guesses.items()
    }
    for name in THRESHOLDED:
        baselines[name] = _best_of(scores.thresholded[name] if with_flow else None)
    return {
        **report_head("eval-motion", scores.protocol.name),
        "num_images": scores.num_images,
        "num_skipped": scores.num_skipped,
        "size": list(size),
        **origin,
        "pixels": {
            "mask": known,
            "moving": moving,
            "flow": scores.flows.num_pixels,
            "behind": scores.flows.num_behind,
        },
        "scale": scores.scale_found(),
        "metrics": {**_mask_metrics(scores.mask, with_mask), **flows, **scores.depth.result()},
        "mask": _mask_found(scores.mask, with_mask),
        "subsets": {name: mean.result() for name, mean in scores.subsets.items()},
        "baselines": {**baselines, "zero_independent_flow": zero},
        "pose": None if pose is None else pose.result(),
        "not_scored": dict(not_scored),
        "notes": {"best_threshold": HINDSIGHT},
    }


def _prefixed(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    return {f"motion_{name}": value for name, value in scores.items()}


def _mask_metrics(counts: ThresholdCounts, there: bool) -> dict[str, float | None]:
    if not there or not counts.moving.any():
        return dict.fromkeys(MASK_METRICS)
    best = counts.best()
    assert best is not None, "something moves"
    return {
        **_prefixed(counts.over(MOVES)),
        "motion_ap": counts.average_precision(),
        "motion_best_iou": best[1]["iou"],
        "motion_best_f1": best[1]["f1"],
    }


def _mask_found(counts: ThresholdCounts, there: bool) -> dict[str, Any] | None:
    """Return what a mask is like: the share it calls moving, its best scores, its curve."""
    total = int((counts.moving + counts.static).sum())
    if not there or not total:
        return None
    half = int((counts.thresholds <= MOVES).sum())
    return {
        "share_over_half": float((counts.moving + counts.static)[half:].sum() / total),
        "best": _best_of(counts),
        "curve": counts.curve(),
    }


def _best_of(counts: ThresholdCounts | None) -> dict[str, float | None]:
    best = None if counts is None else counts.best()
    if counts is None or best is None:
        return dict.fromkeys([*(f"motion_{name}" for name in _COLUMNS), "best_threshold"])
    return {
        **_prefixed(best[1]),
        "motion_ap": counts.average_precision(),
        "best_threshold": best[0],
    }


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as text: what made the numbers, then the tables."""
    if report.get("dry_run"):
        return f"dry run: all inputs open; {report['num_images']} triplets would be scored"
    behind, flow = report["pixels"]["behind"], report["pixels"]["flow"]
    lines = [*_heading(report), "", *aligned(_mask_table(report)), f"* {HINDSIGHT}"]
    lines += ["", *aligned(_flow_table(report))]
    if behind:
        lines.append(f"px without {behind} of {flow} pixels, which come to lie behind the camera")
    lines += ["", *aligned(_depth_table(report))]
    if report["pose"] is not None:
        lines += ["", describe_pose(report["pose"]), "", *aligned(pose_table(report["pose"]))]
    lines += [f"not scored: {what}: {why}" for what, why in report["not_scored"].items()]
    return "\n".join(lines)


def _heading(report: Mapping[str, Any]) -> list[str]:
    pixels, scale = report["pixels"], report["scale"]
    seed = "" if report["seed"] is None else f", seed {report['seed']}"
    skipped = f", {report['num_skipped']} skipped" if report["num_skipped"] else ""
    share = f", {pixels['moving'] / pixels['mask']:.2%} of pixels move" if pixels["mask"] else ""
    lines = [
        f"{report['checkpoint']}{seed}",
        f"on {report['data']['store']}",
        f"{report['num_images']} triplets of gap {report['data']['gap']}{skipped}, two pairs each, "
        f"predicted at {report['size'][0]}x{report['size'][1]}{share}",
    ]
    if scale["depth"]["median"] is not None:
        lines.append(
            f"{PROTOCOLS[report['protocol']].describe()}, depth and flow by median scaling "
            f"(factor: {_spread(scale['depth'])})"
        )
    if scale["translation_over_depth"]["median"] is not None:
        lines.append(
            f"scale of translations over that of depth: {_spread(scale['translation_over_depth'])}"
        )
    return lines


def _spread(values: Mapping[str, float]) -> str:
    return f"median {values['median']:.4g}, std {values['std']:.2g}"


def _mask_table(report: Mapping[str, Any]) -> list[list[str]]:
    metrics, baselines = report["metrics"], report["baselines"]
    best = {} if report["mask"] is None else {**report["mask"]["best"], "motion_ap": None}
    rows = {
        "motion mask over 0.5": metrics,
        f"  over {_limit(best)} *": best,
        "black mask": baselines["black_mask"],
        "white mask": baselines["white_mask"],
    }
    units = dict(zip(THRESHOLDED, ("m", "px", "of rigid"), strict=True))
    for name, unit in units.items():
        rows[f"independent flow over {_limit(baselines[name])} {unit} *"] = baselines[name]
    table = [["", *_COLUMNS]]
    table += [
        [name, *(_cell(values.get(f"motion_{column}")) for column in _COLUMNS)]
        for name, values in rows.items()
    ]
    return table


def _flow_table(report: Mapping[str, Any]) -> list[list[str]]:
    metrics, zero = report["metrics"], report["baselines"]["zero_independent_flow"]
    rows = [
        ("complete flow, m", metrics, "epe"),
        ("final flow, m", metrics, "final_epe"),
        ("  rigid flow alone, m", zero, "epe"),
        ("independent flow, m", metrics, "independent_epe"),
        ("independent flow x mask, m", metrics, "masked_epe"),
        ("  no independent flow, m", zero, "independent_epe"),
        ("complete flow, px", metrics, "optical_epe"),
        ("final flow, px", metrics, "final_optical_epe"),
        ("  rigid flow alone, px", zero, "optical_epe"),
    ]
    table = [["end-point error", *GROUPS]]
    for label, values, name in rows:
        table.append([label, *(_cell(values[metric]) for metric in group_names(name))])
    return table


def _depth_table(report: Mapping[str, Any]) -> list[list[str]]:
    rows = {"depth": report["metrics"]}
    rows |= {f"  {name} pixels": values for name, values in report["subsets"].items()}
    cells = [[name, *(_cell(values[m]) for m in METRICS)] for name, values in rows.items()]
    return [["", *METRICS], *cells]


def _limit(found: Mapping[str, Any]) -> str:
    at = found.get("best_threshold")
    return "-" if at is None else f"{at:.3g}"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
