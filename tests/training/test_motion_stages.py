"""Stages of scene motion: what each computes, moves and logs, and what is refused beforehand."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from unienc_core.contracts import StepContext
from unienc_core.errors import WiringError
from unienc_core.geometry import camera, se3
from unienc_core.losses import Objective
from unienc_core.presets import preset_from_dict
from unienc_core.training import module as training_module
from unienc_core.training.module import TrainModule
from unienc_core.training.stages import apply_stage, check_stages

SIZE = (32, 48)
MADE = {
    "depth": ("disparity", "disparity_scales"),
    "pose": ("axis_angle", "translation", "T_source_target"),
    "scene_flow": ("complete_flow", "complete_flow_scales"),
    "motion_mask": ("motion_logits", "motion_logits_scales"),
}
MOTION = ["photometric", "flow_smooth", "mask_smooth", "consistency", "sparsity"]
STAGES = [
    {"name": "depth", "trains": ["heads.depth", "heads.pose"], "terms": ["photometric", "smooth"]},
    {
        "name": "flow",
        "trains": ["heads.scene_flow"],
        "warp": "complete",
        "terms": ["photometric", "flow_smooth"],
    },
    {
        "name": "motion",
        "trains": ["heads.pose", "heads.scene_flow", "heads.motion_mask"],
        "warp": "final",
        "terms": MOTION,
    },
    {
        "name": "all",
        "warp": "final",
        "compose": "rotate_independent",
        "terms": [*MOTION, "smooth", "above_ground"],
    },
]


class Predicted(nn.Module):
    """Every prediction is a parameter of its head; notes what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shapes = {
            "depth": (2, 1, *SIZE),
            "pose": (2, 2, 6),
            "scene_flow": (2, 2, 3, *SIZE),
            "motion_mask": (2, 2, 1, *SIZE),
        }
        self.heads = nn.ParameterDict(
            {n: 0.1 * torch.randn(shape, generator=generator) for n, shape in shapes.items()}
        )
        self.asked: set[str] = set()

    @property
    def produces(self):
        return tuple(key for keys in MADE.values() for key in keys)

    def possible(self, streams):
        return {name: list(self.produces) for name in streams}

    def forward(self, streams, outputs):
        self.asked = set(outputs["triplets"])
        depth, pose = self.heads["depth"].sigmoid(), self.heads["pose"]
        flow, logits = self.heads["scene_flow"], self.heads["motion_mask"]
        made = {
            "disparity": depth,
            "disparity_scales": [depth, nn.functional.avg_pool2d(depth, 2)],
            "axis_angle": 0.1 * pose[..., :3],
            "translation": pose[..., 3:],
            "T_source_target": se3.make_T(0.1 * pose[..., :3], pose[..., 3:]),
            "complete_flow": flow,
            "complete_flow_scales": [flow],
            "motion_logits": logits,
            "motion_logits_scales": [logits],
        }
        # As the network: the keys asked for, and those made on the way (flow and mask take a pose).
        heads = {name for name, keys in MADE.items() if self.asked & set(keys)}
        heads |= {"pose"} if heads & {"scene_flow", "motion_mask"} else set()
        return {"triplets": {key: made[key] for name in heads for key in MADE[name]}}


def motion_preset(stages=STAGES):
    return preset_from_dict(
        {
            "name": "motion",
            "image_size": list(SIZE),
            "network": {
                "encoders": {"main": {"type": "timm"}},
                "heads": {"depth": {"type": "unet", "reads": ["main"]}},
            },
            "streams": {"triplets": {"kind": "triplets", "batch_size": 2}},
            "terms": {
                "photometric": {"options": {"automask": False}},
                "smooth": {"weight": 1e-3},
                "flow_smooth": {"weight": 1e-3, "ramp": True},
                "mask_smooth": {"weight": 0.1, "ramp": True},
                "consistency": {"weight": 5.0, "ramp": True},
                "sparsity": {"weight": 0.1, "ramp": True},
                "above_ground": {"weight": 0.1, "ramp": True},
            },
            "stages": [{"steps": 10, "steps_per_ramp": 30, **stage} for stage in stages],
        }
    )


def batch():
    generator = torch.Generator().manual_seed(1)
    return {
        "target_image": torch.rand(2, 3, *SIZE, generator=generator),
        "source_images": torch.rand(2, 2, 3, *SIZE, generator=generator),
        "K": camera.K_from_fov(60, *SIZE).expand(2, 3, 3),
    }


def run(index, step=10):
    preset = motion_preset()
    network = Predicted()
    module = TrainModule(network, Objective(preset), preset)  # type: ignore[arg-type]
    stage = preset.stages[index]
    apply_stage(network, stage)
    total, logs = module({"triplets": batch()}, stage, StepContext(step, stage.steps_per_ramp))
    total.backward()
    return network, {key: value.item() for key, value in logs.items()}


def test_every_stage_moves_its_heads_and_logs_its_losses():
    for index, stage in enumerate(motion_preset().stages):
        network, logs = run(index)
        moving = {n for n, p in network.heads.items() if p.grad is not None and p.grad.abs().max()}
        wanted = {f"heads.{name}" for name in moving}
        assert wanted == set(stage.trains) or (stage.trains == ("*",) and len(moving) == 4)
        assert {k for k in logs if k.startswith("loss/")} == {
            "loss/total",
            *(f"loss/{term}" for term in stage.terms),
        }
        assert all(value == value for value in logs.values())


def test_a_stage_asks_for_what_it_reads_only(monkeypatch):
    keys = {"disparity_scales", "T_source_target", "complete_flow_scales", "motion_logits_scales"}
    keys_of = [
        {"disparity_scales", "T_source_target"},
        {"disparity_scales", "complete_flow_scales"},
        keys,
        keys,
    ]
    flows = {"rigid_flow", "independent_flow", "final_flow", "motion_mask"}
    motion = {"independent_flow", "motion_mask", "rigid_flow"}
    added_of = [set(), set(), motion, motion]
    seen = {}
    synthesise = training_module.synthesise

    def watching(*args, **options):
        seen["made"] = set(synthesise(*args, **options))
        return synthesise(*args, **options)

    monkeypatch.setattr(training_module, "synthesise", watching)
    for index, (expected, added) in enumerate(zip(keys_of, added_of, strict=True)):
        network, _ = run(index)
        assert network.asked == expected
        assert seen["made"] & flows == added


def test_ramped_terms_start_at_nothing():
    _, start = run(2, step=0)
    assert start["loss/total"] == pytest.approx(start["loss/photometric"])
    _, full = run(2, step=10)
    terms = {"photometric": 1, "flow_smooth": 1e-3, "mask_smooth": 0.1, "consistency": 5}
    terms["sparsity"] = 0.1
    weighted = sum(w * full[f"loss/{name}"] for name, w in terms.items())
    assert full["loss/total"] == pytest.approx(weighted, rel=1e-5)


def test_the_log_tells_flows_and_mask_of_each_stage():
    flows = {f"mean_{kind}_flow" for kind in ("complete", "rigid", "independent")}
    mask = {"mean_motion_mask", "motion_mask_over_half"}
    logged = [run(index)[1] for index in range(4)]
    expected = [set(), flows, flows | mask, flows | mask]
    assert [logs.keys() & (flows | mask) for logs in logged] == expected
    logs = logged[-1]
    assert logs["mean_motion_mask"] == pytest.approx(0.5, abs=0.02)
    assert 0 < logs["mean_rigid_flow"] < 10


@pytest.mark.parametrize(
    ("stage", "heads", "message"),
    [
        (1, ("depth", "pose"), "stages.flow: warp 'complete' needs a scene flow head, since"),
        (
            2,
            ("depth", "pose"),
            "stages.motion: warp 'final' needs a scene flow head and a",
        ),
        (
            2,
            ("depth", "pose", "scene_flow"),
            "motion: warp 'final' needs a motion mask head,",
        ),
    ],
)
def test_a_missing_head_is_one_line_before_anything_runs(stage, heads, message):
    preset = motion_preset([{**STAGES[stage], "trains": ["*"]}])
    network = SimpleNamespace(
        produces=[key for name in heads for key in MADE[name]],
        named_parameters=lambda: [("heads.depth.x", None)],
    )
    with pytest.raises(WiringError, match=message) as caught:
        check_stages(network, Objective(preset), preset)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    network.produces = [key for keys in MADE.values() for key in keys]
    check_stages(network, Objective(preset), preset)  # type: ignore[arg-type]
