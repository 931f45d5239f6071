"""`eval_depth` on stores and folders: numbers known beforehand, baselines, subsets, pictures."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from depth_toys import SIZE, RedPredictor, toy_frame, write_toy_store

from unienc_core.checkpoint import save_checkpoint
from unienc_core.contracts import Progress, Reporter
from unienc_core.data.keys import standard_keys
from unienc_core.errors import (
    DataError,
    IntegrityError,
    ResourceError,
    StoreError,
    UsageError,
)
from unienc_core.metrics.depth import METRICS
from unienc_core.models.network import build_network
from unienc_core.presets import load_preset
from unienc_core.workflows import evaluate, origins
from unienc_core.workflows.evaluate import eval_depth, format_report

PERFECT = dict(zip(METRICS, (0, 0, 0, 0, 1, 1, 1), strict=True))


@pytest.fixture
def use(monkeypatch):
    """Put a predictor in the place of any checkpoint's network."""

    def put(predictor: RedPredictor) -> RedPredictor:
        found = SimpleNamespace(path=Path("runs/toy/step-1"), state={"seed": 5})
        monkeypatch.setattr(origins, "find_checkpoint", lambda *_, **__: found)
        monkeypatch.setattr(evaluate, "predictor_from", lambda *_: predictor)
        return predictor

    return put


def write_maps(folder: Path, maps: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, values in maps.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, values)
        else:
            assert cv2.imwrite(str(path), np.round(256 * values).astype(np.uint16))
    return folder


def test_report_of_a_store(tmp_path, use) -> None:
    write_toy_store(tmp_path / "train", seed=1)
    store = write_toy_store(tmp_path / "val")
    use(RedPredictor(factor=0.5))
    seen: list[Progress] = []
    report = eval_depth(store, reporter=Reporter(progress=seen.append))

    assert set(report) == {
        *("schema", "verb", "protocol", "num_images", "num_skipped", "size", "code", "checkpoint"),
        *("seed", "data", "scale", "metrics", "subsets", "baselines"),
    }
    assert (report["verb"], report["protocol"]) == ("eval-depth", "synth")
    assert (report["num_images"], report["num_skipped"]) == (6, 0)
    assert (report["size"], report["seed"]) == (list(SIZE), 5)
    assert report["checkpoint"] == "runs/toy/step-1"
    assert report["data"]["store"] == str(store)
    assert report["data"]["split"] == "val"
    assert report["metrics"] == pytest.approx(PERFECT, abs=1e-4)
    assert report["scale"]["mode"] == "median"
    assert report["scale"]["median"] == pytest.approx(0.5, rel=1e-4)
    assert report["scale"]["std"] < 1e-4
    assert list(report["baselines"]) == ["constant", "per_pixel_mean", "ground_plane"]
    assert all(row["abs_rel"] > 0.1 for row in report["baselines"].values())
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert (seen[-1].task, seen[-1].done, seen[-1].total) == ("evaluate depth", 6, 6)


def test_moving_and_static_pixels_apart(tmp_path, use) -> None:
    frames = [toy_frame(np.random.default_rng(n)) for n in range(2)]
    frames[1]["motion_mask"][:] = 0  # an image without moving pixels counts for static only
    store = write_toy_store(tmp_path / "val", {"a": frames})
    use(RedPredictor(wrong=frames[0]["motion_mask"] > 0))
    report = eval_depth(store, scale="none")
    # Where the disparity is doubled, depth is half the truth: abs_rel 0.5 on all 60 such pixels.
    assert report["subsets"]["moving"]["abs_rel"] == pytest.approx(0.5, abs=1e-4)
    assert report["subsets"]["moving"]["a1"] == 0
    # In the second image these pixels are wrong but not moving.
    pixels = (SIZE[0] - 6) * SIZE[1]
    assert report["subsets"]["static"]["abs_rel"] == pytest.approx(0.5 * 60 / pixels / 2, abs=1e-4)
    assert report["metrics"]["abs_rel"] == pytest.approx(0.5 * 60 / pixels, abs=1e-4)
    assert report["scale"] == {
        **{"mode": "none", "value": None, "median": None, "std": None},
        "num_without_plane": None,
    }


def test_store_without_motion_or_K_or_training_depths(tmp_path, use) -> None:
    store = write_toy_store(tmp_path / "val", keys=("image", "depth"))
    use(RedPredictor())
    said: list[str] = []
    report = eval_depth(store, checkpoint=Path("x"), reporter=Reporter(say=said.append))
    assert report["subsets"] == {}
    assert list(report["baselines"]) == ["constant"]
    assert any("no training depths" in line for line in said)
    assert list(eval_depth(store, scale="none")["baselines"]) == []


def test_image_without_valid_pixel_is_skipped_and_counted(tmp_path, use) -> None:
    rng = np.random.default_rng(0)
    frames = [toy_frame(rng), toy_frame(rng, sky=SIZE[0])]
    use(RedPredictor())
    report = eval_depth(write_toy_store(tmp_path / "val", {"a": frames}))
    assert (report["num_images"], report["num_skipped"]) == (1, 1)
    assert report["metrics"] == pytest.approx(PERFECT, abs=1e-4)

    with pytest.raises(DataError, match=r"void: none of 1 images has a pixel that counts \(synth"):
        eval_depth(write_toy_store(tmp_path / "void", {"a": frames[1:]}))


def test_of_a_folder_of_stores_those_with_depth_are_taken(tmp_path, use) -> None:
    rng = np.random.default_rng(0)
    frames = {"a": [toy_frame(rng)]}
    for split in ("train", "val"):
        write_toy_store(tmp_path / split, frames, keys=("image", "K"))
        write_toy_store(tmp_path / f"{split}-labelled", frames)
    use(RedPredictor())
    said: list[str] = []
    report = eval_depth(tmp_path, reporter=Reporter(say=said.append))
    assert report["data"]["store"] == str(tmp_path / "val-labelled")
    assert f"evaluating on {tmp_path / 'val-labelled'}" in said
    baselines = ["constant", "per_pixel_mean", "ground_plane"]
    assert list(report["baselines"]) == baselines
    labelled = eval_depth(tmp_path / "val-labelled", train_store=tmp_path)
    assert list(labelled["baselines"]) == baselines
    shutil.rmtree(tmp_path / "val-labelled")
    with pytest.raises(DataError, match=rf"{tmp_path / 'val'}.*depth"):
        eval_depth(tmp_path)
    shutil.rmtree(tmp_path / "val")
    write_toy_store(tmp_path / "val", frames)
    write_toy_store(tmp_path / "val-labelled", frames)
    assert eval_depth(tmp_path)["data"]["store"] == str(tmp_path / "val-labelled")
    shutil.rmtree(tmp_path / "val-labelled")
    assert eval_depth(tmp_path)["data"]["store"] == str(tmp_path / "val")


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ("LiDAR scan, velodyne-x", None),
        ("LiDAR scan, camera-z", "not the published convention: depth is LiDAR scan, camera-z"),
        ("KITTI annotated depth", "not the published convention: depth is KITTI annotated depth"),
        (None, "whether depth is the published velodyne-x is not recorded"),
    ],
)
def test_what_depth_means_stands_beside_the_published_rows(
    tmp_path, use, monkeypatch, provenance, words
) -> None:
    def declare(*names, **options):
        keys = standard_keys(*names, **options)
        update = {"provenance": provenance}
        return {**keys, "depth": keys["depth"].model_copy(update=update)}

    monkeypatch.setattr("depth_toys.standard_keys", declare)
    store = write_toy_store(tmp_path / "val")
    use(RedPredictor())
    report = eval_depth(store, protocol="kitti-eigen")
    assert report["data"]["depth"] == provenance
    text = format_report(report)
    assert f"on {store}" + (f" (depth: {provenance})" if provenance else "") in text.splitlines()
    assert any(word in text for word in ("convention", "recorded")) == (words is not None)
    assert words is None or words in text
    assert "convention" not in format_report(eval_depth(store))


def test_a_folder_of_exported_depth_says_what_it_means(tmp_path) -> None:
    depth = np.full((40, 60), 8.0, np.float32)
    folders = [write_maps(tmp_path / name, {"a.npy": depth}) for name in ("gt", "predicted")]
    (tmp_path / "gt/export.json").write_text('{"depth": "velodyne", "convention": "camera-z"}')
    report = eval_depth(ground_truth=folders[0], predictions=folders[1], protocol="kitti-eigen")
    text = format_report(report)
    assert "not the published convention: depth is velodyne, camera-z" in text


def test_folder_of_stores_means_its_val(tmp_path, use, monkeypatch) -> None:
    write_toy_store(tmp_path / "data/synth-city/train")
    write_toy_store(tmp_path / "data/synth-city/val", seed=4)
    use(RedPredictor())
    monkeypatch.chdir(tmp_path)
    report = eval_depth()
    assert report["data"]["store"] == "data/synth-city/val"
    assert "per_pixel_mean" in report["baselines"]


def test_a_real_network_from_a_checkpoint(tmp_path) -> None:
    preset = load_preset("unified-tiny", ["image_size=[64, 96]"])
    network = build_network(preset)
    path = save_checkpoint(
        tmp_path / "run/checkpoints",
        preset=preset,
        model=network.state_dict(),
        optimizer={},
        state={"step": 3, "seed": 7},
    )
    store = write_toy_store(tmp_path / "val")
    report = eval_depth(store, checkpoint=tmp_path / "run", device="cpu")
    assert report["checkpoint"] == str(path)
    assert (report["seed"], report["size"], report["num_images"]) == (7, [64, 96], 6)
    assert 0.05 < report["metrics"]["abs_rel"] < 2
    assert report == eval_depth(store, checkpoint=path, device="cpu")


def test_a_network_that_predicts_nan(tmp_path, use) -> None:
    store = write_toy_store(tmp_path / "val")
    use(RedPredictor(factor=np.nan))
    with pytest.raises(IntegrityError, match="north/0: the network predicts NaN"):
        eval_depth(store)


def test_dry_run_opens_everything_and_scores_nothing(tmp_path, use) -> None:
    store = write_toy_store(tmp_path / "val")
    predictor = use(RedPredictor())
    report = eval_depth(store, dry_run=True, plots=tmp_path / "plots")
    assert report["dry_run"]
    assert (predictor.calls, report["num_images"]) == (0, 6)
    assert report["metrics"] == dict.fromkeys(METRICS)
    assert format_report(report) == "dry run: all inputs open; 6 images would be scored"
    assert not (tmp_path / "plots").exists()


def test_missing_input_is_reported_before_the_missing_checkpoint(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIENC_CHECKPOINT", raising=False)
    with pytest.raises(DataError, match="nowhere"):
        eval_depth(Path("nowhere"))
    with pytest.raises(DataError, match="data/synth-city"):
        eval_depth()
    store = write_toy_store(tmp_path / "val")
    with pytest.raises(DataError, match="no-train"):
        eval_depth(store, train_store=Path("no-train"))
    with pytest.raises(UsageError, match="no checkpoint"):
        eval_depth(store)
    bare = write_toy_store(tmp_path / "bare", keys=("image", "K"))
    with pytest.raises(DataError, match="no 'depth'"):
        eval_depth(bare)


def test_a_broken_training_store_nearby_does_not_stop_the_evaluation(tmp_path, use) -> None:
    store = write_toy_store(tmp_path / "val")
    train = write_toy_store(tmp_path / "train")
    shard = next(train.glob("*.h5"))
    shard.write_bytes(shard.read_bytes()[:100])
    use(RedPredictor())
    said: list[str] = []
    report = eval_depth(store, reporter=Reporter(say=said.append))
    assert "per_pixel_mean" not in report["baselines"]
    assert any("no training depths" in line and str(shard) in line for line in said)
    with pytest.raises(StoreError):
        eval_depth(store, train_store=train)


def test_contradicting_requests(tmp_path) -> None:
    here = tmp_path
    for arguments, words in (
        ({"store": here, "predictions": here, "ground_truth": here}, "not both"),
        ({"predictions": here}, "go together"),
        ({"predictions": here, "ground_truth": here, "kind": "dept"}, "did you mean 'depth'"),
        ({"protocol": "kitti"}, "did you mean 'kitti-eigen'"),
        ({"scale": "mean"}, "no scale 'mean'.*give camera_height=store, median, none"),
    ):
        with pytest.raises(UsageError, match=words):
            eval_depth(**arguments)


def test_folders_of_mixed_formats_and_sizes(tmp_path) -> None:
    truth = np.full((40, 60), 8.0, np.float32)
    truth[:, 30:] = 16.0
    truth[:10] = 0
    truths = write_maps(
        tmp_path / "gt", {"a.npy": truth, "sub/b.png": truth, "c.npy": 0 * truth, "d.png": truth}
    )
    dense = np.where(truth > 0, truth, 20)
    maps = {"a.png": dense, "sub/b.npy": 3 * dense, "c.png": dense, "d.npy": dense[::2, ::2]}
    report = eval_depth(
        predictions=write_maps(tmp_path / "predicted", maps), ground_truth=truths, protocol="synth"
    )
    assert (report["num_images"], report["num_skipped"]) == (3, 1)
    assert (report["size"], report["checkpoint"], report["seed"]) == (None, None, None)
    assert report["data"]["kind"] == "depth"
    assert 0 < report["metrics"]["abs_rel"] < 0.02  # blurred edges of the small one
    assert report["scale"]["median"] == pytest.approx(1.0)
    assert list(report["baselines"]) == ["constant"]


def test_kind_disparity(tmp_path) -> None:
    truth = np.random.default_rng(0).uniform(2, 60, (12, 16))
    truths = write_maps(tmp_path / "gt", {"a.npy": truth})
    disparity = write_maps(tmp_path / "predicted", {"a.npy": 7 / truth})
    right = eval_depth(predictions=disparity, ground_truth=truths, kind="disparity")
    assert right["metrics"] == pytest.approx(PERFECT, abs=1e-9)
    assert right["size"] == [12, 16]
    wrong = eval_depth(predictions=disparity, ground_truth=truths)
    assert wrong["metrics"]["abs_rel"] > 0.3


def test_training_depths_serve_folders_too(tmp_path) -> None:
    truth = np.full(SIZE, 9.0)
    arguments = {
        "predictions": write_maps(tmp_path / "predicted", {"a.npy": truth}),
        "ground_truth": write_maps(tmp_path / "gt", {"a.npy": truth}),
        "train_store": write_toy_store(tmp_path / "train"),
    }
    assert list(eval_depth(**arguments)["baselines"]) == ["constant", "per_pixel_mean"]
    assert list(eval_depth(**arguments, scale="none")["baselines"]) == [
        *("constant", "per_pixel_mean")
    ]


def test_bad_predictions_name_their_file(tmp_path) -> None:
    truths = write_maps(tmp_path / "gt", {"a.npy": np.full((8, 9), 5.0)})
    for number, value in enumerate((np.nan, np.inf, -2.0)):
        folder = write_maps(tmp_path / f"p{number}", {"a.npy": np.full((8, 9), value)})
        with pytest.raises(DataError, match=rf"p{number}/a\.npy"):
            eval_depth(predictions=folder, ground_truth=truths)


@pytest.mark.parametrize("with_images", [True, False])
def test_plots(tmp_path, use, with_images: bool) -> None:
    plots = tmp_path / "plots"
    arguments = {"plots": plots}
    if with_images:
        use(RedPredictor(wrong=np.arange(SIZE[1])[None] > np.full((SIZE[0], 1), 40)))
        arguments["store"] = write_toy_store(tmp_path / "val")
    else:
        truth = np.random.default_rng(0).uniform(2, 60, (24, 80))
        truth[np.random.default_rng(1).random(truth.shape) < 0.95] = 0  # as sparse as LiDAR
        maps = {f"{n}.npy": np.full((24, 80), 5.0 + n) for n in range(3)}
        arguments["predictions"] = write_maps(tmp_path / "predicted", maps)
        arguments["ground_truth"] = write_maps(tmp_path / "gt", dict.fromkeys(maps, truth))
    eval_depth(**arguments)
    assert sorted(p.name for p in plots.iterdir()) == ["best.png", "median.png", "worst.png"]
    picture = cv2.imread(str(plots / "worst.png"))
    assert picture.shape[1] == 1280
    assert picture.std() > 10
    with pytest.raises(UsageError, match="--force"):
        eval_depth(**arguments)
    before = (plots / "best.png").read_bytes()
    eval_depth(**arguments, force=True)
    assert (plots / "best.png").read_bytes() == before


def test_plots_where_nothing_can_be_written(tmp_path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(ResourceError, match="cannot be written"):
        eval_depth(tmp_path, plots=blocker / "plots")


def test_report_for_people(tmp_path, use) -> None:
    write_toy_store(tmp_path / "train", seed=1)
    store = write_toy_store(tmp_path / "val")
    use(RedPredictor(factor=2.0))
    report = eval_depth(store)
    lines = format_report(report).splitlines()
    assert lines[0] == "runs/toy/step-1, seed 5"
    assert lines[1] == f"on {store}"
    assert lines[2] == "6 images, predicted at 32x48"
    assert lines[3].startswith("synth: depth 0.5 to 80 m, no crop, median scaling (factor: ")
    assert lines[5].split() == list(METRICS)
    assert [line[:16].strip() for line in lines[6:]] == [
        *("model", "moving pixels", "static pixels", "constant", "per pixel mean", "ground plane")
    ]
    assert len({len(line) for line in lines[6:]}) == 1
