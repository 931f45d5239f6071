"""A rendered city laid out as Cityscapes: files, codes and labels against the store."""

import json
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from unienc_core.contracts import Reporter
from unienc_core.data.sets.city_layout import BASELINE, annotated_frames, disparity_codes
from unienc_core.data.store import Store
from unienc_core.errors import UsageError
from unienc_core.workflows.export_city import export_city
from unienc_core.workflows.prepare import format_report, prepare_synth_city

SETTINGS = {"image_size": (48, 64), "supersample": 1, "workers": 1}
SPLITS = {"train": (2, 3), "val": (1, 21)}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("city")
    prepare_synth_city(root / "stores", splits=SPLITS, export=root / "cs", **SETTINGS)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_codes_by_hand():
    depth = np.array([[0.0, 10.0, 0.05, 1e4, 1e6]], np.float32)
    codes = disparity_codes(depth, 256.0)
    assert codes.dtype == np.uint16
    # d = 256 x 0.209313 / 10 = 5.358 px; 256 d + 1 = 1372.75, rounded. At 10 km d is a code of 2;
    # at 1000 km it would round to 1, which means an infinite depth, so it is unknown instead.
    assert codes.tolist() == [[0, 1373, 65535, 2, 0]]


def test_one_frame_in_thirty_is_annotated():
    assert annotated_frames(30) == [19]
    assert annotated_frames(75) == [19, 49]
    assert annotated_frames(20) == [19]
    assert annotated_frames(19) == [9]
    assert annotated_frames(1) == [0]


def test_every_file_of_the_layout_is_there(city: Path):
    found = sorted(contents(city / "cs"))
    drives = {("train", 0): 3, ("train", 1): 3, ("val", 0): 21}
    expected = ["synth-city.json"]
    for (split, drive), count in drives.items():
        (annotated,) = annotated_frames(count)
        for index in range(count):
            name = f"{split}/synthcity/synthcity_{drive:06d}_{index:06d}_"
            expected.append(f"leftImg8bit_sequence/{name}leftImg8bit.png")
            expected.append(f"disparity_sequence/{name}disparity.png")
            if index == annotated:
                expected.append(f"leftImg8bit/{name}leftImg8bit.png")
                expected.append(f"disparity/{name}disparity.png")
                expected.append(f"camera/{name}camera.json")
                expected.append(f"gtFine/{name}gtFine_labelIds.png")
                expected.append(f"gtFine/{name}gtFine_instanceIds.png")
    assert found == sorted(expected)


def test_files_hold_what_the_store_holds(city: Path):
    stem = "val/synthcity/synthcity_000000_000019"
    with closing(Store(city / "stores" / "val")) as store:
        keys = ("image", "depth", "semantic", "instance", "K")
        frame = store.frame(0, 19, keys)
        height = store.drives[0].attrs["camera_height"]

    def read(package: str, kind: str) -> np.ndarray:
        path = city / "cs" / package / f"{stem}_{kind}.png"
        return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)

    for package in ("leftImg8bit", "leftImg8bit_sequence"):
        np.testing.assert_array_equal(read(package, "leftImg8bit")[..., ::-1], frame["image"])
    np.testing.assert_array_equal(read("gtFine", "gtFine_labelIds"), frame["semantic"])
    instances = read("gtFine", "gtFine_instanceIds")
    assert instances.dtype == np.uint16
    np.testing.assert_array_equal(instances, frame["instance"])
    assert instances.max() >= 24000
    camera = json.loads((city / "cs" / "camera" / f"{stem}_camera.json").read_text())
    intrinsic = camera["intrinsic"]
    K = [[intrinsic["fx"], 0, intrinsic["u0"]], [0, intrinsic["fy"], intrinsic["v0"]], [0, 0, 1]]
    np.testing.assert_array_equal(np.array(K), frame["K"])
    assert camera["extrinsic"]["z"] == height
    codes = read("disparity", "disparity").astype(np.float64)
    np.testing.assert_array_equal(codes == 0, frame["depth"] == 0)
    known = codes > 0
    disparity = intrinsic["fx"] * camera["extrinsic"]["baseline"] / frame["depth"][known]
    # The code is the nearest one: half a step of 1/256 px from the true disparity.
    assert abs((codes[known] - 1) / 256 - disparity).max() <= 0.5 / 256 + 1e-9
    assert camera["extrinsic"]["baseline"] == BASELINE


def test_a_repeated_export_does_nothing(city: Path):
    before = contents(city / "cs")
    said: list[str] = []
    report = prepare_synth_city(
        city / "stores",
        splits=SPLITS,
        export=city / "cs",
        reporter=Reporter(say=said.append),
        **SETTINGS,
    )
    assert report["export"] == {
        "path": str(city / "cs"), "frames": 27, "annotated": 3, "written": 0
    }  # fmt: skip
    assert any("cs is complete already" in line for line in said)
    assert contents(city / "cs") == before
    assert "the same 27 frames as Cityscapes has them, 3 of them annotated" in format_report(report)


def test_an_interrupted_export_is_made_again_by_any_number_of_workers(city: Path, tmp_path: Path):
    stores = [city / "stores" / split for split in SPLITS]

    def stop(step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_city(stores, tmp_path / "cs", reporter=Reporter(stop))
    assert not json.loads((tmp_path / "cs" / "synth-city.json").read_text())["complete"]
    (tmp_path / "cs" / "leftImg8bit_sequence" / "train" / "synthcity" / ".tmp-a-1").touch()
    report = export_city(stores, tmp_path / "cs", workers=2)
    assert report["written"] == 27
    assert contents(tmp_path / "cs") == contents(city / "cs")


def test_lost_files_are_made_again(city: Path, tmp_path: Path):
    stores, out = [city / "stores" / "train", city / "stores" / "val"], tmp_path / "cs"
    export_city(stores, out)
    whole, said = contents(out), []
    assert export_city(stores, out)["written"] == 0
    (annotated,) = annotated_frames(21)
    name = f"synthcity_000000_{annotated:06d}_camera.json"
    for path in (out / "camera/val/synthcity" / name, next(out.glob("disparity_sequence/*/*/*"))):
        path.unlink()
    assert export_city(stores, out, reporter=Reporter(say=said.append))["written"] == 27
    assert any("2 files are missing; the export is made again" in line for line in said)
    assert contents(out) == whole


def test_other_stores_and_other_folders_are_refused(city: Path, tmp_path: Path):
    out = tmp_path / "cs"
    export_city([city / "stores" / "train"], out)
    alien = out / "leftImg8bit" / "train" / "ulm"
    alien.mkdir()
    with pytest.raises(UsageError, match="an export of other stores"):
        export_city([city / "stores" / "val"], out)
    export_city([city / "stores" / "val"], out, force=True)
    assert alien.is_dir()
    assert not (out / "leftImg8bit" / "train" / "synthcity").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for force in (False, True):
        with pytest.raises(UsageError, match="no export .it holds thesis.tex"):
            prepare_synth_city(
                tmp_path / "s", export=tmp_path / "mine", force=force, dry_run=True, **SETTINGS
            )


def test_a_damaged_record_is_refused(city: Path, tmp_path: Path):
    (tmp_path / "synth-city.json").write_text("[")
    with pytest.raises(UsageError, match="no record of an export; --force makes it again"):
        export_city([city / "stores" / "val"], tmp_path)
