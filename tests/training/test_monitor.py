"""Early collapse is said once for each sign, and a healthy run says nothing."""

import json

import pytest
import torch

from unienc_core.training.history import History, Window
from unienc_core.training.monitor import BLACK_MASK, FIRST_STEP, CollapseMonitor
from unienc_core.training.vital_signs import vital_signs

HEALTHY = {
    "photometric/warped": 0.14,
    "photometric/identity": 0.18,
    "photometric/automask_keep": 0.8,
    "mean_disparity": 0.1,
    "mean_abs_tx": 0.002,
    "mean_abs_ty": 0.001,
    "mean_abs_tz": 0.02,
    "mean_motion_mask": 0.06,
}


def watch(monitor, means, start, stop):
    return [line for step in range(start, stop + 1, 10) for line in monitor.update(means, 10, step)]


@pytest.mark.parametrize(
    ("sick", "named"),
    [
        ({"photometric/warped": 0.179}, "at the identity level"),
        ({"mean_abs_tx": 0.03}, "a car moves along z"),
        ({"mean_disparity": 0.01}, "running off to infinity"),
        ({"photometric/automask_keep": 0.3}, "auto-mask keeps 30%"),
        ({"mean_motion_mask": 0.9 * BLACK_MASK}, "the motion mask is black"),
    ],
)
def test_each_sign_is_said_once_and_not_too_early(sick, named):
    monitor = CollapseMonitor()
    assert watch(monitor, {**HEALTHY, **sick}, 10, FIRST_STEP - 1) == []
    said = watch(monitor, {**HEALTHY, **sick}, FIRST_STEP, 1000)
    assert len(said) == 1
    assert named in said[0]
    assert f"step {FIRST_STEP}" in said[0]
    assert list(monitor.warnings.values()) == [FIRST_STEP]


def test_a_healthy_run_and_one_without_these_values_say_nothing():
    assert watch(CollapseMonitor(), HEALTHY, 10, 2000) == []
    assert watch(CollapseMonitor(), {"loss/total": 1.0}, 10, 2000) == []


def test_one_bad_window_is_not_a_collapse():
    monitor = CollapseMonitor()
    watch(monitor, HEALTHY, 10, 500)
    assert monitor.update({**HEALTHY, "mean_disparity": 0.0}, 10, 510) == []


def test_the_state_survives_json():
    first = CollapseMonitor()
    sick = {**HEALTHY, "mean_disparity": 0.01}
    watch(first, sick, 10, 500)
    second = CollapseMonitor()
    second.restore(json.loads(json.dumps(first.state())))
    assert watch(second, sick, 510, 1000) == []
    assert second.warnings == {"disparity": FIRST_STEP}
    watch(first, sick, 510, 1000)
    assert first.state() == second.state()


def testvital_signs():
    translation = torch.tensor([[[1.0, -2.0, 3.0], [-3.0, 0.0, 1.0]]])
    signs = vital_signs({"disparity": torch.full((1, 1, 2, 2), 0.25), "translation": translation})
    assert {k: v.item() for k, v in signs.items()} == {
        "mean_disparity": 0.25,
        "mean_abs_tx": 2.0,
        "mean_abs_ty": 1.0,
        "mean_abs_tz": 2.0,
    }


def test_vital_signs_of_motion():
    """A plane at z = 2 m; the camera goes 0.3 m ahead, the flow says (0.4, 0, -0.3) m."""
    T_st = torch.eye(4).repeat(1, 2, 1, 1)
    T_st[..., 2, 3] = -0.3
    flow = torch.tensor([0.4, 0.0, -0.3]).view(1, 1, 3, 1, 1).expand(1, 2, 3, 2, 3)
    logits = torch.tensor([-2.0, 3.0, 0.0, -1.0]).view(1, 2, 1, 1, 2)
    values = {
        "motion_logits": logits.requires_grad_(),
        "complete_flow": flow,  # half size
        "depth": torch.full((1, 1, 4, 6), 2.0),
        "K": torch.tensor([[[5.0, 0.0, 2.5], [0.0, 5.0, 1.5], [0.0, 0.0, 1.0]]]),
        "T_source_target": T_st,
    }
    signs = vital_signs(values)
    assert not any(sign.requires_grad for sign in signs.values())
    assert {k: v.item() for k, v in signs.items()} == pytest.approx(
        {
            "mean_motion_mask": logits.detach().sigmoid().mean().item(),
            "motion_mask_over_half": 0.25,
            "mean_complete_flow": 0.5,
            "mean_rigid_flow": 0.3,
            "mean_independent_flow": 0.4,
        }
    )


def test_window_means_survive_json():
    window = Window()
    for value in (0.1, 0.2, 0.7):
        window.add({"a": torch.tensor(value)})
    copy = Window()
    copy.restore(json.loads(json.dumps(window.state())), torch.device("cpu"))
    for each in (window, copy):
        each.add({"a": torch.tensor(1.0), "b": torch.tensor(3.0)})
    assert window.means() == copy.means()
    assert window.means() == {"a": pytest.approx(0.5), "b": 3.0}


def test_lines_beyond_the_checkpoint_and_torn_ones_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}\n{"ste')
    with History(path, 20) as history:
        history.write({"step": 30, "loss": float("nan")})
    assert path.read_text() == '{"step": 10}\n{"step": 20}\n{"step": 30, "loss": null}\n'
