"""`eval-depth` against NumPy written from the protocols' definitions, on 200 random cases."""

import cv2
import numpy as np
import pytest

from unienc_core.errors import DataError
from unienc_core.metrics.depth import METRICS
from unienc_core.workflows.evaluate import eval_depth

CASES, BATCHES = 200, 10
RANGES = {"synth": (0.5, 80.0), "kitti-eigen": (1e-3, 80.0), "cityscapes": (1e-3, 80.0)}


def oracle_resize(values, size):
    """Bilinear, one axis after the other, centres at integers, the border repeated."""
    for axis, new in enumerate(size):
        old = values.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, old - 1)
        weight = (at - low)[:, None] if axis == 0 else (at - low)[None, :]
        values = np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight
    return values


def oracle_window(protocol, height, width):
    if protocol == "kitti-eigen":
        rows = int(0.40810811 * height), int(0.99189189 * height)
        return *rows, int(0.03594771 * width), int(0.96405229 * width)
    if protocol == "cityscapes":
        return height // 3, height, 192 * width // 2048, 1856 * width // 2048
    return 0, height, 0, width


def oracle_image(truth, prediction, kind, protocol, scale):
    """Return the seven metrics of an image, or None where it has no pixel to score."""
    low, high = RANGES[protocol]
    if protocol == "cityscapes" and truth.shape[1] == 2 * truth.shape[0]:
        truth = truth[: round(0.75 * truth.shape[0])]
        if prediction.shape[1] == 2 * prediction.shape[0]:
            prediction = prediction[: round(0.75 * prediction.shape[0])]
    height, width = truth.shape
    if kind == "depth" and prediction.shape == truth.shape:
        depth = prediction
    else:
        disparity = 1 / prediction if kind == "depth" else prediction
        with np.errstate(divide="ignore"):
            depth = 1 / oracle_resize(disparity, (height, width))
    top, bottom, left, right = oracle_window(protocol, height, width)
    pairs = [
        (truth[v, u], depth[v, u])
        for v in range(top, bottom)
        for u in range(left, right)
        if np.isfinite(truth[v, u]) and low < truth[v, u] < high
    ]
    if not pairs:
        return None
    g, p = np.array(pairs, np.float64).T
    p = p * (np.median(g) / np.median(p) if scale is None else scale)
    p = np.minimum(np.maximum(p, low), high)
    worst = np.maximum(g / p, p / g)
    return [
        np.mean(np.abs(g - p) / g),
        np.mean((g - p) ** 2 / g),
        np.mean((g - p) ** 2) ** 0.5,
        np.mean(np.log(g / p) ** 2) ** 0.5,
        *(np.mean(worst < limit) for limit in (1.25, 1.5625, 1.953125)),
    ]


def random_size(rng, protocol):
    if protocol != "cityscapes":
        return int(rng.integers(10, 50)), int(rng.integers(20, 80))
    if rng.random() < 0.5:  # whole pictures, of which the lower quarter is cut off
        height = 32 * int(rng.integers(1, 3))
        return height, 2 * height
    return 12 * int(rng.integers(1, 5)), 32 * int(rng.integers(1, 4)) + 32


def random_truth(rng, protocol):
    height, width = random_size(rng, protocol)
    truth = np.exp(rng.uniform(np.log(0.3), np.log(150), (height, width)))
    truth[rng.random(truth.shape) < rng.choice([0.0, 0.5, 0.9])] = 0
    odd = rng.random(truth.shape)
    for share, value in enumerate((np.nan, np.inf, -3.0, 80.0, 0.5, 1e-3)):
        truth[(odd >= share / 100) & (odd < (share + 1) / 100)] = value
    if rng.random() < 0.1:
        truth[:] = 0
    return truth


def random_prediction(rng, truth, protocol, kind):
    height, width = truth.shape
    if protocol == "cityscapes" and width == 2 * height:
        height = round(0.75 * height)
    if rng.random() < 0.7:
        height, width = int(rng.integers(3, 30)), int(rng.integers(61, 90))
    if protocol == "cityscapes" and rng.random() < 0.3:  # as wide as whole pictures, cut or not
        width = 2 * height
    values = np.exp(rng.uniform(np.log(0.02), np.log(20), (height, width)))
    if kind == "disparity":
        values[rng.random(values.shape) < 0.02] = 0
    return values


def write_map(path, values, rng, *, exact):
    """Write a map as one of the forms that are read; return what a reader finds in it."""
    form = "f8" if exact else rng.choice(["f8", "f4", "png"])
    if form == "png":
        codes = np.clip(np.round(values * 256), 1, 65535).astype(np.uint16)
        cv2.imwrite(str(path.with_suffix(".png")), codes)
        return codes / 256.0
    np.save(path.with_suffix(".npy"), values.astype(form))
    return values.astype(form).astype(np.float64)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_equal_to_numpy(tmp_path, batch):
    for case in range(batch * CASES // BATCHES, (batch + 1) * CASES // BATCHES):
        rng = np.random.default_rng(case)
        protocol = list(RANGES)[case % 3]
        kind = str(rng.choice(["depth", "disparity"]))
        scale = [None, 1.0, float(rng.uniform(0.3, 3))][int(rng.integers(3))]
        folder = tmp_path / str(case)
        (folder / "predicted").mkdir(parents=True)
        (folder / "true").mkdir()
        scored = []
        for image in range(int(rng.integers(1, 4))):
            truth = random_truth(rng, protocol)
            prediction = random_prediction(rng, truth, protocol, kind)
            truth = write_map(folder / "true" / f"{image}", truth, rng, exact=True)
            holes = bool((prediction == 0).any())
            prediction = write_map(folder / "predicted" / f"{image}", prediction, rng, exact=holes)
            scored.append(oracle_image(truth, prediction, kind, protocol, scale))
        request = {
            "predictions": folder / "predicted",
            "ground_truth": folder / "true",
            "kind": kind,
            "protocol": protocol,
            "scale": {None: "median", 1.0: "none"}.get(scale, f"factor={scale!r}"),
        }
        valid = [metrics for metrics in scored if metrics is not None]
        if not valid:
            with pytest.raises(DataError, match="has a pixel that counts"):
                eval_depth(**request)
            continue
        report = eval_depth(**request)
        assert (report["num_images"], report["num_skipped"]) == (
            len(valid),
            len(scored) - len(valid),
        )
        expected = dict(zip(METRICS, np.mean(valid, axis=0, dtype=np.float64), strict=True))
        assert report["metrics"] == pytest.approx(expected, rel=1e-6), f"case {case}"


def test_the_cityscapes_window_at_full_size():
    assert oracle_window("cityscapes", 768, 2048) == (256, 768, 192, 1856)
