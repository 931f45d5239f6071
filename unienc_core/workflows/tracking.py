"""Tracking a run outside its ``metrics.jsonl``: TensorBoard event files in the run folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from unienc_core.errors import UsageError, nearest
from unienc_core.training.history import read_log
from unienc_core.training.logbook import Logbook
from unienc_core.training.run_dir import RunFolder
from unienc_core.workflows.panels import Panels

TRACKERS = ("tensorboard",)

_NOT_CURVES = {"step", "time"}


def check_tracker(name: str | None) -> None:
    """Check before the long work that a tracker is known and installed.

    Raises:
        UsageError: If not, with the remedy.
    """
    if name is None:
        return
    if name not in TRACKERS:
        known = ", ".join(TRACKERS)
        raise UsageError(f"no tracker '{name}'{nearest(name, list(TRACKERS))}; there is {known}")
    if find_spec("tensorboard") is None:
        raise UsageError(
            f"--track {name}: the package tensorboard is not installed; "
            "pip install 'unienc[track]', or leave --track out"
        )


@contextmanager
def tracking(
    name: str | None, logbook: Logbook, folder: RunFolder, panels: Panels
) -> Iterator[Callable[[int], None]]:
    """Track a run as it goes on from where its logbook stands.

    Args:
        name: One of `TRACKERS`, or None for none.
        logbook: Gives each line of the log.
        folder: Where event files go.
        panels: Gives the pictures.

    Yields:
        What wants to be told the number of finished steps after each.
    """
    if name is None:
        yield lambda step: None
        return
    with TensorBoard(folder.tensorboard, folder.metrics, logbook.counters.step) as board:
        logbook.followers.append(board.add_line)

        def watch(step: int) -> None:
            if panels.due(step):
                for tag, picture in panels.draw(step).items():
                    board.add_picture(tag, picture, step)

        yield watch


class TensorBoard:
    """Event files that continue the curves of the ones that lie there.

    What an earlier process wrote beyond `done` is not shown any more, since those steps come
    again; lines of the log that it did not write (tracking was off, or a kill came first) are made
    up for. So the curves are those of ``metrics.jsonl``.

    Args:
        folder: Of the event files; made if absent.
        metrics: The run's ``metrics.jsonl``.
        done: Finished steps that the run goes on from.
    """

    def __init__(self, folder: Path, metrics: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        known = _last_step(folder)
        self._writer = SummaryWriter(str(folder), purge_step=done + 1)
        if metrics.exists():
            for line in read_log(metrics):
                if known < line["step"] <= done:
                    self.add_line(line)

    def add_line(self, line: Mapping[str, Any]) -> None:
        """Add the numbers of a line of the log under their own names."""
        for name, value in line.items():
            if name in _NOT_CURVES or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                self._writer.add_scalar(name, value, line["step"], line["time"])
        self._writer.flush()  # before the checkpoint that a resumed run starts from

    def add_picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Add a picture, `H W 3`, uint8, RGB."""
        self._writer.add_image(tag, picture, step, dataformats="HWC")
        self._writer.flush()

    def __enter__(self) -> TensorBoard:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the event file."""
        self._writer.close()


def _last_step(folder: Path) -> int:
    """Return the last step whose numbers lie in the event files of `folder`, 0 without any."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not folder.is_dir():
        return 0
    found = EventAccumulator(str(folder), size_guidance={"images": 1, "scalars": 1})
    found.Reload()
    last = [found.Scalars(tag)[-1].step for tag in found.Tags()["scalars"]]
    return max(last, default=0)
