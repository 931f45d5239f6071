"""Four families of components - encoder, neck, head, loss term - found by name.

A component is a factory whose keyword-only parameters are its options. Options of a preset are
bound to that signature, with types, before anything runs.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError, create_model

from unienc_core.errors import PresetError, nearest
from unienc_core.strict import validate_strictly

Family = Literal["encoder", "neck", "head", "term"]
FAMILIES: tuple[Family, ...] = ("encoder", "neck", "head", "term")

# Importing these modules registers what they define; done on first look-up, since it loads torch.
_HOMES: dict[Family, tuple[str, ...]] = {
    "encoder": ("unienc_core.models.encoders",),
    "neck": ("unienc_core.models.necks",),
    "head": ("unienc_core.models.heads",),
    "term": ("unienc_core.losses",),
}
_FACTORIES: dict[Family, dict[str, Callable[..., Any]]] = {family: {} for family in FAMILIES}

Count = Annotated[int, Field(ge=1, le=4096)]
"""Type of an option that counts channels, blocks, bins."""

FactoryT = TypeVar("FactoryT", bound=Callable[..., Any])


def register(family: Family, name: str) -> Callable[[FactoryT], FactoryT]:
    """Register a class or function under `name`; its keyword-only parameters are its options."""

    def add(factory: FactoryT) -> FactoryT:
        if name in _FACTORIES[family]:
            raise PresetError(f"{family} '{name}' is registered twice")
        _FACTORIES[family][name] = factory
        return factory

    return add


def names(family: Family) -> list[str]:
    """Return the registered names of a family, sorted."""
    for module in _HOMES[family]:
        import_module(module)
    return sorted(_FACTORIES[family])


def factory_of(family: Family, name: str, where: str = "preset") -> Callable[..., Any]:
    """Return the factory registered as `name`.

    Raises:
        PresetError: If there is none, naming the nearest one.
    """
    known = names(family)
    if name not in known:
        raise PresetError(
            f"{where}: unknown {family} type '{name}'{nearest(name, known)}; known: "
            + ", ".join(known)
        )
    return _FACTORIES[family][name]


def bind_options(
    family: Family, name: str, options: Mapping[str, Any], where: str = "preset"
) -> dict[str, Any]:
    """Check options against the factory's keyword-only parameters and return them, typed.

    Args:
        family: Component family.
        name: Registered name.
        options: What the preset says.
        where: Path of the component in the preset, for the message.

    Raises:
        PresetError: Unknown key (with the nearest right one), wrong type, or a missing option.
    """
    factory = factory_of(family, name, where)
    target = factory.__init__ if inspect.isclass(factory) else factory
    hints = typing.get_type_hints(target, include_extras=True)
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[key] = (hints.get(key, Any), default)
    for key in options:
        if key not in fields:
            raise PresetError(
                f"{where}.options: {family} '{name}' has no option '{key}'"
                f"{nearest(key, list(fields))}; options: {', '.join(fields) or 'none'}"
            )
    model = create_model("Options", __config__=ConfigDict(extra="forbid"), **fields)
    try:
        bound = validate_strictly(model, options, f"{where}.options")
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PresetError(
            f"{where}.options.{key}: {first['msg'].lower()}, found {first.get('input')!r}"
        ) from None
    return {key: getattr(bound, key) for key in fields}


def build(
    family: Family, name: str, *args: Any, options: Mapping[str, Any], where: str = "preset"
) -> Any:
    """Bind `options` and call the factory with `args` and them."""
    return factory_of(family, name, where)(*args, **bind_options(family, name, options, where))
