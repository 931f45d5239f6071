"""What a preset may say: frozen models, one for each part, checked against each other.

Component options are bound to the signatures, and the nodes checked against each other, by
`unienc_core.models.network.build_network`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from unienc_core.class_tables import ClassTable, ClassTableSpec, cityscapes_table
from unienc_core.errors import nearest

Warp = Literal["ego", "complete", "final"]
"""Which points are projected into a source: T P, P + F_C or P + F_F."""

Compose = Literal["add_independent", "rotate_independent"]
"""How the final flow F_F is put together: F_R + M F_D, or T (P + M F_D) - P as some code has it."""


Kind = Literal["student", "teacher", "steering"]
"""What a preset is for, which decides the verbs that train it."""


class Spec(BaseModel):
    """Base of all preset parts: frozen, and every key must be known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NodeSpec(Spec):
    """An encoder, neck or head: what it is, what it reads, what it sees.

    The last two decide how it runs in training, not what it computes. `checkpointing`: its blocks
    keep their inputs only and run again in the backward pass: less memory, more time. `compile`: it
    runs through `torch.compile`.
    """

    type: str
    reads: tuple[str, ...] = Field(min_length=1)
    view: Literal["frame", "pair", "triple", "sequence"] = "frame"
    options: dict[str, Any] = Field(default_factory=dict)
    checkpointing: bool = False
    compile: bool = False

    @model_validator(mode="after")
    def _one_way_to_run(self) -> NodeSpec:
        if self.checkpointing and self.compile:
            raise ValueError("checkpointing and compile exclude each other; choose one")
        return self


class EncoderSpec(NodeSpec):
    """An encoder; `reads` names batch images (`image`, `depth_gt`), channels concatenated.

    `lr_factor`: its share of the stage's rate; by default the optimiser's `backbone_lr_factor` for
    pretrained weights, and 1 for others. `starts_as`: another encoder of the same form, whose
    weights of that moment it takes over when the first stage that moves it begins.
    """

    reads: tuple[str, ...] = Field(default=("image",), min_length=1)
    lr_factor: float | None = Field(default=None, gt=0)
    starts_as: str | None = None


class NetworkSpec(Spec):
    """Encoders, then necks, then heads, each in order."""

    encoders: dict[str, EncoderSpec]
    necks: dict[str, NodeSpec] = Field(default_factory=dict)
    heads: dict[str, NodeSpec]

    @property
    def lr_factors(self) -> dict[str, float | None]:
        """What each encoder says of its share of the rate."""
        return {name: encoder.lr_factor for name, encoder in self.encoders.items()}

    @property
    def nodes(self) -> dict[str, NodeSpec]:
        """All of them by path (``encoders.main``), which is that of a submodule, too."""
        families = {"encoders": self.encoders, "necks": self.necks, "heads": self.heads}
        return {
            f"{family}.{n}": spec for family, part in families.items() for n, spec in part.items()
        }


class DepthSpec(Spec):
    """How a head's output in 0..1 becomes depth.

    `scaled`: 1/depth = 1/max + (1/min - 1/max) d. `inverse`: depth = 1/d, cut to min..max.
    """

    min: float = Field(default=0.1, gt=0)
    max: float = Field(default=100.0, gt=0)
    convention: Literal["scaled", "inverse"] = "scaled"

    @model_validator(mode="after")
    def _ordered(self) -> DepthSpec:
        if self.min >= self.max:
            raise ValueError(f"min = {self.min} must lie below max = {self.max}")
        return self


class AugmentSpec(Spec):
    """Random changes of a training item; one draw per item, shared by all its frames.

    `zoom`: labelled frames are enlarged by 1 to so much, and a part of the usual size is cut out.
    `shadow`: onto this share of the frames of sequences a shadow falls, onto each its own.
    """

    flip: float = Field(default=0.5, ge=0, le=1)
    jitter: float = Field(default=0.5, ge=0, le=1)
    brightness: float = Field(default=0.2, ge=0, lt=1)
    contrast: float = Field(default=0.2, ge=0, lt=1)
    saturation: float = Field(default=0.2, ge=0, lt=1)
    hue: float = Field(default=0.1, ge=0, le=0.5)
    zoom: float = Field(default=1.0, ge=1, le=8)
    shadow: float = Field(default=0.0, ge=0, le=1)

    @property
    def flips_only(self) -> bool:
        """Whether sequences are taken as they are stored, or mirrored, and no more."""
        return self.jitter == self.shadow == 0


class StreamSpec(Spec):
    """A data stream: its kind decides the image keys, `labels` what else an item must hold.

    `batch_size` counts the items of all processes together. `tasks`: whether the label `task` is
    drawn for each item, or goes round in turn (a batch of three holds one of each). `frames` and
    `stride`: how long a sequence is, and how many frames later the next one begins.
    """

    kind: Literal["triplets", "labels", "sequences"]
    batch_size: int = Field(gt=0)
    labels: tuple[str, ...] = ()
    augment: AugmentSpec = AugmentSpec()
    tasks: Literal["drawn", "in_turn"] = "drawn"
    frames: int = Field(default=16, ge=1, le=4096)
    stride: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _asks_what_its_kind_has(self) -> StreamSpec:
        for name, kind, usual in (("zoom", "labels", 1.0), ("shadow", "sequences", 0.0)):
            if getattr(self.augment, name) != usual and self.kind != kind:
                raise ValueError(
                    f"augment.{name} is for streams of kind {kind}, this one is of kind {self.kind}"
                )
        if self.kind != "sequences" and (self.frames, self.stride) != (16, 1):
            raise ValueError(
                f"frames and stride are for streams of kind sequences, this one is of kind "
                f"{self.kind}"
            )
        if self.tasks != "drawn" and "task" not in self.labels:
            raise ValueError("tasks: in_turn is for streams with 'task' among their labels")
        return self


class TermSpec(Spec):
    """A loss term: weight, ramp, and options of the registered type (default: its own name)."""

    type: str | None = None
    weight: float = 1.0
    ramp: bool = False
    streams: tuple[str, ...] | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class BalancingSpec(Spec):
    """How weighted terms become one loss."""

    type: Literal["fixed", "dwa", "uncertainty"] = "fixed"
    options: dict[str, Any] = Field(default_factory=dict)


class OptimizerSpec(Spec):
    """AdamW, with the usual weight-decay exclusions (norms, biases, embeddings).

    `ema_decay`: what is kept and validated is the average of a stage's weights, `WeightAverage`.
    """

    lr: float = Field(default=1e-4, gt=0)
    backbone_lr_factor: float = Field(default=0.1, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    accumulate: int = Field(default=1, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    max_bad_steps: int = Field(default=5, ge=1)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)


class ScheduleSpec(Spec):
    """Learning rate over a stage.

    `constant`; `poly`: (1 - t)^power; `tail`: the last share falls to `final`; `steps`: times
    `gamma` from each of the `milestones` (steps of the stage) on.
    """

    type: Literal["constant", "poly", "tail", "steps"] = "constant"
    power: float = 0.9
    milestones: tuple[PositiveInt, ...] = ()
    gamma: float = Field(default=0.1, gt=0)
    tail: float = Field(default=0.25, gt=0, le=1)
    final: float = Field(default=0.05, ge=0, le=1)


class StageSpec(Spec):
    """A stage: how long, what moves, which terms are on, how views are warped.

    `compose`: how the flow of `warp: final` is put together.
    """

    name: str
    steps: int = Field(gt=0)
    trains: tuple[str, ...] = ("*",)
    terms: tuple[str, ...]
    warp: Warp = "ego"
    compose: Compose = "add_independent"
    lr: float | None = Field(default=None, gt=0)
    schedule: ScheduleSpec = ScheduleSpec()
    steps_per_ramp: int = Field(default=8000, gt=0)

    @model_validator(mode="after")
    def _composes_final_flow_only(self) -> StageSpec:
        if self.compose != "add_independent" and self.warp != "final":
            raise ValueError(f"compose is for warp: final, this stage has warp: {self.warp}")
        return self


class Preset(Spec):
    """A whole system: network, data streams, terms, stages.

    `eval_size`: size at which segmentation is scored, where it is another one than `image_size`.
    `class_table`: what the label ids of its data mean; those of Cityscapes by default.
    """

    name: str
    description: str = ""
    kind: Kind = "student"
    image_size: tuple[int, int]
    eval_size: tuple[int, int] | None = None
    depth: DepthSpec = DepthSpec()
    class_table: ClassTableSpec | None = None
    network: NetworkSpec
    streams: dict[str, StreamSpec]
    terms: dict[str, TermSpec]
    balancing: BalancingSpec = BalancingSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    stages: tuple[StageSpec, ...] = Field(min_length=1)

    @field_validator("image_size", "eval_size")
    @classmethod
    def _positive_size(
        cls, size: tuple[int, int] | None, info: ValidationInfo
    ) -> tuple[int, int] | None:
        if size is not None and min(size) < 32:
            raise ValueError(
                f"{info.field_name} is [height, width], at least 32 each, found {list(size)}"
            )
        return size

    @model_validator(mode="after")
    def _references_exist(self) -> Preset:
        for i, stage in enumerate(self.stages):
            for term in stage.terms:
                if term not in self.terms:
                    hint = nearest(term, list(self.terms))
                    raise ValueError(f"stages.{i}.terms: no term '{term}'{hint}")
        for name, term in self.terms.items():
            for stream in term.streams or ():
                if stream not in self.streams:
                    hint = nearest(stream, list(self.streams))
                    raise ValueError(f"terms.{name}.streams: no stream '{stream}'{hint}")
        self._check_reads()
        return self

    def _check_reads(self) -> None:
        # A head may bear an encoder's name (`pose`): nothing reads heads.
        doubled = set(self.network.encoders) & set(self.network.necks)
        if doubled:
            raise ValueError(f"network: encoder and neck both called {', '.join(sorted(doubled))}")
        known = list(self.network.encoders)
        for family, specs in (("necks", self.network.necks), ("heads", self.network.heads)):
            for name, spec in specs.items():
                for read in spec.reads:
                    if read.split(".")[0] not in known:
                        raise ValueError(
                            f"network.{family}.{name}.reads: no earlier encoder or neck "
                            f"'{read}'{nearest(read, known)}"
                        )
                if family == "necks":
                    known.append(name)

    @property
    def classes(self) -> ClassTable:
        """The class table that data, network and scores share."""
        return cityscapes_table() if self.class_table is None else self.class_table.table()

    @property
    def total_steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)
