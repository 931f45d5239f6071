"""Motion heads: in whose order they see the frames, and in whose sign they speak."""

import pytest
import torch
from motion_toys import RESNET, SIZE, SWIN, inputs, only_pose, shaken, site
from torch import nn

from unienc_core.contracts import NodeInputs
from unienc_core.errors import WiringError
from unienc_core.models.heads import MotionMask, SceneFlow
from unienc_core.models.network import Network, build_network
from unienc_core.presets import preset_from_dict


def seen_by(head: nn.Module, given: NodeInputs):
    """What the decoder is handed, and what the head makes of it."""
    seen = []
    head.decode.register_forward_pre_hook(lambda _, args: seen.append(args))
    made = head(given)
    return *seen[0], made


def normalised(images):
    shape = (1, -1, 1, 1)
    mean = torch.tensor([0.485, 0.456, 0.406] * (images.shape[1] // 3)).double().view(shape)
    std = torch.tensor([0.229, 0.224, 0.225] * (images.shape[1] // 3)).double().view(shape)
    return (images - mean) / std


def test_with_target_last_the_decoder_sees_source_then_target():
    given = inputs(SWIN)
    head = SceneFlow(site(SWIN)).double()
    assert head.requires == ("axis_angle", "translation")
    levels, images, pose, _ = seen_by(head, given)
    assert all(a is b for a, b in zip(levels, given.pyramids[0].levels, strict=True))
    torch.testing.assert_close(images, normalised(given.images))
    translation, axis_angle = given.values["translation"], given.values["axis_angle"]
    torch.testing.assert_close(pose, 100 * torch.cat([translation, axis_angle], 1))


OFFSETS = torch.tensor([[-1], [1], [-2]])
SIGNS = torch.tensor([-1.0, 1, -1]).double()[:, None]


@pytest.mark.parametrize("frames", [2, 1], ids=["frames", "an encoder of pairs"])
def test_in_temporal_order_the_decoder_sees_the_earlier_frame_and_the_motion_forwards(frames):
    given = inputs(SWIN, frames)
    given.values["source_offsets"] = OFFSETS
    where = site(SWIN, frames, temporal=frames == 1)
    head = only_pose(SceneFlow(where, pair_order="temporal"))
    assert head.requires == ("axis_angle", "translation", "source_offsets")
    levels, images, pose, made = seen_by(head, given)
    source, target = given.images.chunk(2, 1)
    swapped = torch.cat([target[1], source[1]])
    expected = torch.stack([given.images[0], swapped, given.images[2]])
    torch.testing.assert_close(images, normalised(expected))
    translation, axis_angle = given.values["translation"], given.values["axis_angle"]
    torch.testing.assert_close(pose, 100 * SIGNS * torch.cat([translation, axis_angle], 1))
    # And yet the flow is X_source - X_target: of a head that says the translation, that one.
    torch.testing.assert_close(made["complete_flow"][..., 0, 0], 0.5 * translation)
    for found, level in zip(levels, given.pyramids[0].levels, strict=True):
        source, target = level.chunk(2, 1)
        swapped = torch.cat([target[1], source[1]]) if frames == 2 else level[1]
        torch.testing.assert_close(found, torch.stack([level[0], swapped, level[2]]))


def test_a_mask_has_no_sign():
    given = inputs(SWIN)
    given.values["source_offsets"] = OFFSETS
    head = MotionMask(site(SWIN), pair_order="temporal").double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.decode.from_pose.bias.fill_(2.0)
    torch.testing.assert_close(
        head(given)["motion_logits"], torch.full((3, 1, *SIZE), 0.01, dtype=torch.float64)
    )


def triple_inputs() -> NodeInputs:
    """Two samples; the second lists the later source first."""
    given = inputs(RESNET, frames=1, count=2)
    given.images = torch.rand(2, 9, *SIZE, dtype=torch.float64)
    values = {k: 0.01 * torch.randn(2, 2, 3).double() for k in ("axis_angle", "translation")}
    given.values = values | {"source_offsets": torch.tensor([[-1, 1], [1, -1]])}
    return given


def test_three_frames_give_the_flow_of_both_sources_at_once():
    given = triple_inputs()
    where = site(RESNET, frames=1, view="triple")
    head = shaken(SceneFlow(where), 0.1)
    _, images, pose, made = seen_by(head, given)
    torch.testing.assert_close(images, normalised(given.images))
    six = torch.cat([given.values["translation"], given.values["axis_angle"]], -1)
    forwards = torch.stack([six[0, 1] - six[0, 0], six[1, 0] - six[1, 1]]) / 2
    torch.testing.assert_close(pose, 100 * forwards)
    expected = [(2, 2, 3, SIZE[0] // 2**k, SIZE[1] // 2**k) for k in range(4)]
    assert [tuple(x.shape) for x in made["complete_flow_scales"]] == expected
    flow = made["complete_flow"]
    torch.testing.assert_close(flow[:, 0], -flow[:, 1])
    value = 0.005 * head.decode(given.pyramids[0].levels, images, pose)[-1]
    torch.testing.assert_close(flow[0, 1], value[0])  # + for the later source
    torch.testing.assert_close(flow[1, 0], value[1])
    mask = shaken(MotionMask(where), 0.1)(given)["motion_logits"]
    assert mask.shape == (2, 2, 1, *SIZE)
    assert torch.equal(mask[:, 0], mask[:, 1])


def test_what_does_not_fit_is_refused():
    with pytest.raises(WiringError, match="needs view: pair or triple"):
        SceneFlow(site(SWIN, view="frame"))
    with pytest.raises(WiringError, match="7 scales asked for, possible are 1 to 6"):
        SceneFlow(site(SWIN), scales=7)
    with pytest.raises(WiringError, match="pair_order target_last, but .* temporal; give"):
        SceneFlow(site(SWIN, frames=1, temporal=True))


# Three frames through a whole network.

BACKBONE = {"name": "resnet18", "model_args": {"channels": [4, 4, 6, 8], "layers": [1] * 4}}
THREE = {"reads": ["motion"], "view": "triple", "options": {"squeeze": 4}}


def network(**heads) -> Network:
    encoders = {"pose": "pair", "motion": "triple"}
    parts = {
        "encoders": {
            name: {"type": "timm", "view": view, "options": BACKBONE}
            for name, view in encoders.items()
        },
        "heads": {
            "pose": {
                "type": "single_scale",
                "view": "pair",
                "reads": ["pose"],
                "options": {"squeeze": 4},
            },
            "flow": {"type": "scene_flow"} | THREE,
            "mask": {"type": "motion_mask"} | THREE,
        }
        | heads,
    }
    raw = {
        "name": "t",
        "image_size": SIZE,
        "network": parts,
        "streams": {"triplets": {"kind": "triplets", "batch_size": 2}},
        "terms": {},
        "stages": [{"name": "s", "steps": 1, "terms": []}],
    }
    return build_network(preset_from_dict(raw))


def triplets() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "target_image": torch.rand(2, 3, *SIZE, generator=generator),
        "source_images": torch.rand(2, 2, 3, *SIZE, generator=generator),
        "source_offsets": torch.tensor([[-1, 1], [1, -1]]),
    }


def test_a_triple_is_in_order_of_time_however_the_sources_are_listed():
    net = network().eval()
    batch, seen = triplets(), []
    net.encoders["motion"].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        made = net({"a": batch})["a"]
    target, sources = batch["target_image"], batch["source_images"]
    expected = torch.stack(
        [
            torch.cat([sources[0, 0], target[0], sources[0, 1]]),
            torch.cat([sources[1, 1], target[1], sources[1, 0]]),
        ]
    )
    assert len(seen) == 1
    assert torch.equal(seen[0], expected)
    assert made["complete_flow"].shape == (2, 2, 3, *SIZE)
    assert made["motion_logits"].shape == (2, 2, 1, *SIZE)
    torch.testing.assert_close(made["complete_flow"][:, 0], -made["complete_flow"][:, 1])
    other = batch | {k: batch[k].flip(1) for k in ("source_images", "source_offsets")}
    with torch.no_grad():
        turned = net({"a": other})["a"]
    torch.testing.assert_close(turned["complete_flow"], made["complete_flow"].flip(1))


def test_half_of_a_new_encoder_of_triples_starts_blind_to_equal_frames():
    first = next(m for m in network().encoders["motion"].modules() if isinstance(m, nn.Conv2d))
    frame = torch.rand(1, 3, *SIZE)
    still = first(frame.repeat(1, 3, 1, 1))
    half = first.out_channels // 2
    assert still[:, :half].abs().max() < 1e-6
    assert still[:, half:].abs().max() > 0.01


def test_without_both_sources_there_is_no_triple():
    net, batch = network(), triplets()
    one = batch | {k: batch[k][:, :1] for k in ("source_images", "source_offsets")}
    assert "T_source_target" in net({"a": one})["a"]
    for lacking in (one, {k: v for k, v in batch.items() if k != "source_offsets"}):
        with pytest.raises(WiringError, match="the batch has no (two source images|'source_off)"):
            net({"a": lacking}, ["complete_flow"])
    pair = torch.rand(1, 6, *SIZE)
    assert "T_source_target" in net.decode_pair({}, {}, pair)


def test_triples_read_encoders_of_triples_only():
    with pytest.raises(WiringError, match="'pose' sees a pair, so a node with view: triple"):
        network(flow={"type": "scene_flow", "reads": ["pose"], "view": "triple"})
    with pytest.raises(WiringError, match="'motion' sees a triple, so a node with view: pair"):
        network(flow={"type": "scene_flow", "reads": ["motion"], "view": "pair"})
