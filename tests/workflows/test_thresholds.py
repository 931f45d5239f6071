"""--fail-under and --fail-over."""

import math

import pytest

from unienc_core.errors import ThresholdError, UsageError
from unienc_core.workflows.thresholds import check_thresholds, parse_thresholds

METRICS = {"abs_rel": 0.3, "a1": 0.6, "rmse": None, "sq_rel": math.nan}


def test_figures_within_their_limits_pass() -> None:
    check_thresholds(METRICS)
    check_thresholds(METRICS, ["a1=0.6", "a1 = 0.1"], ["abs_rel=0.3", "abs_rel=1e0"])


@pytest.mark.parametrize(
    ("under", "over", "words"),
    [
        (["a1=0.61"], [], "a1 = 0.6 is under 0.61"),
        ([], ["abs_rel=0.29"], "abs_rel = 0.3 is over 0.29"),
        (["a1=0.7"], ["abs_rel=0.1"], "a1 = 0.6 is under 0.7; abs_rel = 0.3 is over 0.1"),
        ([], ["rmse=9"], r"rmse was not measured \(--fail-over 9\)"),
        (["sq_rel=0"], [], "sq_rel = nan is under 0"),
        ([], ["sq_rel=0"], "sq_rel = nan is over 0"),
    ],
)
def test_figures_beyond_fail(under, over, words: str) -> None:
    with pytest.raises(ThresholdError, match=words) as caught:
        check_thresholds(METRICS, under, over)
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("abs_re=0.1", r"no metric 'abs_re' \(did you mean 'abs_rel'\?\); known: abs_rel, a1"),
        ("a1", "expected NAME=VALUE"),
        ("a1=", "'' is not a number"),
        ("a1=good", "'good' is not a number"),
        ("a1=nan", "'nan' is not a number"),
        ("a1=1=2", "'1=2' is not a number"),
    ],
)
def test_slips_are_usage_errors(spec: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_thresholds([spec], METRICS, "--fail-under")
    assert caught.value.exit_code == 2
    assert f"--fail-under {spec}" in str(caught.value)
