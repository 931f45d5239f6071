"""Presets: a network, its loss terms and its stages as data, checked before anything runs.

A preset is one YAML file, read whole (no inheritance) into frozen models. Component options are
bound to the signatures, and the nodes checked against each other, by
`unienc_core.models.network.build_network`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from unienc_core.errors import PresetError, nearest
from unienc_core.safe_yaml import MAX_YAML_BYTES, parse_yaml


class Spec(BaseModel):
    """Base of all preset parts: frozen, and every key must be known."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NodeSpec(Spec):
    """An encoder, neck or head: what it is, what it reads, what it sees."""

    type: str
    reads: tuple[str, ...]
    view: Literal["frame", "pair", "sequence"] = "frame"
    options: dict[str, Any] = Field(default_factory=dict)


class EncoderSpec(NodeSpec):
    """An encoder; `reads` names batch images (`image`, `depth_gt`), channels concatenated."""

    reads: tuple[str, ...] = ("image",)


class NetworkSpec(Spec):
    """Encoders, then necks, then heads, each in order."""

    encoders: dict[str, EncoderSpec]
    necks: dict[str, NodeSpec] = Field(default_factory=dict)
    heads: dict[str, NodeSpec]


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
    """Random changes of a training item; one draw per item, shared by all its frames."""

    flip: float = Field(default=0.5, ge=0, le=1)
    jitter: float = Field(default=0.5, ge=0, le=1)
    brightness: float = Field(default=0.2, ge=0, lt=1)
    contrast: float = Field(default=0.2, ge=0, lt=1)
    saturation: float = Field(default=0.2, ge=0, lt=1)
    hue: float = Field(default=0.1, ge=0, le=0.5)


class StreamSpec(Spec):
    """A data stream: its kind decides the image keys, `labels` what else an item must hold."""

    kind: Literal["triplets", "labels", "sequences"]
    batch_size: int = Field(gt=0)
    labels: tuple[str, ...] = ()
    augment: AugmentSpec = AugmentSpec()


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
    """AdamW, with the usual weight-decay exclusions (norms, biases, embeddings)."""

    lr: float = Field(default=1e-4, gt=0)
    backbone_lr_factor: float = Field(default=0.1, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    accumulate: int = Field(default=1, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    max_bad_steps: int = Field(default=5, ge=1)


class ScheduleSpec(Spec):
    """Learning rate over a stage: constant; poly (1 - t)^power; tail: last share falls to final."""

    type: Literal["constant", "poly", "tail"] = "constant"
    power: float = 0.9
    tail: float = Field(default=0.25, gt=0, le=1)
    final: float = Field(default=0.05, ge=0, le=1)


class StageSpec(Spec):
    """A stage: how long, what moves, which terms are on, how views are warped."""

    name: str
    steps: int = Field(gt=0)
    trains: tuple[str, ...] = ("*",)
    terms: tuple[str, ...]
    warp: Literal["ego", "complete", "final"] = "ego"
    lr: float | None = Field(default=None, gt=0)
    schedule: ScheduleSpec = ScheduleSpec()
    steps_per_ramp: int = Field(default=8000, gt=0)


class Preset(Spec):
    """A whole system: network, data streams, terms, stages."""

    name: str
    description: str = ""
    kind: Literal["student", "teacher", "steering"] = "student"
    image_size: tuple[int, int]
    depth: DepthSpec = DepthSpec()
    network: NetworkSpec
    streams: dict[str, StreamSpec]
    terms: dict[str, TermSpec]
    balancing: BalancingSpec = BalancingSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    stages: tuple[StageSpec, ...] = Field(min_length=1)

    @field_validator("image_size")
    @classmethod
    def _positive_size(cls, size: tuple[int, int]) -> tuple[int, int]:
        if min(size) < 32:
            raise ValueError(f"image_size is [height, width], at least 32 each, found {list(size)}")
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
    def total_steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)


def preset_names() -> list[str]:
    """Return the names of the presets that ship with unienc."""
    folder = resources.files("unienc_presets")
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith("yaml"))


def preset_text(name_or_path: str) -> tuple[str, str]:
    """Return the YAML text of a preset and where it came from.

    Args:
        name_or_path: A shipped preset's name, or a path (anything with a slash or ``.yaml``).

    Raises:
        PresetError: If there is no such preset or file.
    """
    if "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        try:
            with path.open("rb") as file:  # a device or pipe states no size
                content = file.read(MAX_YAML_BYTES + 1)
            if len(content) > MAX_YAML_BYTES:
                raise PresetError(f"{path}: larger than {MAX_YAML_BYTES} bytes, not a preset")
            return content.decode("utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise PresetError(f"{path}: cannot read preset: {error}") from None
    known = preset_names()
    if name_or_path not in known:
        raise PresetError(
            f"no preset '{name_or_path}'{nearest(name_or_path, known)}; known: {', '.join(known)}"
        )
    file = resources.files("unienc_presets") / f"{name_or_path}.yaml"
    return file.read_text(encoding="utf-8"), name_or_path


def load_preset(name_or_path: str, overrides: Sequence[str] = ()) -> Preset:
    """Load and check a preset.

    Args:
        name_or_path: A shipped preset's name or a YAML file.
        overrides: ``path.to.key=value`` strings; the value is YAML.

    Raises:
        PresetError: One line with the path of the fault and the nearest right name.
    """
    text, where = preset_text(name_or_path)
    return preset_from_dict(parse_yaml(text, where), where, overrides)


def preset_from_dict(raw: Any, where: str = "preset", overrides: Sequence[str] = ()) -> Preset:
    """Validate plain data into a `Preset` after applying `overrides`."""
    if not isinstance(raw, dict):
        raise PresetError(f"{where}: a preset is a mapping, found {_kind(raw)}")
    data = cast(dict[str, Any], raw)
    for override in overrides:
        _apply_override(data, override)
    try:
        return Preset.model_validate(data)
    except ValidationError as error:
        raise PresetError(f"{where}: {_first_fault(error)}") from None


def dump_preset(preset: Preset) -> str:
    """Return the preset as YAML, every default written out."""
    return yaml.safe_dump(preset.model_dump(mode="json"), sort_keys=False)


def _apply_override(raw: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise PresetError(f"--set {override}: expected path.to.key=value")
    value = parse_yaml(text, f"--set {path}")
    node: Any = raw
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, list):
            items = cast(list[Any], node)
            if not key.isdigit() or int(key) >= len(items):
                raise PresetError(f"--set {path}: '{key}' is no index of a list of {len(items)}")
            if last:
                items[int(key)] = value
            else:
                node = items[int(key)]
        elif isinstance(node, dict):
            mapping = cast(dict[str, Any], node)
            if last:
                mapping[key] = value
            else:
                node = mapping.setdefault(key, {})
        else:
            raise PresetError(f"--set {path}: '{'.'.join(keys[:depth])}' holds no keys")


def _kind(value: object) -> str:
    return type(value).__name__


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _fields_at(fault["loc"][:-1])
        return f"unknown key '{where}'{nearest(str(fault['loc'][-1]), known)}"
    if fault["type"] == "missing":
        return f"'{where}' is missing"
    message = fault["msg"].removeprefix("Value error, ")
    if not where:
        return message
    found = repr(fault.get("input"))
    return f"'{where}': {message.lower()}, found {found if len(found) < 60 else found[:57] + '...'}"


def _fields_at(loc: Iterable[int | str]) -> list[str]:
    """Return the field names of the model that a location in a preset leads to."""
    node: Any = Preset
    for part in loc:
        fields = _model_fields(node)
        if fields:
            node = fields[str(part)].annotation if str(part) in fields else None
        else:  # a dict or tuple of models: step into what it holds
            held = [a for a in get_args(node) if _model_fields(a)]
            node = held[0] if held else None
    return list(_model_fields(node))


def _model_fields(node: Any) -> dict[str, Any]:
    return getattr(node, "model_fields", {})
