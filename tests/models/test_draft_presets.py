"""The contract can say every system that is planned: drafts build, run and learn at toy size."""

from pathlib import Path

import draft_nodes  # noqa: F401 - registers the toy components that the drafts name
import pytest
import torch

from unienc_core.models.network import Network, build_network
from unienc_core.presets import Preset, load_preset, preset_from_dict

DRAFTS = sorted((Path(__file__).parent / "draft_presets").glob("*.yaml"))
HEIGHT, WIDTH, BATCH, SOURCES, FRAMES = 64, 128, 2, 2, 3

SMALL_BACKBONES = {
    "swin_tiny_patch4_window7_224": {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1] * 4},
    "resnet18": {"channels": [8, 8, 16, 16], "layers": [2, 1, 1, 1]},
    "hrnet_w18_small_v2": {},
}


def small(path: Path, *overrides: str) -> Preset:
    """The draft with the same wiring and tiny parts."""
    raw = load_preset(str(path), overrides).model_dump(mode="json")
    raw["image_size"] = [HEIGHT, WIDTH]
    for encoder in raw["network"]["encoders"].values():
        options = encoder["options"]
        options["model_args"] = options.get("model_args", {}) | SMALL_BACKBONES[options["name"]]
    for head in raw["network"]["heads"].values():
        small_options = {
            "unet": {"channels": [8] * 5},
            "multi_scale": {"widths": [8, 8, 8, 8], "squeeze": 8},
            "single_scale": {"squeeze": 8},
            "scene_flow": {"squeeze": 8},
            "motion_mask": {"squeeze": 8},
            "toy_steering": {"frames": FRAMES},
            "masks": {
                "width": 16,
                "heads": 2,
                "pixel_layers": 1,
                "pixel_hidden": 16,
                "queries": 8,
                "query_layers": 1,
                "layers": 2,
                "hidden": 16,
                "context": 2,
                "text_width": 16,
                "text_layers": 1,
                "text_heads": 2,
                "train_points": 64,
            },
        }
        head["options"] |= small_options.get(head["type"], {})
    return preset_from_dict(raw)


def label(key: str) -> torch.Tensor | list[torch.Tensor]:
    made = {
        "depth_gt": lambda: 50 * torch.rand(BATCH, 1, HEIGHT, WIDTH),
        "semantic_gt": lambda: torch.randint(0, 19, (BATCH, HEIGHT, WIDTH)),
        "instance_gt": lambda: torch.randint(0, 5, (BATCH, HEIGHT, WIDTH)),
        "curvature_gt": lambda: torch.randn(BATCH),
        "task": lambda: torch.tensor([0, 2]),
        "target_masks": lambda: [torch.rand(n, HEIGHT, WIDTH) > 0.5 for n in (3, 0)],
        "target_classes": lambda: [torch.zeros(n, dtype=torch.long) for n in (3, 0)],
    }
    return made[key]()


def batches(preset: Preset) -> dict[str, dict]:
    image = (BATCH, 3, HEIGHT, WIDTH)
    kinds = {
        "triplets": lambda: {
            "target_image": torch.rand(image),
            "source_images": torch.rand(BATCH, SOURCES, 3, HEIGHT, WIDTH),
            "source_offsets": torch.tensor([[-1, 1], [1, -1]]),
            "K": torch.eye(3).repeat(BATCH, 1, 1),
        },
        "labels": lambda: {"image": torch.rand(image), "K": torch.eye(3).repeat(BATCH, 1, 1)},
        "sequences": lambda: {"sequence_images": torch.rand(BATCH, FRAMES, 3, HEIGHT, WIDTH)},
    }
    return {
        name: kinds[stream.kind]() | {key: label(key) for key in stream.labels}
        for name, stream in preset.streams.items()
    }


def total(predictions: dict) -> torch.Tensor:
    """A scalar that depends on everything predicted."""
    tensors = [
        x
        for made in predictions.values()
        for value in made.values()
        for x in (value if isinstance(value, list) else [value])
    ]
    return sum(x.float().square().sum() for x in tensors if x.is_floating_point())


def build(preset: Preset) -> Network:
    return build_network(preset, load_pretrained=False)


def test_all_planned_systems_have_a_draft():
    systems = {"unified-student", "unified-teacher", "steering", "moreau", "kinfu"}
    systems |= {"erkent-teacher", "erkent-student"}
    assert {p.stem for p in DRAFTS} == systems


@pytest.mark.parametrize("path", DRAFTS, ids=lambda p: p.stem)
def test_draft_runs_forward_and_backward(path):
    torch.manual_seed(0)
    preset = small(path)
    network = build(preset).train()
    streams = batches(preset)
    made = network(streams)
    assert set().union(*made.values()) == set(network.produces)
    total(made).backward()
    for node in network.wiring.nodes:
        parameters = list(node.module.parameters())
        gradients = [p.grad for p in parameters if p.grad is not None]
        assert gradients or not parameters, node.path
        assert all(torch.isfinite(g).all() for g in gradients), node.path

    network.eval()
    with torch.no_grad():
        evaluated = network(streams)
    training_only = {k for n in network.wiring.nodes for k in n.module.train_produces}
    assert set().union(*evaluated.values()) == set(network.produces) - training_only


def test_shapes_follow_the_conventions():
    preset = small(next(p for p in DRAFTS if p.stem == "unified-student"))
    made = build(preset).train()(batches(preset))
    triplets, labels = made["triplets"], made["labels"]
    assert triplets["disparity"].shape == (BATCH, 1, HEIGHT, WIDTH)
    assert triplets["T_source_target"].shape == (BATCH, SOURCES, 4, 4)
    assert triplets["complete_flow"].shape == (BATCH, SOURCES, 3, HEIGHT, WIDTH)
    assert [x.shape[3] for x in triplets["motion_logits_scales"]] == [
        HEIGHT // 2**i for i in range(4)
    ]
    assert [len(m) for m in labels["point_targets_layers"]] == [3] * 3
    assert "class_logits" not in triplets
    assert "T_source_target" not in labels


def test_image_and_depth_can_enter_one_encoder_together():
    path = next(p for p in DRAFTS if p.stem == "erkent-teacher")
    preset = small(
        path,
        "network.encoders={rgbd: {type: timm, reads: [image, depth_gt], options: {name: "
        "hrnet_w18_small_v2, model_args: {feature_location: '', out_indices: [1, 2, 3, 4]}}}}",
        "network.necks.fusion.reads=[rgbd, rgbd]",
    )
    network = build(preset)
    assert network.encoders["rgbd"].in_channels == 4
    assert network(batches(preset))["labels"]["depth"].shape == (BATCH, 1, HEIGHT, WIDTH)


def test_a_student_of_frames_follows_a_frame_neck_through_streaming():
    preset = small(next(p for p in DRAFTS if p.stem == "moreau"))
    network = build(preset).eval()
    batch = batches(preset)["triplets"]
    target, source = batch["target_image"], batch["source_images"][:, 1]
    with torch.no_grad():
        whole = network({"s": batch})["s"]
        now, before = network.encode(target), network.encode(source)
        frame = network.decode_frame(now, target)
        pair = network.decode_pair(before, now, torch.cat([source, target], 1))
    assert "mtan.pose" in now
    torch.testing.assert_close(frame["center_offsets"], whole["center_offsets"])
    torch.testing.assert_close(pair["T_source_target"][:, 0], whole["T_source_target"][:, 1])
