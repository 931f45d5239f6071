"""One clip through the pipeline: decode, compute, draw and encode overlap, order is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TypeVar

from unienc_core.inference.annotate import Annotator
from unienc_core.inference.frame_output import DEPTH_AND_MOTION, Output
from unienc_core.inference.frames import Frame, FrameSource
from unienc_core.inference.metric import RunningScale
from unienc_core.inference.moving import Moving
from unienc_core.inference.neighbours import EncodedFrame
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.predictor import Predictor
from unienc_core.inference.results import FrameResult
from unienc_core.inference.scene import Scene, SceneWatch
from unienc_core.inference.seen import Seen
from unienc_core.inference.span import WHOLE, Span
from unienc_core.inference.steering import MAX_GAP
from unienc_core.inference.stream import ahead, with_next
from unienc_core.inference.timing import StageClock
from unienc_core.inference.track_segments import SegmentTracker
from unienc_core.segmentation import Segmentation
from unienc_core.sentences import TASKS

T = TypeVar("T")

MAX_CUTS = 1000  # a slide show of hours must not fill the memory with its cuts


@dataclass
class SteeringCount:
    """What was predicted of the steering along a clip.

    Attributes:
        num_values: Frames with a value.
        num_without: Frames that warmed up.
        total: Sum of the values.
        lowest: The least of them, that is the farthest to the right.
        highest: The greatest.
    """

    num_values: int = 0
    num_without: int = 0
    total: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, value: float | None) -> None:
        """Count a frame."""
        if value is None:
            self.num_without += 1
            return
        self.num_values += 1
        self.total += value
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)


@dataclass
class ClipSummary:
    """What happened to a clip.

    Attributes:
        num_frames: Frames taken, and written.
        num_cuts: Scene cuts.
        cuts: Where, the first 1000: frame number and time in s of the first frame of the new scene.
        num_black: Frames that show nothing.
        timing: Seconds that each stage worked, and their share of the whole.
        steering: What was predicted of it.
    """

    num_frames: int = 0
    num_cuts: int = 0
    cuts: list[dict[str, float]] = field(default_factory=list)
    num_black: int = 0
    timing: dict[str, dict[str, float]] = field(default_factory=dict)
    steering: SteeringCount = field(default_factory=SteeringCount)

    def add(self, result: FrameResult) -> None:
        """Count a frame."""
        self.num_frames += 1
        self.num_black += result.scene.is_black
        if result.output.steering is not None:
            self.steering.add(result.steering)
        self.num_cuts += result.scene.is_cut
        if result.scene.is_cut and len(self.cuts) < MAX_CUTS:
            self.cuts.append({"index": result.frame.index, "time": round(result.frame.time, 6)})


def process_clip(
    source: FrameSource,
    predictor: Predictor,
    outputs: Outputs,
    *,
    metric: RunningScale,
    wanted: Collection[Output] = DEPTH_AND_MOTION,
    annotator: Annotator | None = None,
    span: Span = WHOLE,
    on_frame: Callable[[int], None] = lambda done: None,
) -> ClipSummary:
    """Run a clip through a network into outputs, in constant memory.

    Each stage is a thread; at most a few frames wait between two of them, so what comes out does
    not depend on how fast they are. An error of any stage ends all, and is raised here; so does
    Ctrl-C. Both leave `outputs` to say what becomes of them.

    Args:
        source: Gives the frames.
        predictor: Says what is in them.
        outputs: Opened.
        metric: Gives the scale, and the intrinsics.
        wanted: What the network shall say of each frame.
        annotator: Draws; None where no output wants pictures.
        span: Frames to take.
        on_frame: Told how many frames are done.
    """
    summary, clock = ClipSummary(), StageClock()
    step = float(span.stride / source.info.rate)
    watch = SceneWatch(step)
    with ExitStack() as threads:  # they end from the last stage to the first

        def apart(name: str, stage: Generator[T]) -> Generator[T]:
            return threads.enter_context(closing(ahead(clock.working(name, stage))))

        seen = apart("decode", _look(source.frames(span), watch))
        longest = max(MAX_GAP, 2 * step)
        results = _compute(clock.waiting("compute", seen), predictor, metric, wanted, longest)
        found = apart("compute", results)
        if annotator is not None:
            found = apart("draw", annotator.draw(clock.waiting("draw", found)))
        written = apart("encode", _write(clock.waiting("encode", found), outputs, summary))
        try:
            for done in written:
                on_frame(done)
        except BaseException:
            source.stop()  # a wait for a pipe or a camera would hold up the end
            raise
    summary.timing = clock.report()
    return summary


def _look(frames: Iterable[Frame], watch: SceneWatch) -> Generator[tuple[Frame, Scene]]:
    for frame in frames:
        yield frame, watch.look(frame)


def _compute(
    frames: Iterable[tuple[Frame, Scene]],
    predictor: Predictor,
    metric: RunningScale,
    wanted: Collection[Output],
    longest: float,
) -> Generator[FrameResult]:
    tracker = SegmentTracker(predictor.classes) if set(TASKS) & set(wanted) else None
    encoded = ((frame, scene, predictor.encode(frame.image)) for frame, scene in frames)
    before: tuple[EncodedFrame, float] | None = None
    window = predictor.window()
    for (frame, scene, current), after in with_next(encoded, predictor.looks_ahead(wanted)):
        if scene.is_start:
            before = None
        previous, seconds = (None, 0.0) if before is None else (before[0], frame.time - before[1])
        following = None if after is None or after[1].is_start else after[2]
        before = current, frame.time
        if previous is None or seconds > longest:
            window.clear()
        output = predictor.decode(current, previous, wanted, following, metric.K, window)
        scale = metric.update(output, new_scene=scene.is_cut, has_content=not scene.is_black)
        moving, seen = Moving.of(output, metric.K, seconds, wanted), None
        if tracker is not None:
            if scene.is_cut:
                tracker.reset()
            seen = Seen.of(tracker.update(output.segmentation), output.size)
        output = replace(output, segmentation=Segmentation(), scene_motion=None)
        yield FrameResult(frame, output, scale, scene, seen=seen, moving=moving)


def _write(
    results: Iterable[FrameResult], outputs: Outputs, summary: ClipSummary
) -> Generator[int]:
    for result in results:
        outputs.write(result)
        summary.add(result)
        yield summary.num_frames
