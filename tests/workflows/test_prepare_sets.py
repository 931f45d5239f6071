"""`prepare-data cityscapes`: stores, parts, resumes, exports, and what the command says."""

import json
from contextlib import closing

import numpy as np
import pytest
from cityscapes_toys import BASELINE, FX, label_parts, write_small_cityscapes

from unienc_cli.main import run
from unienc_core.contracts import Progress, Reporter
from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
from unienc_core.data.store import Store
from unienc_core.errors import DataError, UsageError
from unienc_core.workflows.check_data import check_data
from unienc_core.workflows.export_depth import export_cityscapes_depth
from unienc_core.workflows.prepare_sets import format_report, prepare_set

STEMS = ("ulm_000000_000004", "ulm_000001_000004")
REQUEST = CityscapesRequest(gap=1, image_size=(6, 16))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cityscapes")
    assert tuple(write_small_cityscapes(folder, "train")) == STEMS
    return folder


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_repeated_call_does_nothing_and_a_stopped_one_goes_on(root, tmp_path, monkeypatch):
    monkeypatch.setattr("unienc_core.workflows.prepare_sets.SHARD_BYTES", 1)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    report = prepare_set(list_cityscapes(root, REQUEST), whole, workers=1)
    assert [store["num_triplets"] for store in report["stores"]] == [12, 0]
    assert report["stored"] == 18

    def stop_at_the_second(progress: Progress) -> None:
        if progress.done >= 9:
            raise KeyboardInterrupt

    with pytest.raises(BaseException, match="interrupted; the same command goes on"):
        prepare_set(
            list_cityscapes(root, REQUEST),
            stopped,
            workers=1,
            reporter=Reporter(stop_at_the_second),
        )
    lines: list[str] = []
    again = prepare_set(
        list_cityscapes(root, REQUEST), stopped, workers=1, reporter=Reporter(say=lines.append)
    )
    assert 0 < again["stored"] < 18
    assert any("of 18 frames are there already" in line for line in lines)
    assert content(stopped) == content(whole)
    before = content(whole)
    assert prepare_set(list_cityscapes(root, REQUEST), whole, workers=1)["stored"] == 0
    assert content(whole) == before


def test_other_files_or_settings_are_another_store(root, tmp_path):
    prepare_set(list_cityscapes(root, REQUEST), tmp_path, workers=1)
    wider = CityscapesRequest(gap=2, image_size=(6, 16))
    with pytest.raises(UsageError, match=r"config\.files is .*config\.gap is 1 there, 2 asked"):
        prepare_set(list_cityscapes(root, wider), tmp_path, workers=1)
    forced = prepare_set(list_cityscapes(root, wider), tmp_path, workers=1, force=True)
    assert forced["stores"][0]["num_triplets"] == 8


def test_parts_hold_everything_once(root, tmp_path):
    listing = list_cityscapes(root, CityscapesRequest(gap=2, image_size=(6, 16)))
    names, triplets = [], 0
    for number in (1, 2):
        prepare_set(listing, tmp_path, part=(number, 2), workers=1)
        with closing(Store(tmp_path / f"train-{number}-of-2")) as store:
            names += [drive.name for drive in store.drives]
            triplets += len(store.triplets())
            assert store.manifest["config"]["shard"] == f"{number}/2"
    assert names == [drive.name for drive in listing.stores[0].drives]
    assert triplets == 8
    with pytest.raises(UsageError, match="expected I/N with I in 1..N"):
        prepare_set(listing, tmp_path, part=(3, 2), workers=1)
    lines: list[str] = []
    report = prepare_set(
        listing, tmp_path / "x", part=(1, 4), dry_run=True, reporter=Reporter(say=lines.append)
    )
    assert [store["name"] for store in report["planned"]] == ["train-1-of-4"]
    assert "train-labelled: no drive in part 1 of 4, it has 2 in all" in lines
    with pytest.raises(UsageError, match="no store has so many drives"):
        prepare_set(listing, tmp_path / "x", part=(1, 5), workers=1)


def test_what_is_made_passes_the_check_of_data(root, tmp_path, monkeypatch):
    """Labelled frames are in their sequence, too, and cut runs share two frames: both meant."""
    monkeypatch.setattr("unienc_core.data.sets.cityscapes.MAX_DRIVE_BYTES", 1)
    listing = list_cityscapes(root, REQUEST)
    assert len(listing.stores[0].drives) == 12
    prepare_set(listing, tmp_path / "whole", workers=1)
    assert check_data([tmp_path / "whole"], workers=1)["findings"] == []
    for number in (1, 2, 3):
        prepare_set(listing, tmp_path / "parts", part=(number, 5), workers=1)
    assert check_data([tmp_path / "parts"], workers=1)["findings"] == []


def test_a_dry_run_reads_no_picture_and_writes_nothing(root, tmp_path):
    report = prepare_set(list_cityscapes(root, REQUEST), tmp_path / "out", dry_run=True)
    assert (
        format_report(report)
        .splitlines()[0]
        .endswith(
            "would hold train of 16 frames in 2 drives, train-labelled of 2 frames in 2 drives"
        )
    )
    assert not (tmp_path / "out").exists()


def test_depth_as_files_under_its_own_names_and_those_of_a_list(root, tmp_path):
    found = export_cityscapes_depth(root, "train", tmp_path / "own", workers=1)
    assert found == {"path": str(tmp_path / "own"), "frames": 2, "made": 2, "unreadable": []}
    depth = np.load(tmp_path / "own" / f"{STEMS[1]}.npy")
    codes = label_parts(1)["disparity"].astype(float)
    expected = np.where(codes > 1, FX * BASELINE * 256 / np.maximum(codes - 1, 1), 0)
    assert (depth.dtype, depth.shape) == (np.float32, (16, 32))
    np.testing.assert_allclose(depth, expected, rtol=1e-7)
    assert export_cityscapes_depth(root, "train", tmp_path / "own", workers=1)["made"] == 0

    order = tmp_path / "test_files.txt"
    order.write_text(f"ulm {STEMS[1]}\n\nulm {STEMS[0]}\nulm/{STEMS[1]}_leftImg8bit.png\n")
    export_cityscapes_depth(root, "train", tmp_path / "listed", order, workers=1)
    files = sorted(path.name for path in (tmp_path / "listed").iterdir())
    assert files == ["000_depth.npy", "001_depth.npy", "002_depth.npy", "export.json"]
    np.testing.assert_array_equal(np.load(tmp_path / "listed/000_depth.npy"), depth)
    np.testing.assert_array_equal(np.load(tmp_path / "listed/002_depth.npy"), depth)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "names no frame"),
        ("ulm_000000_000004\nberlin\n", "line 2 names no frame"),
        ("bonn_000000_000004\n", "1 of 1 frames have no disparity.*bonn_000000_000004"),
        ("\xff", "names no frame"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(root, tmp_path, text, fault):
    order = tmp_path / "list.txt"
    order.write_text(text)
    with pytest.raises(DataError, match=fault):
        export_cityscapes_depth(root, "train", tmp_path / "out", order)
    assert not (tmp_path / "out").exists()


def test_the_command(root, tmp_path, capsys):
    common = ["prepare-data", "cityscapes", str(root), "--out", str(tmp_path / "out")]
    common += ["--size", "6x16", "--workers", "1"]
    exports = [
        "--export-depth",
        str(tmp_path / "depth"),
        "--export-panoptic",
        str(tmp_path / "pan"),
    ]
    assert run([*common, *exports, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verb"] == "prepare-data cityscapes"
    assert document["exported_depth"]["made"] == document["exported_panoptic"]["made"] == 2
    assert (tmp_path / "pan" / "cityscapes_panoptic_train.json").is_file()
    assert [store["num_frames"] for store in document["stores"]] == [16, 2]
    assert run(common) == 0
    out, err = capsys.readouterr()
    assert "nothing to do" in err
    assert "2 drives, 8 frames" not in out
    assert "16 frames, 8 triplets, 6x16" in out


def test_an_export_that_cannot_be_is_refused_before_any_store_is_made(root, tmp_path, capsys):
    common = ["prepare-data", "cityscapes", str(root), "--out", str(tmp_path / "out")]
    other = tmp_path / "cityscapes_panoptic_train.json"
    other.write_text('{"annotations": []}')
    assert run([*common, "--export-panoptic", str(tmp_path)]) == 2
    assert "holds 0 images, not the 2 asked for" in capsys.readouterr().err
    (tmp_path / "list.txt").write_text("bonn_000000_000004")
    listed = ["--export-frames", str(tmp_path / "list.txt")]
    assert run([*common, "--export-depth", str(tmp_path / "depth"), *listed]) == 3
    assert "1 of 1 frames have no disparity" in capsys.readouterr().err
    nothing = ["--export-frames", str(tmp_path / "nolist.txt")]
    assert run([*common, "--export-depth", str(tmp_path / "depth"), *nothing]) == 3
    assert "nolist.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_panoptic_without_instances_is_refused_before_any_store_is_made(tmp_path, capsys):
    write_small_cityscapes(tmp_path / "cs", "train", snippets=1)
    for path in (tmp_path / "cs/gtFine").rglob("*_instanceIds.png"):
        path.unlink()
    command = ["prepare-data", "cityscapes", str(tmp_path / "cs"), "--out", str(tmp_path / "out")]
    assert run([*command, "--size", "6x16", "--export-panoptic", str(tmp_path / "pan")]) == 3
    assert "no Cityscapes instances of split 'train' found" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--split", "test"], 3, "no Cityscapes split 'test' found; expected under it"),
        (["--shard", "3/2"], 2, "--shard is I/N with I in 1..N, like 3/8, found '3/2'"),
        (["--shard", "0/2"], 2, "--shard is I/N"),
        (["--image-encoding", "gif"], 2, "--image-encoding is jpeg or png, found 'gif'"),
        (["--size", "6"], 2, "--size is two positive numbers"),
        (["--crop", "1"], 2, "a crop of 1 of the height"),
        (["--export-frames", "x.txt"], 2, "give both"),
        (["--export-depth", "x", "--shard", "1/2"], 2, "leave --shard out"),
    ],
)
def test_refusals_of_the_command(root, tmp_path, capsys, arguments, code, line):
    command = ["prepare-data", "cityscapes", str(root), "--out", str(tmp_path / "out"), *arguments]
    assert run(command) == code
    error = capsys.readouterr().err
    assert line in error
    assert "Traceback" not in error
