"""`prepare-data` of steering sets from the command line: reports, exit codes, a look, a check."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from steering_toys import write_mit_drive, write_pictures, write_segment, write_small_steering

from unienc_cli.main import run


def document(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


COMMANDS = {
    "donkey": (["my_tub"], "steering_unit"),
    "csv": (
        ["my_frames.csv", "--pictures", "my_frames", "--unit", "deg", "--fps", "20"],
        "steering_wheel_deg",
    ),
    "udacity": (["udacity"], "steering_unit"),
    "sullychen": (["driving_dataset"], "steering_wheel_deg"),
    "comma2k19": (["comma2k19"], "steering_wheel_deg"),
    "mit-driving": (["mit"], "curvature"),
}


def test_each_set_is_prepared_shown_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_steering(tmp_path)
    for verb, (arguments, key) in COMMANDS.items():
        command = ["prepare-data", verb, *arguments, "--out", f"out/{verb}", "--workers", "1"]
        assert run([*command, "--json", "--dry-run"]) == 0, capsys.readouterr().err
        assert document(capsys)["planned"][0]["num_frames"] == 6
        assert run([*command, "--json", "--quiet"]) == 0, capsys.readouterr().err
        report = document(capsys)
        assert report["verb"] == f"prepare-data {verb}"
        assert report["stored"] == 6
        assert list(report["stores"][0]["labels"]) == [key]
        assert run([*command, "--json", "--quiet"]) == 0
        assert document(capsys)["stored"] == 0
        assert run(["data", "show", f"out/{verb}"]) == 0
        shown = capsys.readouterr().out
        assert f"{key} in " in shown
        assert "quantiles: 1% " in shown
        assert "histogram: " in shown
        assert run(["data", "check", f"out/{verb}/train", "--threads", "1"]) in (0, 3)
        assert "expected +-" not in capsys.readouterr().out


def test_labels_are_converted_where_a_car_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_segment(tmp_path / "route" / "0")
    command = ["prepare-data", "comma2k19", str(tmp_path), "--out", str(tmp_path / "out"), "--json"]
    command += ["--workers", "1", "--quiet", "--label", "curvature"]
    car = ["--steering-ratio", "15", "--wheelbase", "2.7"]
    assert run([*command, *car]) == 0
    labels = document(capsys)["stores"][0]["labels"]["curvature"]
    assert labels["mean"] == pytest.approx(1000 * np.tan(np.radians(3.0 / 15)) / 2.7, rel=1e-5)
    assert run([*command, "--force", "--look-ahead", "1"]) == 0  # without a car: of the path
    labels = document(capsys)["stores"][0]["labels"]
    assert list(labels) == ["curvature", "curvature_1m"]
    assert labels["curvature"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert labels["curvature_1m"]["unknown"] == 2
    assert run([*command, *car[:2], "--force"]) == 2
    assert "--wheelbase" in json.loads(capsys.readouterr().out)["error"]


def test_a_broken_drive_among_others_is_named_and_the_others_are_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    write_mit_drive(tmp_path / "in" / "a.h5")
    write_mit_drive(tmp_path / "in" / "b.h5", inverse_r=np.zeros(3))
    command = ["prepare-data", "mit-driving", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    command += ["--workers", "1", "--json"]
    assert run([*command, "--dry-run"]) == 4
    capsys.readouterr()
    assert run(command) == 4
    found = capsys.readouterr()
    report = json.loads(found.out)
    assert [loss["drive"] for loss in report["unreadable"]] == ["b.h5"]
    assert report["stores"][0]["num_drives"] == 1
    assert "1 recording are left out" not in found.err
    assert "1 recording is left out" in found.err
    assert "--force" in found.err
    write_mit_drive(tmp_path / "in" / "b.h5")
    assert run(command) == 2  # another store
    assert run([*command, "--force"]) == 0


def test_a_picture_that_cannot_be_read_cuts_its_drive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "frames", [f"{n}.png" for n in range(8)])
    (tmp_path / "frames" / "3.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "drive.csv").write_text("\n".join(f"{n} {n}" for n in range(8)))
    command = ["prepare-data", "csv", str(tmp_path / "drive.csv"), "--unit", "deg", "--fps", "10"]
    command += ["--pictures", str(tmp_path / "frames"), "--out", str(tmp_path / "out")]
    assert run([*command, "--workers", "1", "--json"]) == 4
    report = json.loads(capsys.readouterr().out)
    assert [d["num_frames"] for d in report["stores"][0]["drives"]] == [3, 4]
    assert [d["start"] for d in report["stores"][0]["drives"]] == [0.0, 0.4]
    assert "3.png" in report["unreadable"][0]["reason"]


def test_a_store_of_impossible_labels_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from unienc_core.data.keys import standard_keys
    from unienc_core.data.manifest import StoreSpec
    from unienc_core.data.store_writer import StoreWriter

    keys = standard_keys("timestamp", "steering_unit")
    spec = StoreSpec(source="toy", image_size=(4, 4), keys=keys)
    rows = [
        {"timestamp": np.float64(n), "steering_unit": np.float32(value)}
        for n, value in enumerate([0.5, np.nan, 25.0])
    ]
    with StoreWriter(tmp_path / "train", spec) as writer:
        writer.add_drive("a", [{k: np.asarray(v) for k, v in row.items()} for row in rows])
    assert run(["data", "check", str(tmp_path)]) == 3
    shown = capsys.readouterr().out
    assert "steering_unit up to 25, expected +-1 -1..1 (frame 2)" in shown
    assert "not finite" not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["donkey", "nowhere"], 3, "no Donkey car tub found"),
        (["udacity", "nowhere"], 3, "no Udacity recording found"),
        (["sullychen", "nowhere"], 3, "no Sully Chen's driving set found"),
        (["comma2k19", "nowhere"], 3, "no comma2k19 segment found"),
        (["mit-driving", "nowhere"], 3, "no drive of the MIT protocol found"),
        (["csv", "nowhere.csv", "--unit", "deg", "--fps", "10"], 3, "nowhere.csv: cannot be read"),
        (["csv", "x.csv", "--unit", "deg"], 2, "a column of times, or else a rate"),
        (["csv", "x.csv", "--unit", "grad", "--fps", "1"], 2, "units are 1/km"),
        (["donkey", "nowhere", "--max-gap", "0"], 2, "longest gap 0 s"),
        (["mit-driving", "nowhere", "--label", "angle"], 2, "no label 'angle'"),
        (["sullychen", "nowhere", "--steering-ratio", "0"], 2, "a steering ratio of 0"),
        (["synth-city", "--look-ahead", "-5"], 2, "a look-ahead of -5 m"),
        (["synth-city", "--look-ahead", "nan"], 2, "a look-ahead of nan m"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["prepare-data", *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_an_mit_drive_holds_no_links(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_mit_drive(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["camera_front"]
        file["camera_front"] = h5py.ExternalLink("other.h5", "/x")
    assert run(["prepare-data", "mit-driving", str(path), "--out", str(tmp_path / "out")]) == 3
    assert "no array 'camera_front'" in capsys.readouterr().err
