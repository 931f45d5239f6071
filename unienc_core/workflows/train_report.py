"""What a training run has to say at its end, as one JSON-able document and as text."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from unienc_core.presets import Preset
from unienc_core.training.logbook import Logbook
from unienc_core.workflows.inspect_data import columns
from unienc_core.workflows.runs_report import duration, size


def make_report(
    logbook: Logbook, preset: Preset, seed: int, device: str, left_out: int = 0
) -> dict[str, Any]:
    """Return what became of a run; where its files lie, its folder adds.

    Args:
        logbook: Of the run.
        preset: What it trained.
        seed: Its seed.
        device: What it ran on.
        left_out: Steps of stages that it began after.
    """
    counters = logbook.counters
    steps = counters.step - left_out
    ends = accumulate(stage.steps for stage in preset.stages)
    remaining = [s.name for s, end in zip(preset.stages, ends, strict=True) if end > counters.step]
    return {
        "preset": preset.name,
        "seed": seed,
        "steps": steps,
        "loss": counters.loss,
        "seconds": round(counters.seconds, 1),
        "seconds_per_step": round(counters.seconds / steps, 4),
        "wait_share": round(logbook.clock.wait_share, 4),
        "bad_steps": counters.bad_steps,
        "collapse": logbook.monitor.warnings,
        "device": device,
        "remaining_stages": remaining,
    }


def format_report(report: dict[str, Any]) -> str:
    """Return a report of `train` as text for people."""
    if report.get("dry_run"):
        return _format_trial(report)
    lines = [
        f"trained {report['preset']} (seed {report['seed']}) for {report['steps']:,} steps "
        f"in {report['seconds'] / 60:.1f} min on {report['device']}",
        f"loss {report['loss']:.4f}, {report['seconds_per_step']:.3f} s a step, "
        f"{report['wait_share']:.0%} of it waiting for data",
    ]
    if report["bad_steps"]:
        lines.append(f"{report['bad_steps']} steps thrown away: loss or gradient not finite")
    lines += [f"possible collapse: {name} (step {at})" for name, at in report["collapse"].items()]
    if remaining := report.get("remaining_stages"):  # a report of earlier days does not say
        lines.append(
            f"not finished: the same command with further --stages, or without, trains "
            f"{', '.join(remaining)}"
        )
    return "\n".join([*lines, f"run folder {report['run']}", f"checkpoint {report['checkpoint']}"])


def _format_trial(report: dict[str, Any]) -> str:
    loss = "not finite" if report["first_loss"] is None else f"{report['first_loss']:.4f}"
    header = ("stage", "steps", "moves", "gradients", "AdamW", "at most", "a step", "all steps")
    rows = [
        (
            row["stage"],
            f"{row['steps']:,}",
            f"{row['parameters']:,}",
            size(row["gradient_bytes"]),
            size(row["optimizer_bytes"]),
            _peak(row),
            f"{row['seconds_per_step']:.3g} s",
            duration(row["seconds"]),
        )
        for row in report["stages"]
    ]
    taught = f", of the teacher {size(report['teacher_bytes'])}" if report["teacher_bytes"] else ""
    return "\n".join(
        [
            f"dry run: {report['parameters']:,} parameters, {report['items']:,} items, "
            f"{report['steps']:,} steps would go into {report['run']}; first loss {loss}",
            *columns([header, *rows]),
            f"  all steps take about {duration(report['seconds'])} on this machine; weights "
            f"{size(report['weight_bytes'])}{taught}, all together at most {_peak(report)}",
        ]
    )


def _peak(row: dict[str, Any]) -> str:
    return "unknown" if row["peak_bytes"] is None else size(row["peak_bytes"])
