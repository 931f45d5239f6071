"""The exported city, read back as Cityscapes, is the city that was rendered."""

import json
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from unienc_core.data.manifest import read_manifest
from unienc_core.data.sets.city_layout import BASELINE, annotated_frames, disparity_codes
from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
from unienc_core.data.store import Store
from unienc_core.errors import StoreError
from unienc_core.workflows.export_panoptic import export_panoptic
from unienc_core.workflows.prepare import prepare_synth_city
from unienc_core.workflows.prepare_sets import prepare_set

DRIVES, FRAMES = 3, 21
KEPT = 48
"""Rows of the picture above the quarter that is cut off."""

RUN = """
from pathlib import Path
from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
from unienc_core.workflows import prepare_sets
prepare_sets.SHARD_BYTES = 1
if __name__ == "__main__":
    request = CityscapesRequest(gap=1, image_size=(48, 96))
    prepare_sets.prepare_set(list_cityscapes(Path({root!r}), request), Path({out!r}), workers=1)
"""


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("city")
    prepare_synth_city(
        root / "direct",
        splits={"train": (DRIVES, FRAMES)},
        image_size=(64, 96),
        supersample=1,
        export=root / "cs",
        workers=1,
    )
    return root


def adapted(city: Path, out: Path, workers: int = 1, **settings: object) -> dict[str, object]:
    request = CityscapesRequest(
        **{"image_size": (KEPT, 96), "gap": 1, "image_encoding": "png", **settings}
    )
    return prepare_set(list_cityscapes(city / "cs", request), out, workers=workers)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def number_of(name: str) -> tuple[int, int]:
    """Drive and first frame of ``synthcity_<drive>_<frame>``."""
    _, drive, frame = name.split("_")
    return int(drive), int(frame)


@pytest.mark.parametrize("gap", [1, 2])
def test_triplets_images_and_intrinsics_are_those_of_the_direct_store(
    city: Path, tmp_path: Path, gap: int
):
    adapted(city, tmp_path, gap=gap)
    keys = ("image", "K")
    with (
        closing(Store(city / "direct" / "train")) as direct,
        closing(Store(tmp_path / "train")) as ours,
    ):
        found: dict[tuple[int, int], tuple[int, int]] = {}
        for drive, target in ours.triplets():
            number, first = number_of(ours.drives[drive].name)
            at = first + gap * int(target)
            assert (number, at) not in found, "a triplet is there twice"
            found[number, at] = (int(drive), int(target))
        expected = {(int(drive), int(target)) for drive, target in direct.triplets(gap)}
        assert found.keys() == expected
        assert len(expected) == DRIVES * (FRAMES - 2 * gap)
        for (number, at), (drive, target) in found.items():
            for step in (-1, 0, 1):
                theirs = direct.frame(number, at + step * gap, (*keys, "timestamp"))
                frame = ours.frame(drive, target + step, (*keys, "timestamp"))
                np.testing.assert_array_equal(frame["image"], theirs["image"][:KEPT])
                np.testing.assert_array_equal(frame["K"], theirs["K"])
                start = direct.frame(number, number_of(ours.drives[drive].name)[1], ["timestamp"])
                since = theirs["timestamp"] - start["timestamp"]
                np.testing.assert_allclose(frame["timestamp"], since, atol=1e-12)
            height = direct.drives[number].attrs["camera_height"]
            assert ours.drives[drive].attrs["camera_height"] == height


def test_labels_are_those_of_the_direct_store_and_depth_its_16_bit_code(city: Path, tmp_path: Path):
    adapted(city, tmp_path)
    (annotated,) = annotated_frames(FRAMES)
    with (
        closing(Store(city / "direct" / "train")) as direct,
        closing(Store(tmp_path / "train-labelled")) as ours,
    ):
        names = [f"synthcity_{drive:06d}_{annotated:06d}" for drive in range(DRIVES)]
        assert [drive.name for drive in ours.drives] == names
        keys = ("image", "K", "semantic", "instance", "depth")
        for drive in range(DRIVES):
            theirs, frame = direct.frame(drive, annotated, keys), ours.frame(drive, 0, keys)
            np.testing.assert_array_equal(frame["K"], theirs["K"])
            for key in ("image", "semantic", "instance"):
                assert frame[key].dtype == theirs[key].dtype
                np.testing.assert_array_equal(frame[key], theirs[key][:KEPT])
            fx, depth = theirs["K"][0, 0], theirs["depth"][:KEPT]
            codes = disparity_codes(depth, fx)
            np.testing.assert_array_equal(frame["depth"] == 0, depth == 0)
            known = depth > 0
            steps = fx * BASELINE / frame["depth"][known] * 256 + 1
            np.testing.assert_allclose(steps, codes[known], rtol=1e-6)
            np.testing.assert_array_equal(np.rint(steps), codes[known])


def test_depth_of_every_frame_is_that_of_the_direct_store_to_its_code(city: Path, tmp_path: Path):
    adapted(city, tmp_path)
    with (
        closing(Store(city / "direct" / "train")) as direct,
        closing(Store(tmp_path / "train")) as ours,
    ):
        assert ours.num_frames == DRIVES * FRAMES
        for drive, info in enumerate(ours.drives):
            number, first = number_of(info.name)
            for index in range(info.num_frames):
                theirs = direct.frame(number, first + index, ("K", "depth"))
                fx, depth = theirs["K"][0, 0], theirs["depth"][:KEPT]
                codes = disparity_codes(depth, fx)
                found = ours.frame(drive, index, ["depth"])["depth"]
                np.testing.assert_array_equal(found > 0, codes > 1)
                known = codes > 1
                expected = fx * BASELINE * 256 / (codes[known] - 1.0)
                np.testing.assert_allclose(found[known], expected, rtol=1e-6)


def test_settings_are_followed_on_the_way(city: Path, tmp_path: Path):
    """At half the size K obeys c' = (c + 0.5) / 2 - 0.5, and labels take the nearest pixel."""
    adapted(city, tmp_path, image_size=(KEPT // 2, 48))
    (annotated,) = annotated_frames(FRAMES)
    with (
        closing(Store(city / "direct" / "train")) as direct,
        closing(Store(tmp_path / "train-labelled")) as ours,
    ):
        theirs = direct.frame(1, annotated, ("K", "semantic"))
        frame = ours.frame(1, 0, ("K", "semantic"))
        K = theirs["K"]
        expected = [
            [K[0, 0] / 2, 0, (K[0, 2] + 0.5) / 2 - 0.5],
            [0, K[1, 1] / 2, (K[1, 2] + 0.5) / 2 - 0.5],
            [0, 0, 1],
        ]
        np.testing.assert_allclose(frame["K"], expected, rtol=1e-12)
        np.testing.assert_array_equal(frame["semantic"], theirs["semantic"][1:KEPT:2, 1::2])


def test_the_bytes_do_not_depend_on_the_number_of_workers(city: Path, tmp_path: Path):
    adapted(city, tmp_path / "one", workers=1)
    adapted(city, tmp_path / "two", workers=2)
    one = contents(tmp_path / "one")
    assert one == contents(tmp_path / "two")
    assert sum(name.endswith(".h5") for name in one) >= 2


def test_parts_of_a_store_hold_all_of_it_once(city: Path, tmp_path: Path):
    request = CityscapesRequest(image_size=(KEPT, 96), gap=1)
    listing = list_cityscapes(city / "cs", request)
    for number in (1, 2):
        prepare_set(listing, tmp_path, part=(number, 2), workers=1)
    names = [
        drive.name for number in (1, 2) for drive in Store(tmp_path / f"train-{number}-of-2").drives
    ]
    assert names == [drive.name for drive in listing.stores[0].drives]


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(city: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("unienc_core.workflows.prepare_sets.SHARD_BYTES", 1)
    request = CityscapesRequest(gap=1, image_size=(KEPT, 96))
    listing = list_cityscapes(city / "cs", request)
    prepare_set(listing, tmp_path / "whole", workers=1)
    script, out = tmp_path / "run.py", tmp_path / "killed"
    script.write_text(RUN.format(root=str(city / "cs"), out=str(out)))
    process = subprocess.Popen([sys.executable, str(script)])
    while process.poll() is None and num_shards(out) == 0:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = num_shards(out)
    assert kept > 0
    report = prepare_set(listing, out, workers=2)
    assert report["stored"] < sum(plan.num_frames for plan in listing.stores)
    assert contents(out) == contents(tmp_path / "whole")


def num_shards(out: Path) -> int:
    try:
        return len(read_manifest(out / "train").shards)
    except StoreError:
        return 0


@pytest.mark.parity
def test_panoptic_annotations_are_the_official_ones(city: Path, tmp_path: Path):
    official = pytest.importorskip("cityscapesscripts.preparation.createPanopticImgs")
    name = "cityscapes_panoptic_train"
    official.convert2panoptic(str(city / "cs" / "gtFine"), str(tmp_path), False, ["train"])
    files = list((city / "cs" / "gtFine").rglob("*_instanceIds.png"))
    export_panoptic(files, tmp_path / "ours", "train")
    ours = (tmp_path / "ours" / f"{name}.json").read_bytes()
    assert ours == (tmp_path / f"{name}.json").read_bytes()
    kinds = [s for a in json.loads(ours)["annotations"] for s in a["segments_info"]]
    assert any(segment["id"] >= 24000 for segment in kinds)
