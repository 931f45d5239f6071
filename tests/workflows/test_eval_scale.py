"""``eval-depth --scale``: factors known beforehand, images without ground, what has to be known."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from depth_toys import DEPTH

from unienc_core.contracts import Reporter
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, UsageError
from unienc_core.inference.frame_output import FrameOutput
from unienc_core.metrics.protocols import PROTOCOLS
from unienc_core.metrics.scale import Scale
from unienc_core.workflows import evaluate, origins
from unienc_core.workflows.depth_scoring import score_source
from unienc_core.workflows.depth_sources import FolderSource
from unienc_core.workflows.evaluate import eval_depth, format_report
from unienc_core.workflows.intrinsics import CameraRequest

SIZE = (64, 96)
K = np.array([[70.0, 0.0, 50.0], [0.0, 70.0, 25.0], [0.0, 0.0, 1.0]])
K_TEXT = "70,70,50,25"
PERFECT = {"abs_rel": 0.0, "rmse": 0.0, "a1": 1.0}


def road(height: float, wall: float = 25.0) -> np.ndarray:
    """Depth in m of a road `height` below a level camera, a wall at its end."""
    fall = (np.arange(SIZE[0])[:, None] - K[1, 2]) / K[1, 1] + np.zeros(SIZE[1])
    return height / np.maximum(fall, height / wall)


def write_folder(folder: Path, maps: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, values in maps.items():
        np.save(folder / f"{name}.npy", values)
    return folder


@pytest.fixture
def folders(tmp_path) -> dict[str, Path]:
    """Three roads predicted in units of 7, 8 and 9 m."""
    truths = {f"{n}": road(1.5) for n in "abc"}
    predicted = {n: depth / (7 + i) for i, (n, depth) in enumerate(truths.items())}
    return {
        "predictions": write_folder(tmp_path / "predicted", predicted),
        "ground_truth": write_folder(tmp_path / "gt", truths),
    }


def test_the_camera_height_scales_each_image(folders) -> None:
    report = eval_depth(**folders, scale="camera_height=1.5", intrinsics=K_TEXT)
    for name, value in PERFECT.items():
        assert report["metrics"][name] == pytest.approx(value, abs=1e-6)
    scale = report["scale"]
    assert (scale["mode"], scale["value"], scale["num_without_plane"]) == ("camera_height", 1.5, 0)
    assert scale["median"] == pytest.approx(8)
    assert scale["std"] == pytest.approx(np.std([7, 8, 9]))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert "camera_height=1.5 scaling (factor: median 8, " in format_report(report)

    double = eval_depth(**folders, scale="camera_height=3", intrinsics=K_TEXT)
    # Everything lies twice as deep: |g - 2 g| / g; nothing of it is beyond the 80 m of the cut.
    assert double["metrics"]["abs_rel"] == pytest.approx(1, abs=1e-6)


def test_the_ground_plane_stands_at_the_height_that_the_user_gives(tmp_path) -> None:
    flat = road(2.0, wall=1e3)
    depth = {"a": np.where(flat < 80, flat, 0)}  # nothing but road is scored
    arguments = {
        "predictions": write_folder(tmp_path / "predicted", {"a": flat / 9}),
        "ground_truth": write_folder(tmp_path / "gt", depth),
    }
    report = eval_depth(**arguments, scale="camera_height=2", intrinsics=K_TEXT)
    assert report["metrics"]["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert report["baselines"]["ground_plane"]["abs_rel"] == pytest.approx(0, abs=1e-6)


def test_a_known_factor(folders) -> None:
    report = eval_depth(**folders, scale="factor=8")
    expected = np.mean([abs(1 - 8 / unit) for unit in (7, 8, 9)])
    assert report["metrics"]["abs_rel"] == pytest.approx(expected)
    assert report["scale"] == {
        **{"mode": "factor", "value": 8.0, "median": 8.0, "std": 0.0},
        "num_without_plane": None,
    }
    assert "factor=8.0 scaling (factor: median 8, std 0)" in format_report(report)


def test_an_image_without_ground_takes_the_median_factor_of_the_others(folders) -> None:
    wall = np.full(SIZE, 2.0)
    np.save(folders["predictions"] / "b0.npy", wall)  # in the middle of the order
    np.save(folders["ground_truth"] / "b0.npy", 8 * wall)
    report = eval_depth(**folders, scale="camera_height=1.5", intrinsics=K_TEXT)
    assert report["num_images"] == 4
    assert report["scale"]["num_without_plane"] == 1
    assert report["scale"]["median"] == pytest.approx(8)
    assert report["scale"]["std"] == pytest.approx(np.std([7, 8, 9]))  # of the factors found
    assert report["metrics"]["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert "1 image without ground takes the median factor" in format_report(report)


def test_no_ground_anywhere_is_an_error(tmp_path) -> None:
    walls = {"a": np.full(SIZE, 5.0), "b": np.full(SIZE, 6.0)}
    arguments = {
        "predictions": write_folder(tmp_path / "predicted", walls),
        "ground_truth": write_folder(tmp_path / "gt", walls),
    }
    with pytest.raises(DataError, match="none of 2 predictions shows a ground plane"):
        eval_depth(**arguments, scale="camera_height=1.5", intrinsics=K_TEXT)


def test_an_image_with_nothing_to_score_is_skipped_whatever_it_shows(folders) -> None:
    np.save(folders["predictions"] / "void.npy", np.full(SIZE, 2.0))
    np.save(folders["ground_truth"] / "void.npy", np.zeros(SIZE))
    report = eval_depth(**folders, scale="camera_height=1.5", intrinsics=K_TEXT)
    assert (report["num_images"], report["num_skipped"]) == (3, 1)
    assert report["scale"]["num_without_plane"] == 0


def test_who_watches_sees_every_image_once_and_in_order(folders) -> None:
    np.save(folders["predictions"] / "a0.npy", np.full(SIZE, 2.0))
    np.save(folders["ground_truth"] / "a0.npy", np.full(SIZE, 16.0))
    source = FolderSource(
        folders["predictions"], folders["ground_truth"], "depth", CameraRequest((70, 70, 50, 25))
    )
    seen: list[str] = []

    class Watched:
        def __len__(self):
            return len(source)

        def samples(self, indices):
            for sample in source.samples(indices):
                seen.append(sample.name)
                yield sample

    scale = Scale("camera_height", 1.5)
    scores = score_source(source, PROTOCOLS["synth"], scale, {}, Reporter(), Watched())
    assert seen == ["a", "a0", "b", "c"]
    assert scores.without_plane == [1]
    assert scores.model.num_images == 4


def test_baselines_are_metres_already(folders) -> None:
    reports = [
        eval_depth(**folders, scale=scale, intrinsics=K_TEXT, train_store=None)
        for scale in ("none", "camera_height=1.5", "factor=8")
    ]
    ground = [report["baselines"]["ground_plane"] for report in reports]
    assert ground[0] == ground[1] == ground[2]
    assert ground[0]["abs_rel"] < 1.0


def test_pictures_show_what_was_scored(folders, tmp_path, monkeypatch) -> None:
    drawn: list[float] = []
    monkeypatch.setattr(
        "unienc_core.workflows.depth_plots.draw_sample",
        lambda sample, scored, title: drawn.append(scored.factor) or np.zeros((4, 4, 3), np.uint8),
    )
    eval_depth(**folders, scale="camera_height=1.5", intrinsics=K_TEXT, plots=tmp_path / "plots")
    assert sorted(drawn) == pytest.approx([7, 8, 9])


def write_city(path: Path, heights: dict[str, float | None], with_K: bool = True) -> Path:
    """Write a store of one-frame drives; the red value of a frame is its number."""
    keys = ("image", "depth", *(("K",) if with_K else ()))
    spec = StoreSpec(source="toy", split="val", image_size=SIZE, seed=0, keys=standard_keys(*keys))
    with StoreWriter(path, spec) as writer:
        for number, (name, height) in enumerate(heights.items()):
            image = np.full((*SIZE, 3), number, np.uint8)
            depth = road(height or 1.5).astype(np.float32)
            frame = {"image": image, "depth": depth, "K": K}
            attrs = {} if height is None else {"camera_height": height}
            writer.add_drive(name, [{key: frame[key] for key in keys}], attrs=attrs)
    return path


@pytest.fixture
def predict(monkeypatch):
    """Predict given depths, by the red value of the image."""

    def put(depths: list[np.ndarray]) -> None:
        low, high = 1 / DEPTH.max, 1 / DEPTH.min

        def decode(image: np.ndarray) -> FrameOutput:
            disparity = (1 / depths[image[0, 0, 0]] - low) / (high - low)
            return FrameOutput(disparity.astype(np.float32), DEPTH, SIZE, None)

        preset = SimpleNamespace(depth=DEPTH, image_size=SIZE)
        predictor = SimpleNamespace(preset=preset, encode=lambda image: image, decode=decode)
        found = SimpleNamespace(path=Path("runs/toy"), state={"seed": 0})
        monkeypatch.setattr(origins, "find_checkpoint", lambda *_, **__: found)
        monkeypatch.setattr(evaluate, "predictor_from", lambda *_: predictor)

    return put


def test_the_height_that_each_drive_records(tmp_path, predict) -> None:
    store = write_city(tmp_path / "val", {"low": 1.2, "high": 1.8})
    predict([road(1.2) / 4, road(1.8) / 5])
    report = eval_depth(store, scale="camera_height=store")
    assert report["metrics"]["abs_rel"] == pytest.approx(0, abs=1e-3)
    assert report["scale"]["value"] == "store"
    assert report["scale"]["median"] == pytest.approx(4.5, rel=1e-3)
    fixed = eval_depth(store, scale="camera_height=1.5")
    # 1.5 m is a quarter too high in one drive and a sixth too low in the other.
    assert fixed["metrics"]["abs_rel"] == pytest.approx((1 / 4 + 1 / 6) / 2, abs=1e-3)


def test_a_store_without_K_takes_the_one_given(tmp_path, predict) -> None:
    store = write_city(tmp_path / "val", {"a": 1.4}, with_K=False)
    predict([road(1.4) / 3])
    report = eval_depth(store, scale="camera_height=1.4", intrinsics=K_TEXT)
    assert report["scale"]["median"] == pytest.approx(3, rel=1e-3)
    with pytest.raises(UsageError, match=r"needs K, which .*val lacks: give --K"):
        eval_depth(store, scale="camera_height=1.4")


def test_what_has_to_be_known(folders, tmp_path, predict) -> None:
    with pytest.raises(UsageError, match="needs K, which these folders lack: give --K"):
        eval_depth(**folders, scale="camera_height=1.5", dry_run=True)
    with pytest.raises(UsageError, match="camera_height=store needs a store"):
        eval_depth(**folders, scale="camera_height=store", intrinsics=K_TEXT)
    with pytest.raises(UsageError, match=r"a\.npy: principal point .* outside the 96x64 image"):
        eval_depth(**folders, scale="camera_height=1.5", intrinsics="700,700,500,250")
    with pytest.raises(UsageError, match="expected four numbers"):
        eval_depth(**folders, intrinsics="1,2,3")
    with pytest.raises(UsageError, match="expected a number above 0"):
        eval_depth(**folders, scale="factor=-2")
    store = write_city(tmp_path / "val", {"a": 1.4, "b": None})
    predict([road(1.4)] * 2)
    with pytest.raises(DataError, match="drive b records no camera_height"):
        eval_depth(store, scale="camera_height=store", dry_run=True)
    with pytest.raises(UsageError, match="records K for every frame; leave --K out"):
        eval_depth(store, intrinsics=K_TEXT)
