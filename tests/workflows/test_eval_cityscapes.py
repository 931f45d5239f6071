"""`eval-depth --protocol cityscapes`: which pixels count, and what is printed beside."""

from pathlib import Path

import numpy as np
import pytest
from depth_toys import write_toy_store

from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store import Store
from unienc_core.errors import DataError
from unienc_core.metrics.depth import METRICS
from unienc_core.metrics.protocols import PROTOCOLS
from unienc_core.metrics.published import published_depth
from unienc_core.workflows.depth_sources import check_pictures
from unienc_core.workflows.evaluate import eval_depth, format_report

CITYSCAPES = PROTOCOLS["cityscapes"]
SCORED = slice(256, 768), slice(192, 1856)


def folders(tmp_path, truth, prediction):
    for name, values in (("true", truth), ("predicted", prediction)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "000_depth.npy", values.astype(np.float32))
    return {"ground_truth": tmp_path / "true", "predictions": tmp_path / "predicted"}


def test_the_window_of_a_test_image():
    assert CITYSCAPES.window(768, 2048) == SCORED
    assert CITYSCAPES.window(192, 512) == (slice(64, 192), slice(48, 464))
    mask = CITYSCAPES.valid(np.full((768, 2048), 10.0))
    assert (mask.sum(), mask[SCORED].all()) == (512 * 1664, True)


def test_whole_pictures_lose_their_lower_quarter_and_others_nothing():
    assert CITYSCAPES.trim(np.zeros((1024, 2048))).shape == (768, 2048)
    assert CITYSCAPES.trim(np.zeros((768, 2048))).shape == (768, 2048)
    assert CITYSCAPES.trim(np.zeros((128, 416))).shape == (128, 416)
    assert PROTOCOLS["kitti-eigen"].trim(np.zeros((32, 64))).shape == (32, 64)


@pytest.mark.parametrize("size", [(192, 512), (256, 512)])
def test_only_the_window_of_the_whole_ground_truth_is_scored(tmp_path, size):
    """Depth 10 m inside the window, nonsense outside; 2 m too far in the right half of it."""
    truth = np.full((1024, 2048), 70.0)
    truth[SCORED] = 10.0
    truth[300, 300:400] = 0
    truth[301, 300:400] = 90
    depth = np.full(size, 10.0)
    depth[:, size[1] // 2 :] = 12.0
    report = eval_depth(
        **folders(tmp_path, truth, 1 / depth),
        kind="disparity",
        protocol="cityscapes",
        scale="none",
    )
    # The window is as wide on the left of the middle (832 px) as on the right; the step between
    # the two is blurred over the 4 px of one of the prediction's.
    assert report["num_images"] == 1
    assert report["metrics"]["abs_rel"] == pytest.approx(0.1, rel=1e-3)
    assert report["metrics"]["a1"] == 1.0
    assert report["size"] == [192, 512]  # of whole pictures, too, the part that is kept
    trimmed = {"ground_truth": 1, "predictions": int(size == (256, 512))}
    assert report["data"]["trimmed"] == trimmed
    line = f"whole pictures, cut: 1 of ground truth, {trimmed['predictions']} predictions"
    assert line in format_report(report).splitlines()


def test_a_prediction_of_what_is_kept_may_have_any_aspect(tmp_path):
    """Beside ground truth that is cut already, 64 x 128 are the same part as 48 x 128."""
    truth = np.full((48, 128), 10.0)
    truth[36:] = 20.0
    depth = np.full((64, 128), 10.0)
    depth[48:] = 20.0
    report = eval_depth(
        **folders(tmp_path, truth, 1 / depth),
        kind="disparity",
        protocol="cityscapes",
        scale="none",
    )
    assert report["size"] == [64, 128]
    assert report["data"]["trimmed"] == {"ground_truth": 0, "predictions": 0}
    assert report["metrics"]["abs_rel"] < 0.01  # cut again, a quarter of the rows were off by half
    assert "whole pictures" not in format_report(report)


def test_published_rows_stand_beside_and_say_where_they_are_from(tmp_path):
    truth = np.full((24, 64), 10.0)
    report = eval_depth(**folders(tmp_path, truth, truth), protocol="cityscapes")
    assert report["published"]["source"] == "Table III of Nguyen et al."
    own = report["published"]["rows"][-1]
    assert own["method"] == "Nguyen et al."
    assert list(own["metrics"].values()) == [0.106, 1.033, 5.913, 0.158, 0.888, 0.974, 0.982]
    text = format_report(report)
    assert "* ManyDepth, 2 frames" in text
    assert text.splitlines()[-1].startswith(
        "* Table III of Nguyen et al.: other data or image size"
    )
    assert "lower quarter cut off" in text


def test_the_published_table():
    counts = {name: len(published_depth(name)) for name in PROTOCOLS}
    assert counts == {"synth": 0, "kitti-eigen": 8, "cityscapes": 9}
    for rows in map(published_depth, PROTOCOLS):
        for row in rows:
            metrics = row["metrics"]
            assert list(metrics) == list(METRICS)
            assert metrics["a1"] < metrics["a2"] < metrics["a3"] < 1
            assert metrics["abs_rel"] < metrics["rmse_log"] < metrics["sq_rel"] < metrics["rmse"]


def test_the_page_of_results_holds_the_table():
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    for protocol, data in (("kitti-eigen", "KITTI"), ("cityscapes", "Cityscapes")):
        for row in published_depth(protocol):
            figures = " | ".join(f"{row['metrics'][name]:.3f}" for name in METRICS)
            assert f"| {row['method']} | {data} | {row['frames']} | {figures} |" in page


def test_other_protocols_print_none(tmp_path):
    truth = np.full((24, 64), 10.0)
    report = eval_depth(**folders(tmp_path, truth, truth))
    assert "published" not in report


def test_a_store_of_whole_pictures_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("depth_toys.SIZE", (24, 48))
    store = write_toy_store(tmp_path / "val", {"north": [whole_frame((24, 48))]})
    with pytest.raises(DataError, match=r"drive north holds whole pictures \(24x48\)"):
        eval_depth(store, protocol="cityscapes")


@pytest.mark.parametrize(("crop", "fits"), [(0.25, True), (0.0, False), (0.3, False)])
def test_a_store_of_another_part_of_the_pictures_is_refused(tmp_path, monkeypatch, crop, fits):
    monkeypatch.setattr("depth_toys.SIZE", (24, 64))
    monkeypatch.setattr(
        "depth_toys.StoreSpec",
        lambda **spec: StoreSpec(**{**spec, "source": "cityscapes", "config": {"crop": crop}}),
    )
    store = Store(write_toy_store(tmp_path / "val", {"north": [whole_frame((24, 64))]}))
    check_pictures(store, PROTOCOLS["synth"])
    if fits:
        check_pictures(store, CITYSCAPES)
        return
    with pytest.raises(DataError, match=rf"made with --crop {crop}, .*with --crop 0.25"):
        check_pictures(store, CITYSCAPES)


def whole_frame(size):
    return {
        "image": np.zeros((*size, 3), np.uint8),
        "depth": np.ones(size, np.float32),
        "K": np.eye(3),
        "motion_mask": np.zeros(size, np.uint8),
    }
