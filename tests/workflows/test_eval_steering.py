"""`eval-steering`: predictions against numpy, a checkpoint on a store, and what is refused."""

import json

import numpy as np
import pytest
from sequence_toys import FRAMES, label_of, steering_network, steering_preset, write_drives

from unienc_cli.main import run
from unienc_core.checkpoint import save_checkpoint
from unienc_core.contracts import Batch
from unienc_core.data.sequence_dataset import frames_as_seen
from unienc_core.data.store import Store
from unienc_core.data.transforms import to_image_tensor
from unienc_core.errors import DataError
from unienc_core.workflows.eval_steering import eval_steering


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    """A validation split of two drives, the first label of the second unknown; a training split."""
    root = tmp_path_factory.mktemp("eval") / "city"
    write_drives(root / "train", (10,))
    write_drives(root / "val", (30, 25), unknown=[(1, 0)])
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    preset = steering_preset()
    network = steering_network(preset, seed=3)
    folder = tmp_path_factory.mktemp("checkpoint")
    state = {"step": 1, "seed": 3}
    return save_checkpoint(
        folder, preset=preset, model=network.state_dict(), optimizer={}, state=state
    )


def write(path, rows, header="drive,frame,value"):
    path.write_text("\n".join([header, *rows]).strip() + "\n")
    return path


def test_predictions_are_scored_as_numpy_does(city, tmp_path):
    places = [(d, f) for d, n in ((0, 30), (1, 25)) for f in range(0, n, 3)]
    values = np.random.default_rng(0).normal(1500, 300, len(places))
    rows = [f"drive-{d},{f},{v!r}" for (d, f), v in zip(places, values.tolist(), strict=True)]
    report = eval_steering(city, predictions=write(tmp_path / "p.csv", rows))
    scored = [i for i, place in enumerate(places) if place != (1, 0)]
    truth = np.array([label_of(*places[i]) for i in scored])
    errors = values[scored] - truth
    assert report["num_images"] == len(scored)
    assert report["num_skipped"] == 30 + 24 - len(scored)
    assert (report["label"], report["unit"], report["checkpoint"]) == ("curvature", "1/km", None)
    assert report["metrics"] == {
        "steering_mse": pytest.approx(np.mean(errors**2)),
        "steering_mae": pytest.approx(np.mean(np.abs(errors))),
    }
    found = report["baselines"]
    assert found["zero"]["steering_mae"] == pytest.approx(np.mean(truth))
    mean = np.mean([label_of(0, f) for f in range(10)])
    assert found["train_mean"]["steering_mse"] == pytest.approx(np.mean((truth - mean) ** 2))
    # Labels grow by one a frame, twenty frames a second; the first frames have no past.
    assert found["persistence_1_frame"]["steering_mse"] == pytest.approx(1)
    assert found["persistence_500_ms"]["steering_mae"] == pytest.approx(10)
    assert found["persistence_1000_ms"]["steering_mae"] == pytest.approx(20)
    assert found["persistence_1000_ms"]["num_images"] == sum(places[i][1] >= 20 for i in scored) - 0
    assert found["persistence_2000_ms"]["steering_mse"] is None


def test_without_a_header_and_without_a_drive(city, tmp_path):
    table = tmp_path / "p.csv"
    table.write_text("0,1000\n1,1003\n")
    report = eval_steering(city / "train", predictions=table)
    assert report["metrics"] == {"steering_mse": 2.0, "steering_mae": 1.0}
    assert report["num_skipped"] == 8
    with pytest.raises(DataError, match="2 drives"):
        eval_steering(city, predictions=table)


def test_a_checkpoint_is_scored_window_after_window(city, checkpoint):
    report = eval_steering(city, checkpoint=checkpoint, device="cpu")
    network = steering_network(steering_preset(), seed=3).eval()
    store, errors = Store(city / "val"), []
    for drive, info in enumerate(store.drives):
        for first in range(0, info.num_frames - FRAMES + 1, FRAMES):
            seen = frames_as_seen(store, drive, range(first, first + FRAMES), (64, 128))
            batch: Batch = {"sequence_images": to_image_tensor(seen)[None]}
            made = network({"s": batch}, ["curvature"])["s"]["curvature"].item()
            errors.append(made - label_of(drive, first + FRAMES - 1))
    assert report["num_images"] == len(errors) == 7 + 6
    assert report["protocol"] == f"windows every {FRAMES} frames"
    assert report["metrics"]["steering_mse"] == pytest.approx(np.mean(np.square(errors)), 1e-5)
    every = eval_steering(city, checkpoint=checkpoint, device="cpu", stride=1)
    assert every["num_images"] == 30 + 25 - 2 * (FRAMES - 1)


def test_thresholds_stop_a_pipeline(city, checkpoint, capsys):
    command = ["eval-steering", str(city), "--checkpoint", str(checkpoint), "--json", "-q"]
    assert run([*command, "--fail-over", "steering_mse=1e9"]) == 0
    assert run([*command, "--fail-over", "steering_mae=1"]) == 7
    out, err = capsys.readouterr()
    documents = [json.loads(line) for line in out.splitlines()]
    assert {"schema": 1, "verb": "eval-steering", "seed": 3}.items() <= documents[1].items()
    assert "steering_mae = " in err
    assert run([*command[:-2], "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["drive-7,0,1"], "line 2: no drive 'drive-7'"),
        (["drive-0,30,1"], "line 2: frame 30 of drive drive-0, which has 0 to 29"),
        (["drive-0,-1,1"], "frame -1"),
        (["drive-0,1.5,1"], "frame 1.5"),
        (["drive-0,1,1", "drive-0,1,2"], "line 3: drive drive-0 frame 1 a second time"),
        (["drive-0,1,nan"], "not finite"),
        (["drive-0,1,"], "not finite"),
        (["drive-0,1,left"], "expected a number"),
        (["drive-0,1"], "2 cells, expected 3"),
        (["drive-1,0,5"], "nothing that was predicted has a known curvature"),
        ([], "no row of values"),
    ],
)
def test_bad_predictions_are_one_line(city, tmp_path, capsys, rows, message):
    table = write(tmp_path / "p.csv", rows)
    assert run(["eval-steering", str(city), "--predictions", str(table), "-q"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_other_bad_input_is_one_line(city, checkpoint, tmp_path, capsys):
    empty = write(tmp_path / "p.csv", ["1,2"], header="frame,steering")
    cases = [
        (["--predictions", str(empty)], 3, "expected columns frame,value"),
        (["--predictions", str(tmp_path / "none.csv")], 3, "none.csv"),
        (["--predictions", str(empty), "--stride", "2"], 2, "--stride"),
        (["--predictions", str(empty), "--label", "steering_unit"], 3, "steering_unit"),
        (["--checkpoint", str(checkpoint), "--train-store", "gone"], 3, "gone"),
    ]
    for options, code, message in cases:
        assert run(["eval-steering", str(city), *options, "-q"]) == code, options
        err = capsys.readouterr().err
        assert len(err.strip().splitlines()) == 1
        assert message in err
