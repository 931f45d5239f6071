"""The loss of steering against Eq. 5 in closed form: units, huge and unknown labels, processes."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from unienc_core.contracts import StepContext
from unienc_core.errors import PresetError
from unienc_core.losses.steering import SteeringError, suggested_curve_factor

F64 = torch.float64
ALONE = StepContext()


def values(predicted, labels, name="curvature", dtype=F64) -> dict[str, torch.Tensor]:
    return {
        name: torch.tensor(predicted, dtype=dtype),
        f"{name}_gt": torch.tensor(labels, dtype=torch.float32),
    }


def test_the_loss_is_the_published_quotient():
    # Labels of 0 and -10 per km: weights 1 and e; errors 2 and 3.
    given = values([2.0, -7.0], [0.0, -10.0])
    expected = (4 + math.e * 9) / (1 + math.e)
    term = SteeringError()
    assert term(given, ALONE).item() == pytest.approx(expected, rel=1e-9)
    assert term.logs["mse"].item() == pytest.approx(6.5)
    assert SteeringError(curve_factor=0.0)(given, ALONE).item() == pytest.approx(6.5)
    assert SteeringError(curve_factor=0.2)(given, ALONE).item() == pytest.approx(
        (4 + math.e**2 * 9) / (1 + math.e**2)
    )


def test_huge_labels_do_not_overflow():
    given = values([0.0, 0.0, 0.0], [20000.0, 20010.0, -5.0], dtype=torch.float32)
    loss = SteeringError()(given, ALONE)
    a, b = 20000.0**2, 20010.0**2
    assert loss.item() == pytest.approx((a + math.e * b) / (1 + math.e), rel=1e-5)


def test_the_last_label_counts_where_one_value_is_predicted_and_all_where_all_are():
    labels = [[10.0, 0.0], [0.0, -10.0]]
    one = SteeringError()(values([1.0, -8.0], labels), ALONE).item()
    assert one == pytest.approx((1 + math.e * 4) / (1 + math.e))
    every = SteeringError()(values([[10.0, 1.0], [1.0, -8.0]], labels), ALONE).item()
    assert every == pytest.approx((0 + 1 + 1 + math.e * 4) / (2 + 2 * math.e))


def test_unknown_labels_count_nothing():
    nan = math.nan
    given = values([[5.0, 2.0], [9.0, -7.0]], [[nan, 0.0], [nan, -10.0]])
    term = SteeringError()
    assert term(given, ALONE).item() == pytest.approx((4 + math.e * 9) / (1 + math.e))
    assert term.logs["mse"].item() == pytest.approx(6.5)
    leaf = torch.ones(2, requires_grad=True)
    loss = term({"curvature": leaf, "curvature_gt": torch.tensor([nan, nan])}, ALONE)
    assert loss == 0
    loss.backward()
    assert not leaf.grad.any()


def test_lambda_belongs_to_a_unit():
    assert SteeringError(predicts="curvature_5m").requires == ("curvature_5m", "curvature_5m_gt")
    with pytest.raises(PresetError, match="says nothing of steering_wheel_deg in deg; give curve"):
        SteeringError(predicts="steering_wheel_deg")
    with pytest.raises(PresetError, match="no label 'curve'; labels are curvature"):
        SteeringError(predicts="curve")
    term = SteeringError(predicts="steering_unit", curve_factor=2.0)
    given = values([0.0, 0.0], [0.0, 0.5], name="steering_unit")
    assert term(given, ALONE).item() == pytest.approx(math.e * 0.25 / (1 + math.e))


def test_a_suggested_lambda_follows_the_unit():
    labels = np.append(np.linspace(-1, 1, 201), np.nan)
    assert suggested_curve_factor(labels) == pytest.approx(1.5 / 0.99, rel=0.02)
    # The same weights, whatever the labels are counted in.
    assert suggested_curve_factor(60 * labels) * 60 == pytest.approx(suggested_curve_factor(labels))
    assert suggested_curve_factor(np.zeros(3)) == suggested_curve_factor(np.empty(0)) == 0


def test_gradients():
    labels = torch.tensor([0.0, -30.0, 12.0])

    def loss(predicted):
        return SteeringError()({"curvature": predicted, "curvature_gt": labels}, ALONE)

    assert gradcheck(loss, torch.randn(3, dtype=F64, requires_grad=True))


@pytest.mark.parametrize("rows", [(2, 2), (1, 3)])
def test_the_mean_over_processes_is_the_loss_of_the_whole_batch(rows):
    predicted = torch.tensor([3.0, -2.0, 0.5, 40.0], dtype=F64, requires_grad=True)
    labels = torch.tensor([500.0, math.nan, -480.0, 20.0])
    whole = SteeringError()({"curvature": predicted, "curvature_gt": labels}, ALONE)
    (expected,) = torch.autograd.grad(whole, predicted)
    size = len(rows)
    together, brought = threading.Barrier(size, timeout=30), [torch.empty(0)] * size

    def add_up(rank: int, x: torch.Tensor) -> torch.Tensor:
        brought[rank] = x.detach()
        together.wait()
        total = torch.stack(brought).sum(0)
        together.wait()
        return total

    def run(rank: int) -> torch.Tensor:
        context = StepContext(processes=size, rank=rank, sum_over_processes=partial(add_up, rank))
        share = {"curvature": predicted.split(rows)[rank], "curvature_gt": labels.split(rows)[rank]}
        return SteeringError()(share, context)

    with ThreadPoolExecutor(size) as pool:
        mean = torch.stack(list(pool.map(run, range(size)))).mean()
    torch.testing.assert_close(mean, whole)
    torch.testing.assert_close(torch.autograd.grad(mean, predicted)[0], expected)
