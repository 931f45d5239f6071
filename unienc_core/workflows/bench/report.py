"""The report of `bench` as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def format_report(report: Mapping[str, Any]) -> str:
    """Return a report of `bench` as text."""
    height, width = report["image_size"]
    machine = report["machine"]
    place = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    title = f"{report['preset']}, {height}x{width}, on {place}, {machine['threads']} threads"
    if report.get("dry_run"):
        return f"dry run: would measure {', '.join(report['parts'])} of {title}"
    blocks = [title + ("; quick: figures are rough" if report["quick"] else "")]
    if "peak_gflops" in report:
        blocks.append(_peak(report))
    for name, write in _BLOCKS.items():
        if name in report:
            blocks.append(write(report[name]))
    return "\n\n".join(blocks)


def _peak(report: Mapping[str, Any]) -> str:
    peaks = ", ".join(f"{name} {rate:,.0f}" for name, rate in report["peak_gflops"].items())
    return (
        f"GEMM peak: {peaks} GFLOP/s; noise: the same product's times spread over "
        f"{report['noise']:.0%} (quartiles)"
    )


def _parts(title: str, figures: Mapping[str, Any]) -> str:
    rows = [["part", "parameters", "GMAC", "ms", "quartiles", "GFLOP/s", "of peak"]]
    for row in figures["parts"]:
        ms = row["ms"]
        rows.append(
            [
                row["part"],
                f"{row['parameters']:,}",
                f"{row['macs'] / 1e9:.3f}",
                f"{ms['median']:.2f}",
                f"{ms['low']:.2f}..{ms['high']:.2f}",
                f"{row['gflops']:.1f}",
                f"{row['share']:.1%}",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([title, *lines])


def _inference(figures: Mapping[str, Any]) -> str:
    return _parts("inference, one frame of a stream", figures)


def _training(figures: Mapping[str, Any]) -> str:
    return _parts(
        f"training step, batch {figures['batch']}, stage {figures['stage']}, "
        f"{figures['precision']}, forward and backward",
        figures,
    )


def _memory(figures: Mapping[str, Any]) -> str:
    plain, spared = figures["preset"], figures["checkpointing"]
    return (
        f"memory of a training step: {_mb(plain['peak_bytes'])} at its highest, of which "
        f"{_mb(plain['resident_bytes'])} are weights, optimiser state and batch; with gradient "
        f"checkpointing everywhere {_mb(spared['peak_bytes'])} "
        f"(the step itself {figures['ratio']:.0%})"
    )


def _render(figures: Mapping[str, Any]) -> str:
    height, width = figures["image_size"]
    return (
        f"renderer, one core, {height}x{width}: {figures['frames_per_second']:.1f} frames/s "
        f"({_times(figures['frame_ms'])}); with shadows {_times(figures['shadows_ms'])}; "
        f"building a city {_times(figures['city_ms'])}"
    )


def _store(figures: Mapping[str, Any]) -> str:
    ratio = figures["ratio"]
    return (
        f"store reads: {_times(figures['read_ms'])} an image, raw decoding "
        f"{_times(figures['decode_ms'])}: {ratio['median']:.2f} of its rate "
        f"({ratio['low']:.2f}..{ratio['high']:.2f}; target {figures['target']:g})"
    )


def _loader(figures: Mapping[str, Any]) -> str:
    return (
        f"loader: training waits for data for {figures['idle_share']:.1%} of its time "
        f"({figures['workers']} workers, {figures['steps']} steps of "
        f"{_times(figures['step_ms'])}; target under {figures['target']:.0%})"
    )


def _video(figures: Mapping[str, Any]) -> str:
    height, width = figures["size"]
    stages = ", ".join(
        f"{name} {_times(figures[name])}" for name in ("decode", "compute", "draw", "encode")
    )
    return (
        f"video, {height}x{width}, a frame: {stages}; all at once "
        f"{_times(figures['overlapped'])} = {figures['frames_per_second']:.1f} frames/s, "
        f"{figures['overlap']:.2f} times as fast as one after the other"
    )


def _times(record: Mapping[str, Any]) -> str:
    return f"{record['median']:.2f} ms ({record['low']:.2f}..{record['high']:.2f})"


def _mb(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


_BLOCKS = {
    "inference": _inference,
    "training": _training,
    "memory": _memory,
    "render": _render,
    "store": _store,
    "loader": _loader,
    "video": _video,
}
