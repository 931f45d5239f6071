"""Every preset that ships builds, and its network learns from a batch."""

import pytest
import torch

from unienc_core.models.network import build_network
from unienc_core.presets import load_preset, preset_names


def batch_of(kind: str, size: tuple[int, int]) -> dict:
    """A random batch of two."""
    K = torch.eye(3).repeat(2, 1, 1)
    if kind == "triplets":
        return {
            "target_image": torch.rand(2, 3, *size),
            "source_images": torch.rand(2, 2, 3, *size),
            "source_offsets": torch.tensor([[-1, 1], [-1, 1]]),
            "K": K,
        }
    if kind == "sequences":
        return {"sequence_images": torch.rand(2, 16, 3, *size)}
    return {
        "image": torch.rand(2, 3, *size),
        "K": K,
        "task": torch.tensor([0, 2]),
        "target_masks": [torch.rand(2, *size) > 0.5, torch.rand(1, *size) > 0.5],
        "target_classes": [torch.tensor([0, 13]), torch.tensor([2])],
    }


@pytest.mark.parametrize("name", preset_names())
def test_preset_builds_and_learns(name, smaller):
    torch.manual_seed(0)
    preset = load_preset(name, smaller(name))
    network = build_network(preset, load_pretrained=False).train()
    streams = {k: batch_of(s.kind, preset.image_size) for k, s in preset.streams.items()}
    made = network(streams)
    if "depth" in preset.network.heads:
        scales = preset.network.heads["depth"].options["scales"]
        assert len(made["triplets"]["disparity_scales"]) == scales
    values = [x for of_stream in made.values() for x in of_stream.values()]
    tensors = [x for value in values for x in (value if isinstance(value, list) else [value])]
    sum(x.square().sum() for x in tensors if x.is_floating_point()).backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_the_tiny_preset_is_tiny():
    counts = build_network(load_preset("unified-tiny")).parameter_counts()
    assert counts["encoders.main"] <= 5e6
    assert sum(counts.values()) <= 8e6


FULL_SIZE = {
    "unified-cityscapes": {
        "encoders.main": 27.52,
        "heads.depth": 12.91,
        "heads.pose": 15.42,
        "heads.scene_flow": 56.74,
        "heads.motion_mask": 56.67,
        "heads.masks": 23.18,
    },
    "teacher-cityscapes": {
        "encoders.main": 27.52,
        "encoders.pose": 11.19,  # a ResNet18 without its classifier, with six input channels
        "encoders.motion": 11.19,
        "heads.depth": 12.91,
        "heads.pose": 1.31,
        "heads.scene_flow": 6.38,
        "heads.motion_mask": 6.35,
        "heads.masks": 23.18,
    },
}
"""Millions of parameters that published networks have in inference."""


@pytest.mark.parametrize(("name", "sizes"), FULL_SIZE.items(), ids=list(FULL_SIZE))
def test_the_full_size_networks_are_as_large_as_published(name, sizes):
    with torch.device("meta"):
        network = build_network(load_preset(name), load_pretrained=False)
    network.drop_training_parts()
    counts = network.parameter_counts()
    assert {node: round(count / 1e6, 2) for node, count in counts.items()} == sizes


def test_table_iv_differs_in_the_encoder_alone():
    frozen, unfrozen, imagenet = (
        load_preset(f"steering-{name}") for name in ("frozen", "unfrozen", "imagenet")
    )
    for other in (unfrozen, imagenet):
        for part in ("image_size", "streams", "terms", "optimizer"):
            assert getattr(frozen, part) == getattr(other, part)
        assert frozen.network.heads == other.network.heads
    assert frozen.network == unfrozen.network
    assert frozen.stages == imagenet.stages
    assert unfrozen.stages[0].trains == ("*",)
    pretrained = [p.network.encoders["main"].options.pop("pretrained") for p in (frozen, imagenet)]
    assert pretrained == [False, True]
    assert frozen.network == imagenet.network
    unified = load_preset("unified-cityscapes").network.encoders["main"].options
    assert {k: v for k, v in unified.items() if k != "pretrained"} == (
        frozen.network.encoders["main"].options
    )


def test_teacher_and_student_differ_in_nothing_but_encoders_and_who_reads_them():
    for size in ("cityscapes", "tiny"):
        names = (
            (f"unified-{size}" if size == "cityscapes" else "unified-all-tiny"),
            f"teacher-{size}",
        )
        student, teacher = (load_preset(name) for name in names)
        for part in ("image_size", "eval_size", "depth", "streams", "optimizer"):
            assert getattr(student, part) == getattr(teacher, part)
        assert student.network.heads["masks"] == teacher.network.heads["masks"]
        assert student.network.heads["depth"] == teacher.network.heads["depth"]
        own = {name: term for name, term in student.terms.items() if "distil" not in name}
        assert own == teacher.terms
        for ours, theirs in zip(student.stages, teacher.stages, strict=True):
            kept = tuple(term for term in ours.terms if "distil" not in term)
            assert ours.model_copy(update={"trains": theirs.trains, "terms": kept}) == theirs
