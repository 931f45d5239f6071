"""Mutated preset files: never a traceback, never code 1, whatever stands in them."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hostile import Sandbox, check, invoke
from hostile_values import PRESET
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unienc_core.presets import preset_text

EXAMPLES = 120

Place = tuple[str | int, ...]

WRONG: list[Any] = [
    *(None, True, False, 0, -1, 1, 2.5, 1e308, float("nan"), float("inf"), 10**30, -(10**12), ""),
    *("x", "1", "é\u202e", "a.b", "../x", "*", "resnet19", "encoders.main", "\x1b[31m", "y" * 3000),
    *([], [[]], [None], {}, {"a": {"b": []}}, [1, 2, 3], {"": 1}, {1: 2}, b"\xff", [10**9] * 3),
]
"""Values that belong nowhere, or somewhere else."""

GARBAGE = [
    b"",
    b"\x00",
    b"\xff\xfe\x00name",
    b"name: x\n\tdescription: y\n",
    b"- a\n- b\n",
    b"just words",
    b"name: a\nname: b\n",
    b"--- a\n--- b\n",
    b"? [a, b]\n: c\n",
    b"{" * 5000,
    b"[" * 5000 + b"]" * 5000,
    b"[" * 900,
    b"".join(b"%x: 1\n" % n for n in range(25_000)),
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    b"name: !!python/object/apply:os.system ['touch pwned']\n",
    b"name: !!binary /w==\ndescription: !!set {a, b}\n",
    b"name: 2020-13-45\n",
    b"image_size: [" + b"9" * 5000 + b", 32]\n",
    b"name: " + b"x" * 300_000,
    b"%YAML 9.9\n---\nname: x\n",
    b"<<: {name: x}\n",
]
"""Files that are no preset at all."""


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Yield the path of everything in nested data."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


def mutate(draw: st.DrawFn, data: dict[str, Any]) -> None:
    """Drop, rename, replace, move or bury one thing."""
    path = draw(st.sampled_from(list(places(data))))
    node: Any = data
    for key in path[:-1]:
        node = node[key]
    last = path[-1]
    how = draw(st.sampled_from(["drop", "rename", "replace", "replace", "swap", "bury"]))
    if how == "drop":
        del node[last]
    elif how == "rename" and isinstance(node, dict):
        node[draw(st.sampled_from([f"{last}s", "x", "", "type", "reads"]))] = node.pop(last)
    elif how == "swap":
        other = draw(st.sampled_from(list(places(data))))
        found: Any = data
        for key in other:
            found = found[key]
        node[last] = copy.deepcopy(found)
    elif how == "bury":
        for _ in range(draw(st.sampled_from([1, 30, 100]))):
            node[last] = [node[last]]
    else:
        node[last] = draw(st.sampled_from(WRONG))


@st.composite
def mutated_presets(draw: st.DrawFn) -> bytes:
    """The bytes of a small preset with up to three faults, or with a scar in its text."""
    raw = yaml.safe_load(preset_text("unified-tiny")[0].replace("1e-3", "0.001"))
    raw |= {"image_size": [64, 96]}
    for _ in range(draw(st.integers(1, 3))):
        if raw:
            mutate(draw, raw)
    text = yaml.safe_dump(raw, sort_keys=False).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        scar = draw(st.sampled_from([b"\t", b"\x00", b"\xff", b"&a ", b"*a", b": ", b"- ", b"'"]))
        text = text[:at] + scar + text[at:]
    return text


VERBS = st.sampled_from(
    [
        ["presets", "show"],
        ["presets", "check"],
        ["train-student", "city", "--dry-run", "--workers", "0", "--device", "cpu", "--preset"],
        ["bench", "gemm", "--dry-run", "--preset"],
    ]
)


def must_be_survived(sandbox: Sandbox, content: bytes, verb: list[str], *, as_json: bool) -> int:
    with sandbox.as_it_was():
        (sandbox.here / PRESET).write_bytes(content)
        flags = ["--quiet", *(["--json"] if as_json else [])]
        outcome = invoke([*verb, PRESET, *flags], sandbox)
        try:
            check(outcome, sandbox)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{content[:3000]!r}") from None
    return outcome.code


def test_mutated_presets(sandbox: Sandbox) -> None:
    codes: list[int] = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated_presets(), VERBS, st.booleans())
    def every_preset(content: bytes, verb: list[str], as_json: bool) -> None:
        codes.append(must_be_survived(sandbox, content, verb, as_json=as_json))

    every_preset()
    assert {0, 2} <= set(codes), "all presets ended alike: they do not reach what is to be tested"


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_files_that_are_no_preset(number: int, sandbox: Sandbox) -> None:
    for verb in (["presets", "show"], ["presets", "check"]):
        assert must_be_survived(sandbox, GARBAGE[number], verb, as_json=True) == 2
    assert not (sandbox.here / "pwned").exists()
