"""Random and hostile command lines: the right exit code, one readable line, nothing left behind."""

import pytest
from hostile import Parameter, Sandbox, check, invoke, verbs
from hostile_values import FITTING, HOSTILE, JUNK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = 360
"""Command lines in all, shared out evenly among the verbs."""

LIGHT = {"presets", "data", "runs", "doctor"}
"""Verbs that may do without --dry-run: whatever they are asked, it is little work."""

NEEDED = {("prepare-data", "csv"): {"--fps"}}
"""Options that a verb cannot do without, though its parser does not know."""

VERBS = verbs()
OFTEN = st.sampled_from([True, True, True, False])


def values(name: str, *, calm: bool) -> st.SearchStrategy[str]:
    """Values for a parameter: what fits, where that is known, or anything at all."""
    return st.sampled_from(FITTING[name]) if calm and name in FITTING else HOSTILE


def words(parameter: Parameter, *, calm: bool) -> st.SearchStrategy[list[str]]:
    """An option with a value, spelled in either way."""
    if parameter.is_flag:
        return st.just([parameter.spelled])
    value = values(parameter.name, calm=calm)
    apart = value.map(lambda v: [parameter.spelled, v])
    return apart | value.map(lambda v: [f"{parameter.spelled}={v}"])


@st.composite
def command_lines(draw: st.DrawFn, verb: tuple[str, ...]) -> list[str]:
    """Command lines of a verb, with --dry-run wherever it has one.

    Half of them are calm but for one option, so that they get as far as the work itself.
    """
    parameters = VERBS[verb]
    spelled = {p.spelled for p in parameters}
    calm = draw(st.booleans())
    line = [*verb, *(["--dry-run"] if "--dry-run" in spelled else [])]
    for parameter in parameters:
        if not parameter.is_option and draw(OFTEN):
            line.append(draw(values(parameter.name, calm=calm)))
    for parameter in parameters:
        needed = parameter.is_option and parameter.is_required
        if (needed or parameter.spelled in NEEDED.get(verb, ())) and draw(OFTEN):
            line += draw(words(parameter, calm=calm))
    options = [p for p in parameters if p.is_option and p.spelled != "--dry-run"]
    for number, parameter in enumerate(draw(st.lists(st.sampled_from(options), max_size=5))):
        line += draw(words(parameter, calm=calm and number > 0))
    if not draw(OFTEN):
        line += draw(st.sampled_from(JUNK))
    return line + [f for f in ("--json", "--quiet") if f in spelled and draw(st.booleans())]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_hostile_command_lines(verb: tuple[str, ...], sandbox: Sandbox) -> None:
    codes: set[int] = set()

    @settings(
        max_examples=-(-EXAMPLES // len(VERBS)),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines(verb))
    def every_line(line: list[str]) -> None:
        with sandbox.as_it_was():
            outcome = invoke(line, sandbox)
            check(outcome, sandbox)
        codes.add(outcome.code)

    every_line()
    assert len(codes) > 1, "all lines ended alike: they do not reach what they are meant to test"


def test_every_verb_can_be_asked_without_work() -> None:
    """So that the lines above never start an hour of training."""
    for verb, parameters in VERBS.items():
        safe = any(p.spelled == "--dry-run" for p in parameters)
        assert safe or verb[0] in LIGHT, f"{' '.join(verb)} needs a --dry-run"
