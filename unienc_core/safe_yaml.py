"""YAML from anybody: plain data only, with one-line errors."""

from __future__ import annotations

import re
from typing import Any, cast

import yaml

from unienc_core.errors import PresetError

MAX_YAML_BYTES = 256 * 1024


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number, aliases are refused and keys are unique."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if cast(Any, self).check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed in presets")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (str(key.value) for key, _ in node.value):
            if key in seen:
                raise yaml.YAMLError(f"key '{key}' stands twice{node.start_mark}")
            seen.add(key)
        return super().construct_mapping(node, deep)


cast(Any, _Loader).add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML safely.

    Raises:
        PresetError: On anything malformed, oversized, or beyond plain data.
    """
    if len(text) > MAX_YAML_BYTES:
        raise PresetError(f"{where}: larger than {MAX_YAML_BYTES} bytes, not a preset")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        line = " ".join(str(error).split())
        raise PresetError(f"{where}: not valid YAML: {line}") from None
