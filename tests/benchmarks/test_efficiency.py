"""What the benchmark of efficiency compares: the networks, and the steps, that it says."""

import sys
from pathlib import Path

import pytest
import torch

from unienc_core.contracts import Reporter
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.workflows.bench.clock import Samples
from unienc_core.workflows.bench.setting import Setting

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from efficiency import TASKS, compare_frames, frame_table, together  # noqa: E402
from efficiency_steps import ALL, DISTILLED, compare_steps, step_table, without  # noqa: E402

CPU = torch.device("cpu")


def tiny(name, *overrides):
    return load_preset(name, ["image_size=[64, 128]", *overrides])


@pytest.fixture(scope="module")
def frames():
    return compare_frames(tiny("unified-all-tiny"), tiny("teacher-tiny"), CPU, 2)


def test_every_set_of_networks_says_everything(frames):
    networks = {row["network"]: row for row in frames["networks"]}
    sets = {row["set"]: row for row in frames["sets"]}
    passes = {name: row["encoder_passes"] for name, row in networks.items()}
    assert passes == {
        "student": 1,
        "teacher": 3,
        "depth": 1,
        "pose": 1,
        "motion": 1,
        "segmentation": 1,
    }
    assert sets["a network a task"]["encoder_passes"] == 4
    assert sets["a network a task"]["ratios"]["encoder_passes"] == 4
    for row in sets.values():
        for key in ("parameters", "macs"):
            assert row[key] == sum(networks[name][key] for name in row["networks"])
            assert row["ratios"][key] == pytest.approx(
                row[key] / networks["student"][key], abs=1e-4
            )
    assert sets["student"]["ratios"]["time"]["median"] == 1
    assert 1 < sets["teacher"]["ratios"]["parameters"] < sets["a network a task"]["ratios"]["macs"]


def test_networks_share_nothing_and_repeat_only_the_encoder(frames):
    """The student's heads, one by one, and an encoder each; motion brings its depth and pose."""
    rows = {row["network"]: row["parameters"] for row in frames["networks"]}
    network = build_network(tiny("unified-all-tiny"))
    network.drop_training_parts()
    sizes = network.parameter_counts()
    encoder = sizes["encoders.main"]
    for task, heads in TASKS.items():
        assert rows[task] == encoder + sum(sizes[f"heads.{head}"] for head in heads)
    assert rows["student"] == sum(sizes.values())


def test_a_set_takes_as_long_as_its_networks():
    assert together([Samples((1.0, 5.0)), Samples((2.0, 3.0))]) == Samples((3.0, 8.0))


def test_steps_with_and_without_each_task(tmp_path):
    small = ["streams.triplets.batch_size=1", "streams.labels.batch_size=1"]
    setting = Setting(tiny("unified-all-tiny", *small), None, CPU, None, tmp_path, True, Reporter())
    result = compare_steps(setting, tiny("teacher-tiny"), 1)
    sides = {row["side"]: row for row in result["sides"]}
    assert set(sides["depth and pose"]["terms"]) == {"photometric", "smooth", "above_ground"}
    for side, other, more in (
        ("depth and pose", "without motion", {"cls", "bce", "dice", "contrast"}),
        (
            "depth and pose",
            "without segmentation",
            {"flow_smooth", "mask_smooth", "consistency", "sparsity"},
        ),
        (ALL, DISTILLED, {"distil_flow", "distil_mask"}),
    ):
        assert set(sides[other]["terms"]) - set(sides[side]["terms"]) == more
        assert set(sides[side]["terms"]) < set(sides[other]["terms"])
        assert sides[side]["resident_bytes"] < sides[other]["resident_bytes"]
    teacher = sides[DISTILLED]["resident_bytes"] - sides[ALL]["resident_bytes"]
    assert teacher > 4 * 11e6  # its weights, but no gradients and no optimiser
    assert teacher < 4 * 12e6
    assert sides[ALL]["ratios"] == {
        "time": {"median": 1, "low": 1, "high": 1, "rounds": 1},
        "peak": 1,
    }
    assert len(step_table(result).splitlines()) == 1 + 5


def test_a_preset_without_a_task_has_nothing_of_it():
    preset = without(load_preset("unified-cityscapes"), ("motion", "segmentation"))
    assert set(preset.network.heads) == {"depth", "pose"}
    assert set(preset.streams) == {"triplets"}
    assert preset.stages[0].warp == "ego"


def test_a_row_a_set_and_a_task(frames):
    lines = frame_table(frames).splitlines()
    assert len(lines) == 1 + 4 + 4
    assert lines[1].split()[0] == "student"
    assert lines[1].endswith("1.000 (1.000 to 1.000)")
