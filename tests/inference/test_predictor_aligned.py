"""Motion heads that align the source: they need the camera, which a predictor is told or not."""

import numpy as np
import pytest
import torch
from untrained import MOVING

from unienc_core.errors import UsageError
from unienc_core.inference.predictor import Predictor
from unienc_core.models.network import build_network
from unienc_core.presets import preset_from_dict

SIZE = (64, 96)
K = np.array([[180.0, 0, 95.5], [0, 180.0, 63.5], [0, 0, 1]])
"""Of pictures of twice the network's size."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    heads = ("scene_flow", "motion_mask")
    sets = [f"network.heads.{head}.options.aligned=true" for head in heads]
    preset = preset_from_dict(MOVING.model_dump(mode="json"), "aligned", sets)
    return Predictor(build_network(preset), preset)


@pytest.fixture(scope="module")
def row() -> list[np.ndarray]:
    street = np.random.default_rng(0).integers(0, 255, (16, 30, 3), dtype=np.uint8)
    street = street.repeat(8, 0).repeat(8, 1)
    return [np.ascontiguousarray(street[:, 6 * i : 6 * i + 192]) for i in range(3)]


def test_a_stream_with_K_says_what_training_would_see(predictor, row) -> None:
    images = [predictor.encode(picture).image for picture in row]
    half = K.copy()
    half[:2] /= 2
    half[:2, 2] -= 0.25  # pixel centres are integers
    keys = ("disparity", "complete_flow", "motion_logits")
    outputs = list(predictor.stream(row, K=K))
    assert outputs[0].scene_motion is None
    for i in (1, 2):
        batch = {
            "target_image": images[i],
            "source_images": images[i - 1][:, None],
            "source_offsets": torch.tensor([[-1]]),
            "K": torch.from_numpy(half).float()[None],
        }
        with torch.no_grad():
            made = predictor.network({"s": batch}, keys)["s"]
        flow, mask = made["complete_flow"][0, 0], made["motion_logits"][0, 0, 0].sigmoid()
        seen = outputs[i].scene_motion
        np.testing.assert_allclose(seen.complete_flow, flow, atol=1e-5)
        np.testing.assert_allclose(seen.mask, mask, atol=1e-5)
        np.testing.assert_allclose(seen.disparity, made["disparity"][0, 0], atol=1e-5)
    other = K.copy()
    other[:2, :2] *= 2
    changed = predictor.predict(row[:2], K=other)
    assert np.abs(changed.complete_flow - outputs[1].complete_flow).max() > 1e-3
    mask_alone = predictor.predict(row[:2], ("mask",), K=K)
    np.testing.assert_allclose(mask_alone.motion_mask, outputs[1].motion_mask, atol=1e-5)


def test_without_K_there_is_depth_and_motion_and_what_is_asked_for_is_refused(
    predictor, row
) -> None:
    output = predictor.predict(row[:2])
    assert output.scene_motion is None
    assert output.depth is not None
    assert output.T_previous_current is not None
    with pytest.raises(
        UsageError, match="sees flow and mask beside the camera's own motion, which "
    ):
        predictor.predict(row[:2], ("flow", "mask"))
    with pytest.raises(UsageError, match="give K"):
        list(predictor.stream(row, ("mask",)))
