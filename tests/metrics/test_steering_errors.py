"""Errors of steering and the baselines, by hand."""

import numpy as np
import pytest

from unienc_core.metrics.steering import (
    fold_statistics,
    mean_baseline,
    persistence,
    persistence_after,
    sign_test,
    steering_errors,
    zero_baseline,
)

NAN = np.nan
LABELS = np.array([1.0, 3.0, NAN, -2.0, 4.0], np.float32)


def test_errors_are_means_over_what_is_known():
    found = steering_errors(np.array([0.0, 1.0, 5.0, NAN, 1.0]), LABELS)
    assert found == {"steering_mse": pytest.approx(14 / 3), "steering_mae": pytest.approx(2.0)}
    assert steering_errors(np.full(2, NAN), np.zeros(2)) == {
        "steering_mse": None,
        "steering_mae": None,
    }


def test_zero_and_mean():
    assert steering_errors(zero_baseline(LABELS), LABELS)["steering_mse"] == pytest.approx(30 / 4)
    predicted = mean_baseline(LABELS, [np.array([1.0, NAN]), np.array([4.0, 4.0])])
    assert predicted.tolist() == [3.0] * 5
    assert np.isnan(mean_baseline(LABELS, [])).all()


def test_persistence_by_frames():
    np.testing.assert_array_equal(persistence(LABELS, 1), [NAN, 1, 3, NAN, -2])
    np.testing.assert_array_equal(persistence(LABELS, 3), [NAN, NAN, NAN, 1, 3])
    assert np.isnan(persistence(LABELS, 9)).all()


def test_persistence_by_time_takes_the_newest_label_that_is_old_enough():
    times = np.array([0.0, 0.1, 0.3, 0.6, 0.7])
    np.testing.assert_array_equal(persistence_after(LABELS, times, 0.3), [NAN, NAN, 1, NAN, NAN])
    np.testing.assert_array_equal(persistence_after(LABELS, times, 0.5), [NAN, NAN, NAN, 3, 3])
    even = np.arange(5) / 20
    np.testing.assert_array_equal(persistence_after(LABELS, even, 0.1), persistence(LABELS, 2))


def test_figures_over_folds_by_hand():
    found = fold_statistics([1.0, 2.0, 6.0])
    assert found["mean"] == 3
    assert found["std"] == pytest.approx((14 / 3) ** 0.5)
    assert found["std1"] == pytest.approx(7**0.5)
    assert found["median"] == 2
    assert fold_statistics([4.0]) == {"mean": 4.0, "std": 0.0, "std1": None, "median": 4.0}


def test_sign_test_by_hand():
    """Nine of ten: 2 (10 + 1) / 1024; a tie counts nothing, and an even division proves nothing."""
    assert sign_test([-1.0] * 9 + [2.0]) == {"lower": 9, "higher": 1, "p": pytest.approx(22 / 1024)}
    assert sign_test([-1.0, 0.0, 1.0]) == {"lower": 1, "higher": 1, "p": 1.0}
    assert sign_test([]) == {"lower": 0, "higher": 0, "p": 1.0}
    assert sign_test([3.0] * 5) == {"lower": 0, "higher": 5, "p": pytest.approx(2 / 32)}
