"""Which frames a span takes: exact to the frame, in frames and in seconds."""

from fractions import Fraction

import pytest

from unienc_core.errors import UsageError
from unienc_core.inference.span import Picker, Span, parse_moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0", 0),
        ("250", 250),
        ("12.5s", Fraction(25, 2)),
        ("0.1s", Fraction(1, 10)),  # exactly, which no float is
        ("1:30", Fraction(90)),
        ("1:02:03.5", Fraction(7447, 2)),
        (" 7 ", 7),
    ],
)
def test_moments(text, moment) -> None:
    found = parse_moment(text, "--start")
    assert found == moment
    assert type(found) is type(moment)


@pytest.mark.parametrize(
    "text", ["", "12.5", "-3", "1e3", "s", "1:2:3:4", "nan", "٣", "5 s", "9" * 40]
)
def test_what_is_no_moment(text) -> None:
    with pytest.raises(UsageError, match=r"--stop .*expected a frame number"):
        parse_moment(text, "--stop")


def taken(span: Span, num: int, rate: Fraction) -> list[int]:
    picker = Picker(span)
    found = [i for i in range(num) if picker.takes(i, i / rate)]
    assert picker.started == bool(found)
    return found


FILM = Fraction(24000, 1001)


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (Span(), list(range(20))),
        (Span(5, 9), [5, 6, 7, 8]),
        (Span(stride=6), [0, 6, 12, 18]),
        (Span(3, 15, 4), [3, 7, 11]),
        # Frame 12 of film is shown at 12 * 1001 / 24000 = 0.5005 s.
        (Span(Fraction(5005, 10000), Fraction(75075, 100000)), [12, 13, 14, 15, 16, 17]),
        (Span(Fraction(5006, 10000), 16), [13, 14, 15]),
        (Span(25), []),
    ],
)
def test_what_is_taken(span, expected) -> None:
    assert taken(span, 20, FILM) == expected
    if expected:
        assert span.expected(20, FILM) == len(expected)


def test_the_length_is_unknown_where_the_source_does_not_say() -> None:
    assert Span(5).expected(None, FILM) is None
    assert Span(5, 25, 2).expected(None, FILM) == 10


@pytest.mark.parametrize(
    "options",
    [
        {"start": 5, "stop": 5},
        {"start": Fraction(9), "stop": Fraction(2)},
        {"stop": 0},
        {"stride": 0},
    ],
)
def test_spans_that_hold_nothing(options) -> None:
    with pytest.raises(UsageError, match="--st"):
        Span(**options)
