"""The predictor: each frame encoded once, any size, nothing left over between streams."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unienc_core.checkpoint import save_checkpoint
from unienc_core.contracts import FeaturePyramid
from unienc_core.data.transforms import resize_value
from unienc_core.errors import CheckpointError, DataError, IntegrityError, ShapeError
from unienc_core.geometry.camera import disparity_to_depth
from unienc_core.inference.predictor import Predictor, load_predictor
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset

PRESET = load_preset("unified-tiny")


@pytest.fixture(scope="module")
def predictor() -> Iterator[Predictor]:
    yield Predictor(build_network(PRESET), PRESET)


@pytest.fixture(autouse=True)
def fresh(predictor) -> None:
    predictor.reset()


def frames(num: int, size: tuple[int, int] = (96, 320)) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 255, (size[0] // 4, size[1] // 4, 3), dtype=np.uint8)
    image = base.repeat(4, 0).repeat(4, 1)
    return [np.roll(image, 3 * i, 1) for i in range(num)]


def test_each_frame_is_encoded_once_and_each_pair_decoded_once(predictor) -> None:
    calls: dict[str, int] = {"encoder": 0, "depth": 0, "pose": 0}

    def count(name: str):
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    network = predictor.network
    hooks = [
        network.encoders["main"].register_forward_hook(count("encoder")),
        network.heads["depth"].register_forward_hook(count("depth")),
        network.heads["pose"].register_forward_hook(count("pose")),
    ]
    for frame in frames(5):
        predictor.step(frame)
    for hook in hooks:
        hook.remove()
    assert calls == {"encoder": 5, "depth": 5, "pose": 4}


def test_a_stream_says_what_pairs_say(predictor) -> None:
    first, second, third = frames(3)
    assert predictor.step(first).T_previous_current is None
    predictor.step(second)
    pair = predictor.predict((second, third))  # does not disturb the stream
    streamed = predictor.step(third)
    np.testing.assert_array_equal(streamed.T_previous_current, pair.T_previous_current)
    np.testing.assert_array_equal(streamed.disparity, pair.disparity)
    assert predictor.predict(third).T_previous_current is None
    predictor.reset()
    assert predictor.step(first).T_previous_current is None


def test_streams_run_side_by_side(predictor) -> None:
    row = frames(3)
    back = row[::-1]
    one, two = predictor.stream(row), predictor.stream(back)
    mixed = [(next(one), next(two)) for _ in row]
    assert mixed[0][0].T_previous_current is None
    for i in (1, 2):
        for output, images in zip(mixed[i], (row, back), strict=True):
            expected = predictor.predict(images[i - 1 : i + 1])
            np.testing.assert_array_equal(output.T_previous_current, expected.T_previous_current)
            np.testing.assert_array_equal(output.disparity, expected.disparity)
    with pytest.raises(ShapeError, match="found 4 images"):
        predictor.predict(frames(4))


def test_encoded_frames_serve_both_orders(predictor) -> None:
    first, second = frames(2)
    one, two = predictor.encode(first), predictor.encode(second)
    for (a, b), images in (((one, two), (first, second)), ((two, one), (second, first))):
        expected = predictor.predict(images)
        np.testing.assert_array_equal(predictor.motion(a, b), expected.T_previous_current)
        output = predictor.decode(b, a)
        np.testing.assert_array_equal(output.T_previous_current, expected.T_previous_current)
        np.testing.assert_array_equal(output.depth, expected.depth)
    assert predictor.decode(one).T_previous_current is None


def test_the_network_sees_what_it_would_in_training(predictor) -> None:
    """The same tensors through `forward`: source is the previous frame, target the current."""
    first, second = frames(2)
    image = [torch.from_numpy(f).permute(2, 0, 1)[None].float() / 255 for f in (first, second)]
    batch = {
        "target_image": image[1],
        "source_images": image[0][:, None],
        "source_offsets": torch.tensor([[-1]]),
    }
    with torch.no_grad():
        values = predictor.network({"s": batch}, ("disparity", "T_source_target"))["s"]
    output = predictor.predict((first, second))
    np.testing.assert_allclose(output.disparity, values["disparity"][0, 0], atol=1e-6)
    T_source_target = values["T_source_target"][0, 0]
    np.testing.assert_allclose(output.T_previous_current, T_source_target, atol=1e-6)
    assert output.T_previous_current is not None
    assert output.T_previous_current.dtype == np.float64


def test_a_motion_that_is_not_finite_is_refused(predictor, monkeypatch) -> None:
    broken = {"T_source_target": torch.full((1, 1, 4, 4), float("nan"))}
    monkeypatch.setattr(predictor.network, "decode_pair", lambda *_, **__: broken)
    predictor.predict(frames(1)[0])  # one image has no motion
    with pytest.raises(IntegrityError, match="NaN or infinity"):
        predictor.predict(tuple(frames(2)))


@pytest.mark.parametrize("size", [(96, 320), (375, 1242), (48, 64), (640, 360)])
def test_depth_comes_at_the_size_of_the_input(predictor, size) -> None:
    output = predictor.predict(frames(1, (size[0] + 4, size[1] + 4))[0][: size[0], : size[1]])
    assert output.depth.shape == size
    assert output.depth.dtype == np.float32
    assert output.size == size
    assert (output.depth >= PRESET.depth.min * 0.999).all()
    assert (output.depth <= PRESET.depth.max * 1.001).all()


def test_disparity_is_interpolated_and_then_inverted(predictor) -> None:
    output = predictor.predict(frames(1, (192, 640))[0])
    disparity = torch.from_numpy(output.disparity)[None, None]
    full = F.interpolate(disparity, size=(192, 640), mode="bilinear", align_corners=False)
    expected = disparity_to_depth(full, PRESET.depth.min, PRESET.depth.max)[0, 0]
    np.testing.assert_allclose(output.depth, expected, rtol=1e-4)
    assert output.depth_at((100, 200)).shape == (100, 200)


def test_images_are_resized_as_in_training(predictor) -> None:
    """One filter for both, whether an image shrinks or grows."""
    for size in ((192, 640), (48, 100), (96, 320)):
        image = frames(1, size)[0]
        seen = predictor.encode(image).image[0].permute(1, 2, 0).numpy() * 255
        trained = resize_value(image, "image", size, PRESET.image_size)
        np.testing.assert_allclose(seen, trained, atol=1e-3)


def test_shrinking_does_not_alias(predictor) -> None:
    """Stripes finer than the network's pixels average to grey instead of making a pattern."""
    stripes = np.zeros((960, 3200, 3), np.uint8)
    stripes[:, ::2] = 255
    grey = np.full_like(stripes, 128)
    seen = [predictor.encode(image).image for image in (stripes, grey)]
    assert (seen[0] - seen[1]).abs().max() < 0.01


def test_only_images_are_taken(predictor) -> None:
    for wrong in (np.zeros((96, 320), np.uint8), np.zeros((96, 320, 3)), np.zeros((9, 9, 4))):
        with pytest.raises(ShapeError, match="expected uint8"):
            predictor.step(wrong)


def test_nothing_is_recorded_for_training(predictor) -> None:
    assert not predictor.network.training
    assert predictor.step(frames(1)[0]).depth.flags.writeable
    pyramids = predictor._previous.pyramids
    assert all(isinstance(p, FeaturePyramid) for p in pyramids.values())
    assert not any(level.requires_grad for p in pyramids.values() for level in p.levels)


def test_a_network_gone_mad_is_named(predictor, monkeypatch) -> None:
    broken = {"disparity": torch.full((1, 1, 4, 4), torch.nan)}
    monkeypatch.setattr(predictor.network, "decode_frame", lambda *_, **__: broken)
    with pytest.raises(IntegrityError, match="NaN"):
        predictor.step(frames(1)[0])


def test_a_checkpoint_becomes_the_same_predictor(predictor, tmp_path: Path) -> None:
    weights = predictor.network.state_dict()
    path = save_checkpoint(
        tmp_path / "run" / "checkpoints",
        preset=PRESET,
        model=weights,
        optimizer={},
        state={"step": 7},
    )
    frame = frames(1)[0]
    for given in (path, tmp_path / "run"):
        loaded = load_predictor(given, "cpu")
        np.testing.assert_array_equal(loaded.predict(frame).depth, predictor.predict(frame).depth)
    with pytest.raises(DataError, match="no such checkpoint"):
        load_predictor(tmp_path / "none")


def test_a_checkpoint_of_other_shapes_is_refused(predictor, tmp_path: Path) -> None:
    weights = dict(predictor.network.state_dict())
    name = next(n for n in weights if n.startswith("heads.depth"))
    weights[name] = torch.zeros(3)
    path = save_checkpoint(tmp_path, preset=PRESET, model=weights, optimizer={}, state={"step": 1})
    with pytest.raises(CheckpointError, match=name):
        load_predictor(path, "cpu")
