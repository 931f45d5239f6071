"""The network: one encoder pass, only what is needed, and wiring checked when it is built."""

import copy
from pathlib import Path

import draft_nodes  # noqa: F401 - toy nodes with requirements
import pytest
import torch

from unienc_core.contracts import FeaturePyramid, Head, PyramidSpec
from unienc_core.errors import DataError, ShapeError, UsageError, WiringError
from unienc_core.models.network import Network, build_network
from unienc_core.presets import Preset, preset_from_dict
from unienc_core.registry import register

SIZE = (64, 96)
BATCH, SOURCES = 2, 2
BACKBONE = {"name": "resnet18", "model_args": {"channels": [4, 4, 6, 8], "layers": [1] * 4}}


def preset(**network) -> Preset:
    """Shared encoder, depth, pose and a motion head that needs the pose; parts replaceable."""
    parts = {
        "encoders": {"main": {"type": "timm", "options": BACKBONE}},
        "heads": {
            "depth": {
                "type": "unet",
                "reads": ["main"],
                "options": {"channels": [4] * 5, "scales": 1},
            },
            "pose": {
                "type": "multi_scale",
                "reads": ["main"],
                "view": "pair",
                "options": {"widths": [4, 4, 4, 4], "squeeze": 4},
            },
            "flow": {
                "type": "scene_flow",
                "reads": ["main"],
                "view": "pair",
                "options": {"squeeze": 4},
            },
        },
    }
    return preset_from_dict(
        {
            "name": "t",
            "image_size": SIZE,
            "network": parts | network,
            "streams": {"triplets": {"kind": "triplets", "batch_size": 2}},
            "terms": {},
            "stages": [{"name": "s", "steps": 1, "terms": []}],
        }
    )


def network(**parts) -> Network:
    return build_network(preset(**parts))


def triplets(seed: int = 0, size=SIZE) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return {
        "target_image": torch.rand(BATCH, 3, *size, generator=generator),
        "source_images": torch.rand(BATCH, SOURCES, 3, *size, generator=generator),
        "K": torch.eye(3).repeat(BATCH, 1, 1),
    }


def watch(module: torch.nn.Module) -> list[int]:
    """Batch sizes of all calls of a module from now on."""
    calls: list[int] = []
    module.register_forward_pre_hook(
        lambda m, args: calls.append(len(getattr(args[0], "images", args[0])))
    )
    return calls


def test_every_image_is_encoded_once_and_streams_together():
    net = network()
    calls = watch(net.encoders["main"])
    made = net({"a": triplets(), "b": {"image": torch.rand(3, 3, *SIZE)}})
    assert calls == [BATCH + BATCH * SOURCES + 3]
    assert made["a"]["T_source_target"].shape == (BATCH, SOURCES, 4, 4)
    assert set(made["b"]) == {"disparity", "disparity_scales"}


def test_streams_of_another_size_go_apart_with_equal_results():
    net = network().eval()
    small = {"image": torch.rand(1, 3, 64, 128)}
    calls = watch(net.encoders["main"])
    together = net({"a": triplets(), "b": small})
    assert sorted(calls) == [1, BATCH + BATCH * SOURCES]
    alone = net({"b": small})
    torch.testing.assert_close(together["b"]["disparity"], alone["b"]["disparity"])


def test_only_what_the_outputs_need_is_computed():
    net = network()
    encoder, heads = watch(net.encoders["main"]), {n: watch(h) for n, h in net.heads.items()}
    assert set(net({"a": triplets()}, ["disparity"])["a"]) == {"disparity", "disparity_scales"}
    assert encoder == [BATCH]  # no source image
    assert {n: len(c) for n, c in heads.items()} == {"depth": 1, "pose": 0, "flow": 0}
    made = net({"a": triplets()}, ["complete_flow"])["a"]
    assert {n: len(c) for n, c in heads.items()} == {"depth": 1, "pose": 1, "flow": 1}
    assert "T_source_target" in made  # made on the way


def test_outputs_can_be_asked_per_stream():
    net = network()
    streams = {"a": triplets(), "b": {"image": torch.rand(1, 3, *SIZE)}}
    made = net(streams, {"a": ["T_source_target"], "b": ["disparity"]})
    assert "disparity" not in made["a"]
    assert "disparity" in made["b"]
    with pytest.raises(WiringError, match="heads.pose cannot make .*b: the batch has no source"):
        net(streams, {"b": ["T_source_target"]})
    with pytest.raises(WiringError, match="b: the batch has no source images"):
        net({"b": streams["b"]}, ["complete_flow"])
    with pytest.raises(WiringError, match="no node makes 'dispartiy' \\(did you mean 'disparity'"):
        net(streams, ["dispartiy"])
    with pytest.raises(DataError, match="needs target_image, image or sequence_images, found K"):
        net({"c": {"K": torch.eye(3)}})


def test_a_pair_is_source_then_target_for_each_source():
    net = network().eval()
    batch = triplets()
    seen = []
    net.heads["pose"].register_forward_hook(lambda m, args, out: seen.append(args[0]))
    net({"a": batch}, ["T_source_target"])
    sources, target = batch["source_images"], batch["target_image"]
    expected = torch.cat([sources, target[:, None].expand_as(sources)], 2).flatten(0, 1)
    assert torch.equal(seen[0].images, expected)
    level = seen[0].pyramids[0].levels[-1]
    with torch.no_grad():
        alone = net.encoders["main"](sources[1, 0:1]).levels[-1]
    torch.testing.assert_close(level[SOURCES, :8], alone[0], rtol=1e-4, atol=1e-5)


def test_results_of_a_sample_do_not_depend_on_its_neighbours_in_the_batch():
    net = network().eval()
    whole = net({"a": triplets()})["a"]
    one = net({"a": {k: v[1:] for k, v in triplets().items()}})["a"]
    for key in ("disparity", "T_source_target", "complete_flow"):
        torch.testing.assert_close(whole[key][1:], one[key])


def test_the_network_sees_augmented_images_where_there_are_any():
    net = network().eval()
    plain, other = triplets(0), triplets(1)
    batch = plain | {"target_image_aug": other["target_image"]}
    batch |= {"source_images_aug": other["source_images"]}
    for key, value in net({"a": batch})["a"].items():
        expected = net({"a": other})["a"][key]
        torch.testing.assert_close(value, expected)


def test_streaming_gives_the_same_as_whole_batches():
    net = network().eval()
    batch = triplets()
    target, source = batch["target_image"], batch["source_images"][:, 0]
    with torch.no_grad():
        whole = net({"a": batch})["a"]
        before, now = net.encode(source), net.encode(target)
        calls = watch(net.encoders["main"])
        frame = net.decode_frame(now, target)
        pair = net.decode_pair(before, now, torch.cat([source, target], 1))
        depth_free = net.decode_pair(
            before, now, torch.cat([source, target], 1), outputs=["axis_angle"]
        )
    assert calls == []
    assert set(frame) == {"disparity", "disparity_scales"}
    torch.testing.assert_close(frame["disparity"], whole["disparity"])
    for key in ("T_source_target", "complete_flow"):
        torch.testing.assert_close(pair[key], whole[key][:, :1])
    assert "complete_flow" not in depth_free


def test_a_pair_encoder_runs_on_stacked_images():
    encoders = {
        "main": {"type": "timm", "options": BACKBONE},
        "pose": {"type": "timm", "view": "pair", "options": BACKBONE},
    }
    heads = preset().network.model_dump()["heads"]
    heads["pose"] = {
        "type": "single_scale",
        "reads": ["pose"],
        "view": "pair",
        "options": {"squeeze": 4},
    }
    net = network(encoders=encoders, heads=heads).eval()
    assert net.encoders["pose"].in_channels == 6
    calls = watch(net.encoders["pose"])
    batch = triplets()
    with torch.no_grad():
        whole = net({"a": batch})["a"]
        target, source = batch["target_image"], batch["source_images"][:, 1]
        images = torch.cat([source, target], 1)
        pair = net.decode_pair(net.encode(source), net.encode(target), images)
    assert calls == [BATCH * SOURCES, BATCH]
    torch.testing.assert_close(pair["T_source_target"][:, 0], whole["T_source_target"][:, 1])


def test_a_frozen_encoder_records_no_gradients():
    net = network()
    net.encoders["main"].requires_grad_(False).eval()
    seen = []
    net.encoders["main"].register_forward_hook(lambda m, args, out: seen.extend(out.levels))
    net({"a": triplets()})["a"]["disparity"].sum().backward()
    assert all(level.grad_fn is None and not level.requires_grad for level in seen)
    assert all(p.grad is not None for p in net.heads["depth"].parameters())


def test_weights_depend_on_the_seed_alone():
    state = torch.random.get_rng_state()
    one = build_network(preset(), seed=1).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(99)
    same, other = build_network(preset(), seed=1).state_dict(), build_network(preset(), seed=2)
    assert all(torch.equal(one[k], same[k]) for k in one)
    changed = other.state_dict()
    assert not torch.equal(
        one["heads.depth.blocks.0.before.0.weight"], changed["heads.depth.blocks.0.before.0.weight"]
    )


def test_copies_are_whole():
    net = network().eval()
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert net({"a": triplets()})["a"]["axis_angle"].abs().sum() > 0
    assert twin({"a": triplets()})["a"]["axis_angle"].abs().sum() == 0


def test_replaced_modules_are_the_ones_that_run():
    net = network().eval()
    compiled = copy.deepcopy(net.encoders["main"])
    calls = watch(compiled)
    net.encoders["main"] = compiled
    net({"a": triplets()}, ["disparity"])
    assert calls == [BATCH]


def test_what_it_is_made_of():
    net = network()
    counts = net.parameter_counts()
    assert list(counts) == ["encoders.main", "heads.depth", "heads.pose", "heads.flow"]
    assert sum(counts.values()) == sum(p.numel() for p in net.parameters())
    assert net.produces[:2] == ("disparity", "disparity_scales")


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(ShapeError, match="encoders.main takes images of multiples of 32"):
        network()({"a": {"image": torch.rand(1, 3, 60, 96)}})
    bad = preset().model_copy(update={"image_size": (80, 96)})
    with pytest.raises(
        WiringError, match="image_size: \\[80, 96\\] .* stride 32 of encoder 'main'"
    ):
        build_network(bad)


def heads(**changes) -> dict:
    """The heads of `preset`, with changes: a dict is merged, None removes."""
    made = preset().network.model_dump(mode="json")["heads"]
    for name, change in changes.items():
        made[name] = made.get(name, {}) | change
    return made


PAIR_AND_FRAME = {
    "main": {"type": "timm", "options": BACKBONE},
    "pose": {"type": "timm", "view": "pair", "options": BACKBONE},
}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {
                "necks": {"core": {"type": "toy_unet_core", "reads": ["main"]}},
                "heads": heads(depth={"reads": ["core.depht"]}),
            },
            "network.heads.depth.reads: nothing makes 'core.depht'.*known: main, core",
        ),
        (
            {"heads": {k: heads()[k] for k in ("flow", "pose")}},
            "heads.flow: needs 'axis_angle', which heads.pose makes only later",
        ),
        (
            {"heads": {"flow": heads()["flow"]}},
            "heads.flow: needs 'axis_angle', which no earlier node makes and no stream offers",
        ),
        (
            {"heads": heads(second=heads()["depth"])},
            "heads.second: makes 'disparity', which heads.depth makes too",
        ),
        (
            {"heads": heads(masks={"type": "masks", "reads": ["main"]})},
            "heads.masks: needs 'task', which no earlier node makes and no stream offers",
        ),
        (
            {"heads": heads(depth={"reads": ["main", "main"]})},
            "'depth' reads 2 pyramids, it takes one",
        ),
        (
            {"heads": heads(pose={"options": {"widths": [4] * 6}})},
            "'pose': 6 widths need as many levels.*strides \\[2, 4, 8, 16, 32\\]",
        ),
        (
            {"encoders": PAIR_AND_FRAME, "heads": heads(depth={"reads": ["pose"]})},
            "heads.depth.reads: 'pose' sees a pair, so a node with view: frame cannot read it",
        ),
        (
            {"encoders": {"main": {"type": "timm", "reads": ["depht_gt"], "options": BACKBONE}}},
            "encoders.main.reads: .* can read image, depth_gt, found depht_gt",
        ),
        (
            {"encoders": {"main": {"type": "timm", "view": "sequence", "options": BACKBONE}}},
            "encoders.main: an encoder sees a frame, a pair or a triple",
        ),
        (
            {"encoders": {"keys": {"type": "timm", "options": BACKBONE}}},
            "'keys' cannot be the name",
        ),
    ],
)
def test_faults_in_the_wiring_are_found_at_build_time(parts, words):
    if "encoders" in parts and "keys" in parts["encoders"]:
        parts = parts | {"heads": heads(**{n: {"reads": ["keys"]} for n in heads()})}
    with pytest.raises(WiringError, match=words) as caught:
        network(**parts)
    assert "\n" not in str(caught.value)


def test_a_label_needed_in_training_must_be_offered():
    masks = heads(masks={"type": "masks", "reads": ["main"]})
    raw = preset(heads=masks).model_dump(mode="json")
    raw["streams"]["triplets"]["labels"] = ["task", "target_masks"]
    with pytest.raises(
        WiringError, match="needs 'target_classes' in training; add it to the labels"
    ):
        build_network(preset_from_dict(raw))


@register("head", "toy_liar")
class Liar(Head):
    """Promises more than it makes."""

    produces = ("promised",)

    def __init__(self, site) -> None:
        super().__init__()

    def forward(self, inputs):
        return {"made": inputs.images}


def test_broken_promises_are_found():
    net = network(heads={"liar": {"type": "toy_liar", "reads": ["main"]}})
    with pytest.raises(WiringError, match="heads.liar made \\['made'\\], but promised"):
        net({"a": triplets()})
    net = network()
    net.encoders["main"].register_forward_hook(
        lambda m, args, out: FeaturePyramid(out.levels[1:], out.strides[1:])
    )
    with pytest.raises(WiringError, match="encoders.main made PyramidSpec.* but promised"):
        net({"a": triplets()})


def test_weights_on_the_command_line_are_for_the_one_pretrained_encoder(tmp_path):
    pretrained = {"type": "timm", "options": BACKBONE | {"pretrained": True}}
    file = tmp_path / "none.safetensors"
    with pytest.raises(DataError, match="none.safetensors: cannot read"):
        build_network(preset(encoders={"main": pretrained}), weights=file)
    two = {"main": pretrained, "second": pretrained}
    with pytest.raises(UsageError, match="exactly one encoder .* found main, second"):
        build_network(preset(encoders=two), weights=Path(file))
    with pytest.raises(UsageError, match="found none"):
        build_network(preset(), weights=Path(file))


def test_spec_of_concatenated_frames_reaches_the_head():
    assert PyramidSpec((4,), (3,)).times(2) == PyramidSpec((4,), (6,))
    pose = network().heads["pose"]
    assert pose.stages[0][0].in_channels == 2 * 4
