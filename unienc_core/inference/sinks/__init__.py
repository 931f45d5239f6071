"""What results are written to. A new kind of output is one class here and its name in `SINKS`."""

from __future__ import annotations

from unienc_core.inference.sinks.base import Sink
from unienc_core.inference.sinks.depth_png import DepthPngSink
from unienc_core.inference.sinks.hdf5 import Hdf5Sink
from unienc_core.inference.sinks.jsonl import JsonlSink
from unienc_core.inference.sinks.npz import NpzSink
from unienc_core.inference.sinks.ply import PlySink
from unienc_core.inference.sinks.video import StillSink, VideoSink

SINKS: dict[str, type[Sink]] = {
    "mp4": VideoSink,
    "png16": DepthPngSink,
    "npz": NpzSink,
    "h5": Hdf5Sink,
    "jsonl": JsonlSink,
    "ply": PlySink,
}

DEFAULT_SINK = "mp4"


def sink_class(name: str, is_still: bool) -> type[Sink]:
    """Return the class behind a name of `SINKS`; a single picture is no film."""
    return StillSink if name == "mp4" and is_still else SINKS[name]


__all__ = ["DEFAULT_SINK", "SINKS", "Sink", "sink_class"]
