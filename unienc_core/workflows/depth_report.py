"""The result of a depth evaluation as one JSON-able document, and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unienc_core.metrics.depth import METRICS, MetricMean
from unienc_core.metrics.protocols import PROTOCOLS, DepthProtocol
from unienc_core.metrics.published import CONVENTIONS, NOTE, SOURCE, published_depth
from unienc_core.workflows.depth_scoring import DepthScores
from unienc_core.workflows.odometry_scoring import ODOMETRY, format_odometry
from unienc_core.workflows.origins import report_head
from unienc_core.workflows.photometric_scoring import PHOTOMETRIC, format_photometric
from unienc_core.workflows.pose_scoring import PoseScores, describe_pose, pose_table


def make_report(
    scores: DepthScores,
    protocol: DepthProtocol,
    origin: Mapping[str, Any],
    pose: PoseScores | None = None,
) -> dict[str, Any]:
    """Return everything that made the numbers, and the numbers; shares lie in 0..1.

    Args:
        scores: What was found.
        protocol: How it was scored.
        origin: ``checkpoint``, ``seed`` and ``data``.
        pose: What was found of the camera's motion, if that was asked for.
    """
    published = published_depth(protocol.name)
    note = NOTE + _other_convention(protocol.name, origin["data"].get("depth"))
    beside = {"source": SOURCE, "note": note, "rows": list(published)}
    return {
        **report_head("eval-depth", protocol.name),
        "num_images": scores.model.num_images,
        "num_skipped": scores.num_skipped,
        "size": scores.size(),
        **origin,
        "scale": scores.scale_found(),
        "metrics": scores.model.result(),
        "subsets": _means(scores.subsets),
        "baselines": _means(scores.baselines),
        **({} if pose is None else {"pose": pose.result()}),
        **({"published": beside} if published else {}),
    }


def _other_convention(protocol: str, meaning: str | None) -> str:
    """Say that ground truth means something else by depth than published rows do, if so."""
    published = CONVENTIONS.get(protocol)
    if published is None or published in (meaning or ""):
        return ""
    if meaning is None:
        return f"; whether depth is the published {published} is not recorded"
    return f"; not the published convention: depth is {meaning}, published is {published}"


def _means(means: Mapping[str, MetricMean]) -> dict[str, dict[str, float | None]]:
    return {name: mean.result() for name, mean in means.items()}


def format_table(report: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table: a header, the model, its groups, baselines, published rows."""
    rows = {"model": report["metrics"]}
    rows |= {f"  {name} pixels": values for name, values in report["subsets"].items()}
    rows |= {name.replace("_", " "): values for name, values in report["baselines"].items()}
    for row in report.get("published", {}).get("rows", ()):
        frames = "" if row["frames"] == 1 else f", {row['frames']} frames"
        rows[f"* {row['method']}{frames}"] = row["metrics"]
    cells = [
        [name, *("-" if values[m] is None else f"{values[m]:.3f}" for m in METRICS)]
        for name, values in rows.items()
    ]
    return [["", *METRICS], *cells]


def format_report(report: Mapping[str, Any]) -> str:
    """Return the report as text: what made the numbers, then the table."""
    if report.get("dry_run"):
        return f"dry run: all inputs open; {report['num_images']} images would be scored"
    if report["protocol"] == PHOTOMETRIC:
        return format_photometric(report)
    if report["protocol"] == ODOMETRY:
        return format_odometry(report)
    lines = [*_heading(report), "", *aligned(format_table(report))]
    if "published" in report:
        lines.append(f"* {report['published']['source']}: {report['published']['note']}")
    if "pose" in report:
        lines += ["", describe_pose(report["pose"]), "", *aligned(pose_table(report["pose"]))]
    return "\n".join(lines)


def aligned(table: list[list[str]]) -> list[str]:
    """Return the lines of a table: first column left, the others right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in table
    ]


def _heading(report: Mapping[str, Any]) -> list[str]:
    data, scale, size = report["data"], report["scale"], report["size"]
    made_at = "sizes that differ" if size is None else f"{size[0]}x{size[1]}"
    if "store" in data:
        seed = "" if report["seed"] is None else f", seed {report['seed']}"
        what = f"{report['checkpoint']}{seed}\non {data['store']}"
    else:
        what = f"{data['kind']} of {data['predictions']}\non {data['ground_truth']}"
    if data.get("depth"):
        what += f" (depth: {data['depth']})"
    trimmed = data.get("trimmed", {})
    if any(trimmed.values()):
        what += (
            f"\nwhole pictures, cut: {trimmed['ground_truth']} of ground truth, "
            f"{trimmed['predictions']} predictions"
        )
    skipped = f", {report['num_skipped']} skipped" if report["num_skipped"] else ""
    mode = scale["mode"] if scale["value"] is None else f"{scale['mode']}={scale['value']}"
    factor = ""
    if scale["median"] is not None:
        factor = f" (factor: median {scale['median']:.4g}, std {scale['std']:.2g})"
    missing = scale["num_without_plane"]
    if missing:
        who = "1 image without ground takes" if missing == 1 else f"{missing} without ground take"
        factor += f"; {who} the median factor"
    return [
        *what.split("\n"),
        f"{report['num_images']} images{skipped}, predicted at {made_at}",
        f"{PROTOCOLS[report['protocol']].describe()}, {mode} scaling{factor}",
    ]
