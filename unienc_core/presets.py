"""Presets: a network, its loss terms and its stages as data, checked before anything runs.

A preset is one YAML file, read whole (no inheritance) into the frozen models of `specs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_args

import yaml
from pydantic import ValidationError

from unienc_core.errors import PresetError, nearest
from unienc_core.safe_yaml import MAX_YAML_BYTES, parse_yaml
from unienc_core.specs import (
    AugmentSpec,
    BalancingSpec,
    DepthSpec,
    EncoderSpec,
    NetworkSpec,
    NodeSpec,
    OptimizerSpec,
    Preset,
    ScheduleSpec,
    StageSpec,
    StreamSpec,
    TermSpec,
)
from unienc_core.strict import validate_strictly

__all__ = [
    "AugmentSpec",
    "BalancingSpec",
    "DepthSpec",
    "EncoderSpec",
    "NetworkSpec",
    "NodeSpec",
    "OptimizerSpec",
    "Preset",
    "ScheduleSpec",
    "StageSpec",
    "StreamSpec",
    "TermSpec",
    "dump_preset",
    "load_preset",
    "preset_from_dict",
    "preset_names",
    "preset_text",
]


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
        return validate_strictly(Preset, data, where)
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
