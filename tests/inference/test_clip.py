"""The pipeline: order, errors of any stage, determinism, flat memory, a busy share per stage."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clip_toys import ListSource, StubPredictor, facts

from unienc_core.errors import ResourceError
from unienc_core.inference.annotate import Annotator
from unienc_core.inference.clip import ClipSummary, process_clip
from unienc_core.inference.metric import RunningScale
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.results import FrameResult
from unienc_core.inference.sinks import SINKS
from unienc_core.inference.sinks.base import Sink
from unienc_core.inference.span import Span
from unienc_core.inference.video import VideoReader

SIZE = (24, 640)


def pictures(num: int) -> Iterator[np.ndarray]:
    street = np.random.default_rng(0).integers(0, 255, (24, 700, 3), dtype=np.uint8)
    for i in range(num):
        yield np.ascontiguousarray(street[:, i % 60 : i % 60 + 640])


def process(
    folder: Path,
    source: ListSource,
    names: tuple[str, ...] = ("mp4", "jsonl"),
    predictor: StubPredictor | None = None,
    **options,
) -> ClipSummary:
    sinks = [SINKS[name](folder / f"out{SINKS[name].suffix}", facts(SIZE)) for name in names]
    with Outputs(sinks) as outputs:
        return process_clip(
            source,
            predictor or StubPredictor(),
            outputs,
            metric=RunningScale(None, np.eye(3), SIZE),
            annotator=Annotator(facts(SIZE)),
            **options,
        )


def jitter(items: Iterator, seed: int) -> Iterator:
    rng = random.Random(seed)
    for item in items:
        time.sleep(rng.choice([0, 0, 0.01]))
        yield item


class SlowPredictor(StubPredictor):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = random.Random(seed)

    def encode(self, image):
        time.sleep(self._rng.choice([0, 0, 0.01]))
        return image


def test_equal_bytes_whatever_the_timing(tmp_path) -> None:
    found = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        source = ListSource(jitter(pictures(40), seed))
        process(folder, source, ("mp4", "jsonl", "h5"), SlowPredictor(seed))
        found.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]


def test_every_stage_has_its_share(tmp_path) -> None:
    summary = process(tmp_path, ListSource(pictures(30)))
    assert list(summary.timing) == ["decode", "compute", "draw", "encode"]
    assert all(stage["seconds"] > 0 for stage in summary.timing.values())


def test_no_picture_is_drawn_that_nobody_wants(tmp_path) -> None:
    sinks = [SINKS["jsonl"](tmp_path / "out.jsonl", facts(SIZE))]
    with Outputs(sinks) as outputs:
        assert not outputs.needs_picture
        metric = RunningScale(None, np.eye(3), SIZE)
        source = ListSource(pictures(3))
        summary = process_clip(source, StubPredictor(), outputs, metric=metric)
    assert list(summary.timing) == ["decode", "compute", "encode"]


def test_motion_is_between_the_frames_taken_and_begins_anew_after_a_cut(tmp_path) -> None:

    scenes = [
        np.random.default_rng(s).integers(0, 255, (24, 640, 3), dtype=np.uint8) for s in b"ab"
    ]
    images = [scenes[i >= 20] for i in range(40)]
    summary = process(tmp_path, ListSource(iter(images)), span=Span(2, None, 3))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(2, 40, 3))
    assert [line["index"] for line in lines if line["cut"]] == [20]
    assert [c["index"] for c in summary.cuts] == [20]
    still = [line["index"] for line in lines if line["T_previous_current"] is None]
    assert still == [2, 20]


@pytest.mark.parametrize("stage", ["decode", "compute", "draw", "encode"])
@pytest.mark.parametrize("fault", [ResourceError("no room"), KeyboardInterrupt()])
def test_an_error_of_any_stage_ends_all(tmp_path, monkeypatch, stage, fault) -> None:
    def fail(*_: object) -> None:
        raise fault

    def source() -> Iterator[np.ndarray]:
        yield from pictures(20)
        if stage == "decode":
            fail()
        yield from pictures(1000)

    class Failing(StubPredictor):
        left = 20

        def encode(self, image):
            self.left -= 1
            return fail() if self.left < 0 and stage == "compute" else image

    class FailingSink(Sink):
        suffix, needs_picture, left = ".fail", True, 20

        def open(self) -> None:
            self.part.touch()

        def write(self, result: FrameResult) -> None:
            self.left -= 1
            if self.left < 0 and stage == "encode":
                fail()

        def close(self) -> None:
            pass

    if stage == "draw":
        monkeypatch.setattr(Annotator, "_draw", fail)
    monkeypatch.setitem(SINKS, "fail", FailingSink)
    before = threading.active_count()
    with pytest.raises(type(fault)) as caught:
        process(tmp_path, ListSource(source()), ("mp4", "fail"), Failing())
    assert caught.value is fault
    assert threading.active_count() == before
    if isinstance(fault, ResourceError):
        assert list(tmp_path.iterdir()) == []


# A process started in the background of a shell ignores Ctrl-C, and its children with it.
CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_clip import ListSource, pictures, process
def done(count):
    if count == {stop}:
        {action}
{body}
"""


def child(folder: Path, body: str, action: str = "pass", stop: int = 0) -> subprocess.Popen:
    script = CHILD.format(
        tests=str(Path(__file__).parent), stop=stop, action=action, body=body.format(str(folder))
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_kill_leaves_a_video_that_plays(tmp_path) -> None:
    """Killed from within at frame 60, with every stage at work."""
    body = "process(Path({0!r}), ListSource(pictures(10_000)), ('mp4', 'jsonl'), on_frame=done)"
    action = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    running = child(tmp_path, body, action, 60)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    with VideoReader(tmp_path / "out.part.mp4") as reader:
        frames = list(reader)
    assert len(frames) >= 30  # the encoder looks some frames ahead
    assert len((tmp_path / "out.part.jsonl").read_text().splitlines()) >= 60


def test_ctrl_c_ends_quickly_and_leaves_a_whole_part(tmp_path) -> None:
    body = (
        "try:\n    process(Path({0!r}), ListSource(pictures(100_000)), on_frame=done)\n"
        "except KeyboardInterrupt:\n    print('interrupted')"
    )
    running = child(tmp_path, body, "print('go', flush=True)", 30)
    assert running.stdout is not None
    assert running.stdout.readline() == "go\n"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (out, running.returncode) == ("interrupted\n", 0), err
    with VideoReader(tmp_path / "out.part.mp4") as reader:
        num_frames = len(list(reader))
        assert not reader.losses.any
    lines = (tmp_path / "out.part.jsonl").read_text().splitlines()
    assert num_frames == len(lines) >= 30


MEMORY = """
import gc, os
rss = []
def resident(count):
    if count in (500, 2000):
        gc.collect()
        rss.append(int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE'))
process(
    Path({0!r}), ListSource(pictures(2000)), ('mp4', 'jsonl', 'h5'), on_frame=resident
)
print(*rss)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_2000_frames_take_the_memory_of_500(tmp_path) -> None:
    running = child(tmp_path, MEMORY)
    out, err = running.communicate()
    assert running.returncode == 0, err
    early, late = (int(value) for value in out.split())
    assert late < 1.03 * early
