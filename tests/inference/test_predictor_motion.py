"""Scene flow and motion mask of a predictor: pairs, triples, streams, and nothing unasked for."""

import numpy as np
import pytest
import torch
from untrained import MOVING, MOVING_TRIPLE

from unienc_core.errors import IntegrityError, UsageError
from unienc_core.inference.frame_output import FrameOutput
from unienc_core.inference.predictor import Predictor
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset

SIZE = (64, 96)
K = np.array([[90.0, 0, 47.5], [0, 90.0, 31.5], [0, 0, 1]])
KEYS = ("disparity", "T_source_target", "complete_flow", "motion_logits")


@pytest.fixture(scope="module", params=["pair", "triple"])
def predictor(request) -> Predictor:
    preset = MOVING if request.param == "pair" else MOVING_TRIPLE
    return Predictor(build_network(preset), preset)


@pytest.fixture(autouse=True)
def fresh(predictor) -> None:
    predictor.reset()


@pytest.fixture(scope="module")
def row() -> list[np.ndarray]:
    street = np.random.default_rng(0).integers(0, 255, (16, 60, 3), dtype=np.uint8)
    street = street.repeat(4, 0).repeat(4, 1)
    return [np.ascontiguousarray(street[:, 3 * i : 3 * i + 96]) for i in range(5)]


def is_triple(predictor: Predictor) -> bool:
    return predictor.preset is MOVING_TRIPLE


def by_forward(predictor: Predictor, row: list[np.ndarray], index: int) -> dict[str, np.ndarray]:
    """The predictions of a batch as in training, whose first source is the frame before."""
    image = [torch.from_numpy(f).permute(2, 0, 1)[None].float() / 255 for f in row]
    around = [index - 1, index + 1] if is_triple(predictor) else [index - 1]
    batch = {
        "target_image": image[index],
        "source_images": torch.stack([image[i] for i in around], 1),
        "source_offsets": torch.tensor([[i - index for i in around]]),
    }
    with torch.no_grad():
        made = predictor.network({"s": batch}, KEYS)["s"]
    return {key: made[key][0] for key in KEYS}


def agrees(output: FrameOutput, made: dict[str, torch.Tensor]) -> None:
    mask = made["motion_logits"][0, 0].double().sigmoid()
    np.testing.assert_allclose(output.motion_mask, mask, atol=1e-5)
    np.testing.assert_allclose(output.complete_flow, made["complete_flow"][0], atol=1e-5)
    np.testing.assert_allclose(output.T_previous_current, made["T_source_target"][0], atol=1e-6)
    np.testing.assert_allclose(output.disparity, made["disparity"][0], atol=1e-5)


def test_a_stream_says_what_training_would_see(predictor, row) -> None:
    outputs = list(predictor.stream(iter(row)))
    assert len(outputs) == 5
    assert outputs[0].scene_motion is None
    last = 3 if is_triple(predictor) else 4
    for i in range(1, last + 1):
        agrees(outputs[i], by_forward(predictor, row, i))
    assert np.ptp(outputs[2].motion_mask) > 0
    for output in outputs[last + 1 :]:
        assert output.scene_motion is None
        assert output.T_previous_current is not None  # which needs no next frame


def test_two_or_three_images(predictor, row) -> None:
    neighbours = row[:3] if is_triple(predictor) else row[:2]
    assert predictor.looks_ahead() == predictor.looks_ahead(("mask",)) == is_triple(predictor)
    assert not predictor.looks_ahead(("depth", "motion"))
    agrees(predictor.predict(neighbours), by_forward(predictor, row, 1))
    assert predictor.predict(row[0]).scene_motion is None
    three, two = predictor.predict(row[:3]), predictor.predict(row[:2])
    if is_triple(predictor):
        assert two.scene_motion is None
    else:
        np.testing.assert_array_equal(two.complete_flow, three.complete_flow)
    np.testing.assert_array_equal(two.depth, three.depth)


def calls(predictor: Predictor, run) -> dict[str, int]:
    network = predictor.network
    parts = {**network.encoders, **network.heads}
    counts = dict.fromkeys(parts, 0)
    hooks = []
    for name, part in parts.items():

        def count(*_: object, name: str = name) -> None:
            counts[name] += 1

        hooks.append(part.register_forward_hook(count))
    run()
    for hook in hooks:
        hook.remove()
    return counts


def test_each_frame_is_encoded_once_and_only_what_is_asked_for_is_computed(predictor, row) -> None:
    def run(*outputs: str) -> dict[str, int]:
        return calls(predictor, lambda: list(predictor.stream(row, outputs or None)))

    pairs = 3 if is_triple(predictor) else 4
    motion = {"motion": pairs} if is_triple(predictor) else {}
    everything = {"main": 5, "depth": 5, "pose": 4, "scene_flow": pairs, "motion_mask": pairs}
    assert run() == everything | motion
    assert run("depth", "motion") == {
        **dict.fromkeys(everything | motion, 0), "main": 5, "depth": 5, "pose": 4
    }  # fmt: skip
    assert run("mask") == everything | motion | {"depth": 0, "scene_flow": 0, "pose": pairs}
    # The own flow is made from depth and pose, too, and masked.
    assert run("flow") == everything | motion | {"depth": pairs, "pose": pairs}


def test_what_it_takes_to_make_the_flow_is_not_said_unasked(predictor, row) -> None:
    flow = predictor.predict(row[:3], ("flow",))
    everything = predictor.predict(row[:3])
    assert flow.disparity is flow.T_previous_current is None
    np.testing.assert_allclose(flow.own_flow(K), everything.own_flow(K), atol=1e-6)
    assert everything.own_flow(K).shape == (3, *SIZE)
    mask = predictor.predict(row[:3], ("mask",))
    assert mask.own_flow(K) is mask.complete_flow is None
    np.testing.assert_allclose(mask.motion_mask, everything.motion_mask, atol=1e-6)


def test_steps_say_what_pairs_can(predictor, row) -> None:
    first, second = predictor.step(row[0]), predictor.step(row[1])
    assert first.scene_motion is None
    if is_triple(predictor):
        assert second.scene_motion is None
    else:
        agrees(second, by_forward(predictor, row, 1))
    assert second.T_previous_current is not None


def test_maps_that_are_not_finite_are_refused(predictor, row, monkeypatch) -> None:
    name = "decode_triple" if is_triple(predictor) else "decode_pair"
    real = getattr(predictor.network, name)

    def broken(*args: object, **options: object) -> dict[str, torch.Tensor]:
        made = real(*args, **options)
        made["complete_flow"][..., 3, 4] = torch.nan
        return made

    monkeypatch.setattr(predictor.network, name, broken)
    with pytest.raises(IntegrityError, match="NaN or infinity"):
        predictor.predict(row[:3])


def test_a_network_without_such_heads_says_what_it_has(predictor, row) -> None:
    assert predictor.outputs == predictor.usual == ("depth", "motion", "flow", "mask")
    plain = load_preset("unified-tiny", ["image_size=[64, 96]"])
    without = Predictor(build_network(plain), plain)
    assert without.usual == ("depth", "motion")
    for output, name in (("mask", "motion mask"), ("flow", "scene flow")):
        with pytest.raises(UsageError, match=f"has no {name}; it has depth, motion$"):
            without.predict(row[:2], (output,))


def test_a_flow_head_alone_is_not_masked(row) -> None:
    preset = MOVING.model_copy(
        update={"network": MOVING.network.model_copy(update={"heads": dict(MOVING.network.heads)})}
    )
    del preset.network.heads["motion_mask"]
    predictor = Predictor(build_network(preset), preset)
    assert predictor.outputs == ("depth", "motion", "flow")
    output = predictor.predict(row[:2])
    assert output.motion_mask is None
    T_previous_current = output.T_previous_current
    back = -np.einsum("ij,jhw->ihw", T_previous_current[:3, :3].T, output.independent_flow(K))
    np.testing.assert_allclose(output.own_flow(K), back, atol=1e-6)
