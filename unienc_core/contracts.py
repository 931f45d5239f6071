"""The words and shapes that every room shares.

Axis letters: `B` batch, `C` channels, `H W` pixels, `S` source frames, `L` pyramid level, `N`
sequence frames, `Q` queries, `K_cls` classes. Plain `K` is the intrinsics matrix.

A *batch* is a flat mapping from a key (``target_image``, ``K``) to a tensor whose first axis is
`B`. *Predictions* are a flat mapping too; an output with several scales is a list under
``<name>_scales``, finest first, and the finest one also lies under ``<name>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from unienc_core.errors import ShapeError

Batch = dict[str, Any]
"""Key to tensor, first axis `B`, or to a ragged list of `B` tensors (masks of an image).
``valid_<key>`` (`B`, bool) says which samples have that key."""

Value = Tensor | list[Tensor]
Predictions = dict[str, Value]

View = Literal["frame", "pair", "triple", "sequence"]
"""What a node sees: one frame; each (source, target) pair, target last; a target between its two
sources, in order of time; a sequence of N frames."""

PairOrder = Literal["target_last", "temporal"]
"""How a pair is shown inside a node: (source, target), or (earlier, later)."""

SEQUENCE_GRIDS = "sequence_grids/"
"""Key of a batch, together with the name of a pyramid: its levels of every frame of a sequence, all
pooled to one grid and joined along channels, `B N C h w`. They stand for `sequence_images`."""

IGNORE_INDEX = 255

TEACHER = "teacher/"
"""What a teacher predicts lies under its usual key behind this."""


@dataclass(frozen=True)
class PyramidSpec:
    """What a node promises about its pyramid: strides and channels, finest level first."""

    strides: tuple[int, ...]
    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that the two lists describe the same levels."""
        if len(self.strides) != len(self.channels):
            raise ShapeError(f"pyramid with {self.strides} strides but {self.channels} channels")

    def times(self, n: int) -> PyramidSpec:
        """Return the spec of `n` such pyramids concatenated along channels."""
        return PyramidSpec(self.strides, tuple(n * c for c in self.channels))


@dataclass
class FeaturePyramid:
    """Feature maps of one encoder or neck, finest level first.

    Attributes:
        levels: One `B C_l H/stride_l W/stride_l` tensor per level.
        strides: Stride of each level against the input image.
        inner: Optionally, further tensors of each level (MTAN reads them).
    """

    levels: list[Tensor]
    strides: tuple[int, ...]
    inner: list[list[Tensor]] | None = None

    @property
    def spec(self) -> PyramidSpec:
        """The spec that these levels fulfil."""
        return PyramidSpec(self.strides, tuple(x.shape[1] for x in self.levels))

    def map(self, fn: Callable[[Tensor], Tensor]) -> FeaturePyramid:
        """Apply `fn` (slice, repeat, detach, ...) to every tensor."""
        inner = None if self.inner is None else [[fn(x) for x in lv] for lv in self.inner]
        return FeaturePyramid([fn(x) for x in self.levels], self.strides, inner)


def concat_pyramids(pyramids: Sequence[FeaturePyramid], axis: int = 1) -> FeaturePyramid:
    """Concatenate pyramids of equal strides, level by level, along channels if not said otherwise.

    Inner tensors are joined alike where all pyramids have them.
    """
    first = pyramids[0]
    if any(p.strides != first.strides for p in pyramids):
        raise ShapeError(f"pyramids of different strides: {[p.strides for p in pyramids]}")
    levels = [torch.cat(lv, axis) for lv in zip(*(p.levels for p in pyramids), strict=True)]
    inners = [p.inner for p in pyramids if p.inner is not None]
    if len(inners) < len(pyramids):
        return FeaturePyramid(levels, first.strides)
    inner = [
        [torch.cat(x, axis) for x in zip(*level, strict=True)]
        for level in zip(*inners, strict=True)
    ]
    return FeaturePyramid(levels, first.strides, inner)


@dataclass
class NodeInputs:
    """What the network hands to a neck or head.

    `M` is B for frames and triples, B*S for pairs, B*N else.

    Attributes:
        pyramids: One per entry of `reads`, in that order. A pair node that reads a frame encoder
            gets (source, target) concatenated along channels, target last. Those of a sequence may
            be pooled to one grid already, see `SEQUENCE_GRIDS`.
        images: `M 3 H W`, `M 6 H W` for pairs (source, target), or `M 9 H W` for triples (earlier
            source, target, later source): what the encoder saw, before its own normalisation. Where
            grids stand for the images of a sequence, `M 3 0 0`.
        values: The keys that the node declared in `requires` and, in training, `train_requires`.
            For a pair node, what other nodes predict comes with first axis B*S (a frame's values
            repeated for each source); keys of the batch come as they lie there. For a triple node,
            what is said of each source comes as `B 2 ...`.
        batch_size: B, so that a sequence node can fold `M` back.
        training: Whether `train_produces` are wanted: in training, and of frozen nodes, too, which
            run in evaluation mode then.
    """

    pyramids: list[FeaturePyramid]
    images: Tensor
    values: Mapping[str, Any]
    batch_size: int
    training: bool = False


class Node(nn.Module):
    """Base of encoders, necks and heads: a module with declared inputs and outputs.

    Class or instance attributes:
        requires: Keys (batch or earlier predictions) needed always.
        train_requires: Batch keys needed in training only.
        produces: Prediction keys this node adds (empty for encoders).
        train_produces: Keys it adds in training only (text queries, auxiliary predictions).
        training_parts: Submodules that only training runs; inference goes without them.
    """

    requires: tuple[str, ...] = ()
    train_requires: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    train_produces: tuple[str, ...] = ()
    training_parts: tuple[str, ...] = ()


class Encoder(Node):
    """Image `M C H W` in 0..1 to a `FeaturePyramid`. Normalises its own input.

    Attributes:
        spec: Strides and channels of its levels.
        in_channels: Channels of the image it takes (3, 6 for a pair, 9 for a triple).
        pretrained: Whether its weights came from pretraining (then the backbone rate applies).
        pair_order: In which order an encoder of pairs is given the two images.
    """

    spec: PyramidSpec
    in_channels: int
    pretrained: bool = False
    pair_order: PairOrder = "target_last"

    def forward(self, image: Tensor) -> FeaturePyramid:
        """Encode `image`."""
        raise NotImplementedError


class Neck(Node):
    """Pyramids to one or several named pyramids, perhaps with predictions ``aux/<task>/<level>``.

    Attributes:
        specs: Name of each pyramid it makes to its spec. The single pyramid of a plain neck is
            called ``""`` and is read by the neck's own name; others as ``<neck>.<name>``.
    """

    specs: dict[str, PyramidSpec]

    def forward(self, inputs: NodeInputs) -> tuple[dict[str, FeaturePyramid], Predictions]:
        """Return the named pyramids and the predictions."""
        raise NotImplementedError


class Head(Node):
    """Pyramids to predictions.

    First axis `M` for frames and pairs (the network folds B*S to B, S), `B` for sequences. What a
    head of triples says of each source it gives as `B 2 ...`, in the order of the batch.
    """

    def forward(self, inputs: NodeInputs) -> Predictions:
        """Return exactly the keys in `produces` and, in training, `train_produces`."""
        raise NotImplementedError


def _itself(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class StepContext:
    """What a term may know of the run besides tensors.

    Attributes:
        step: Step within the stage, from 0.
        steps_per_ramp: Ramped weights reach their full value after a third of this.
        generator_seed: Seed for terms that draw random numbers on this step.
        processes: How many processes share the batch; their losses and gradients are averaged.
        sum_over_processes: Adds up a tensor (counts) over them; passes no gradient.
        rank: Which of the processes this one is, from 0.
    """

    step: int = 0
    steps_per_ramp: int = 8000
    generator_seed: int = 0
    processes: int = 1
    sum_over_processes: Callable[[Tensor], Tensor] = field(default=_itself, compare=False)
    rank: int = 0

    @property
    def ramp(self) -> float:
        """clip(3 step / steps_per_ramp, 0, 1)."""
        return min(1.0, max(0.0, 3.0 * self.step / self.steps_per_ramp))


class Term(nn.Module):
    """A loss term: reads declared keys, returns `B` per-sample losses or one scalar.

    A per-sample result is averaged over the samples whose required keys are all valid; a scalar
    term reads the ``valid_<key>`` vectors itself. Terms never see the network.

    Attributes:
        requires: Keys of batch, predictions, view synthesis (``warped_scales``, ...) or teacher
            (``teacher/<key>``).
        task: What it teaches, together with the terms that say the same; by default its own name.
        logs: Values of the last call worth a line in the log (0-d tensors, detached), under the
            same names at every call; those of several processes are averaged.
    """

    requires: tuple[str, ...] = ()
    task: str = ""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, Tensor] = {}

    def forward(self, values: Mapping[str, Any], context: StepContext) -> Tensor:
        """Return the loss."""
        raise NotImplementedError


@dataclass
class Progress:
    """One report of a long job.

    Attributes:
        task: What is being done, for people ("render", "train", ...).
        done: Units finished.
        total: Units in all, or None when unknown.
        unit: "frame", "step", ...
        text: Anything worth showing beside the bar.
    """

    task: str
    done: int
    total: int | None = None
    unit: str = "item"
    text: str = ""


class ProgressCallback(Protocol):
    """How the core reports progress; the terminal is the caller's business."""

    def __call__(self, progress: Progress) -> None:
        """Take one report."""


def no_progress(progress: Progress) -> None:
    """Ignore reports."""


class Say(Protocol):
    """How the core tells people one line (a fallback taken, a warning)."""

    def __call__(self, line: str) -> None:
        """Take one line."""


def say_nothing(line: str) -> None:
    """Ignore lines."""


@dataclass
class Reporter:
    """Progress and remarks, as one object to pass down."""

    progress: ProgressCallback = field(default=no_progress)
    say: Say = field(default=say_nothing)


def check_shape(x: Tensor, pattern: str, name: str = "tensor", **sizes: int) -> dict[str, int]:
    """Check a shape at a public door and return the size of each axis letter.

    Args:
        x: The tensor.
        pattern: Axis names or numbers, such as ``"B 1 H W"``; ``...`` at the front matches any
            leading axes.
        name: What to call the tensor in the error.
        **sizes: Letters whose size is already known.

    Raises:
        ShapeError: If the rank, a fixed size, or a repeated letter does not fit.
    """
    axes, shape, found = pattern.split(), tuple(x.shape), dict(sizes)
    if axes and axes[0] == "...":
        axes, shape = axes[1:], shape[len(shape) - len(axes) + 1 :]
    ok = len(axes) == len(shape)
    for axis, size in zip(axes, shape, strict=False):
        ok = ok and (int(axis) if axis.isdigit() else found.setdefault(axis, size)) == size
    if not ok:
        known = "".join(f", {k}={v}" for k, v in sizes.items())
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, expected '{pattern}'{known}")
    return found
