"""`data check`: every damage is made and must be reported, and clean data give no finding."""

import json
import shutil

import cv2
import numpy as np
import pytest
from fake_drives import K, frame, spec, write_fake_store
from moving_pictures import slide
from PIL import Image

from unienc_cli.main import run
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import read_manifest, write_manifest
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError
from unienc_core.files import sha256_file
from unienc_core.workflows.check_data import check_data, format_check
from unienc_core.workflows.prepare import prepare_synth_city

FRAMES = 6


def write_store(path, change=lambda index, values: None, *, seed=0, frames=FRAMES, **changes):
    """A store of one drive whose frames `change` may spoil."""

    def spoilt():
        for index in range(frames):
            values = frame(seed, index)
            change(index, values)
            yield values

    with StoreWriter(path, spec(**changes)) as writer:
        writer.add_drive("drive", spoilt())
    return path


def at(number, key, make):
    """A change of one key of one frame."""

    def change(index, values):
        if index == number:
            values[key] = make(values[key])

    return change


def put(value, *place):
    def make(array):
        array = array.copy()
        array[place] = value
        return array

    return make


def found(report, kind="findings"):
    return {(entry["check"], entry["what"]) for entry in report[kind]}


def test_a_clean_city_gives_no_finding(tmp_path):
    splits = {"train": (2, 6), "val": (1, 6)}
    prepare_synth_city(tmp_path, splits=splits, image_size=(48, 96), supersample=1, workers=1)
    report = check_data([tmp_path], workers=1)
    assert report["ok"]
    assert (report["findings"], report["warnings"]) == ([], [])
    assert [store["num_frames"] for store in report["stores"]] == [12, 6]
    assert all(store["static_share"] == 0 for store in report["stores"])
    assert "0 findings" in format_check(report)


def test_clean_drives_give_no_finding_whatever_the_number_of_processes(tmp_path):
    write_fake_store(tmp_path / "a", count=5)
    one = check_data([tmp_path / "a"], workers=1)
    assert one["ok"]
    assert check_data([tmp_path / "a"], workers=2) == one


def turned(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def make(camera):
        turn = np.eye(4)
        turn[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        return camera @ turn

    return make


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (at(2, "image", lambda x: x * 0), "useless", "image is black (frame 2)"),
        (at(2, "image", lambda x: x * 0 + 77), "useless", "one colour all over (frame 2)"),
        (at(3, "K", put(60.0, 0, 2)), "intrinsics", "principal point (60.0, 14.0) lies outside"),
        (at(3, "K", put(0.5, 0, 0)), "intrinsics", "field of view of 177.6 x 41.7 degrees"),
        (at(3, "K", put(4000.0, 1, 1)), "intrinsics", "field of view of 61.9 x 0.5 degrees"),
        (at(3, "K", put(-40.0, 0, 0)), "intrinsics", "no camera matrix"),
        (at(3, "K", put(np.nan, 0, 0)), "intrinsics", "no camera matrix"),
        (at(3, "K", put(41.0, 0, 0)), "intrinsics-vary", "differs from that of the first frame"),
        (at(3, "T_world_camera", put(np.nan, 0, 3)), "poses", "pose is not finite (frame 3)"),
        (at(3, "T_world_camera", put(2.0, 0, 0)), "poses", "no rotation and translation"),
        (at(3, "T_world_camera", put(-5.0, 0, 3)), "pose-leaps", "leaps by 5.2 m"),
        (at(3, "T_world_camera", turned(60)), "pose-leaps", "and 61 degrees"),
        (at(3, "timestamp", lambda x: x * 0), "timestamps", "does not increase (frame 3)"),
        (at(3, "speed", lambda x: x * np.float32("nan")), "not-finite", "speed is not finite"),
        (at(1, "depth", put(-1.0, 0, 0)), "negative", "depth holds distances below 0 (frame 1)"),
        (at(1, "depth", put(np.nan, 0, 0)), "not-finite", "depth holds NaN or infinity"),
        (at(1, "semantic", put(34, 0, 0)), "labels", "label id 34, which the class table"),
        (at(1, "instance", put(40007, 0, 0)), "labels", "id 40007, which the class table"),
        (at(1, "motion_mask", put(2, 0, 0)), "labels", "motion_mask holds more than 0 and 1"),
    ],
)
def test_nonsense_in_a_store_is_named_with_its_frames(change, check, words, tmp_path):
    report = check_data([write_store(tmp_path / "s", change)], workers=1)
    hits = [entry for entry in report["findings"] if entry["check"] == check]
    assert len(hits) == 1, report["findings"]
    assert words in hits[0]["what"]
    assert hits[0]["place"] == f"{tmp_path / 's'}, drive drive"
    assert hits[0]["remedy"]


def test_a_depth_that_is_nowhere_known_is_a_finding_and_a_frame_of_it_a_warning(tmp_path):
    whole = write_store(tmp_path / "a", lambda i, v: v.update(depth=v["depth"] * 0))
    one = write_store(tmp_path / "b", at(1, "depth", lambda x: x * 0), seed=1)
    assert ("coverage", "depth holds no valid value (frames 0, 1, 2 and 3 more)") in found(
        check_data([whole], workers=1)
    )
    report = check_data([one], workers=1)
    assert report["ok"]
    assert ("coverage", "depth holds no valid value (frame 1)") in found(report, "warnings")


def test_a_picture_that_is_there_twice_is_named(tmp_path):
    first = frame(0, 1)["image"]
    report = check_data([write_store(tmp_path / "s", at(3, "image", lambda _: first))], workers=1)
    assert ("repeated", "image is the very picture of an earlier frame (frame 3)") in found(report)


def test_standing_grey_and_short_drives_are_warnings(tmp_path):
    pictures = slide(0, 12, size=(48, 80))
    rng = np.random.default_rng(0)
    keys = standard_keys("image", "K")
    store_spec = spec(keys=keys, image_size=(48, 80), gap=2)
    with StoreWriter(tmp_path / "s", store_spec) as writer:
        standing = [
            pictures[0].astype(int) + rng.integers(0, 2, pictures[0].shape) for _ in "x" * 8
        ]
        grey = [np.repeat(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[..., None], 3, 2) for p in pictures]
        for name, images in (("stop", standing), ("grey", grey), ("short", pictures[:4])):
            frames = [{"image": image.astype(np.uint8), "K": K} for image in images]
            writer.add_drive(name, frames)
    report = check_data([tmp_path / "s"], workers=1)
    assert report["ok"]
    warnings = {(w["place"].split()[-1], w["check"]) for w in report["warnings"]}
    assert warnings == {("stop", "static"), ("grey", "grey"), ("short", "triplets")}
    shares = [drive["static_share"] for drive in report["stores"][0]["drives"]]
    assert shares == [1.0, 0.0, 0.0]


def test_a_store_without_any_triplet_is_a_finding(tmp_path):
    report = check_data([write_store(tmp_path / "s", frames=2)], workers=1)
    assert ("triplets" in {check for check, _ in found(report)}) and not report["ok"]


def test_the_same_drive_in_two_splits_is_found_by_content(tmp_path):
    write_store(tmp_path / "train", split="train")
    write_store(tmp_path / "val", split="val", gap=2, seed=0)
    report = check_data([tmp_path], workers=1)
    (entry,) = report["findings"]
    assert entry["check"] == "same-drive"
    assert entry["place"] == f"{tmp_path / 'val'}, drive drive"
    assert "split 'val' holds what 'train' holds" in entry["what"]


def test_drives_that_overlap_are_found_across_stores(tmp_path):
    write_store(tmp_path / "a", split="train")

    def later(index, values):
        values.update(frame(0, index + 4))

    write_store(tmp_path / "b", later, split="train")
    report = check_data([tmp_path / "a", tmp_path / "b"], workers=1)
    assert found(report) == {
        ("shared-pictures", f"shares 2 of its 6 pictures with drive of {tmp_path / 'a'}")
    }
    assert check_data([tmp_path / "b"], workers=1)["ok"]


def test_truncated_edited_and_unfinished_stores_are_all_listed(tmp_path):
    for name in ("cut", "edited", "manifest", "unfinished", "good"):
        write_fake_store(tmp_path / name, count=2)
    shard = tmp_path / "cut" / "shard-00001.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    shard = tmp_path / "edited" / "shard-00000.h5"
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 0xFF
    shard.write_bytes(data)
    manifest = tmp_path / "manifest" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"fps": 17.0', '"fps": 18.0'))
    started = read_manifest(tmp_path / "unfinished").model_copy(update={"complete": False})
    write_manifest(tmp_path / "unfinished", started)
    shutil.rmtree(tmp_path / "good")
    report = check_data([tmp_path], workers=1)
    faults = {e["place"]: e["what"] for e in report["findings"] if e["check"] == "integrity"}
    assert "has" in faults[str(tmp_path / "cut" / "shard-00001.h5")]
    assert "SHA-256" in faults[str(tmp_path / "edited" / "shard-00000.h5")]
    assert "digest" in faults[str(tmp_path / "manifest")]
    assert "unfinished" in faults[str(tmp_path / "unfinished")]
    assert len(faults) == 4


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path):
    path = write_store(tmp_path / "s")
    shard = path / "shard-00000.h5"
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT") + 60] ^= 0xFF
    shard.write_bytes(data)
    manifest = read_manifest(path)
    record = manifest.shards[0].model_copy(update={"sha256": sha256_file(shard)})
    write_manifest(path, manifest.model_copy(update={"shards": (record,)}))
    assert found(check_data([path], workers=1)) == {
        ("unreadable", "image cannot be decoded (frame 0)")
    }


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


def spoil_image_folder(folder):
    pictures = slide(0, 9, size=(48, 80))
    for i, picture in enumerate(pictures[:3]):
        save(folder / f"good{i}.png", picture)
    (folder / "empty.png").write_bytes(b"")
    save(folder / "cut.jpg", pictures[3])
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:600])
    save(folder / "black.png", pictures[0] * 0)
    save(folder / "flat.png", pictures[0] * 0 + 90)
    save(folder / "grey.png", pictures[4][..., 0])
    Image.fromarray(pictures[5]).convert("CMYK").save(folder / "cmyk.jpg")
    turned_tag = Image.Exif()
    turned_tag[0x0112] = 6
    save(folder / "turned.jpg", pictures[6], exif=turned_tag)
    shutil.copy(folder / "good1.png", folder / "twin.png")
    save(folder / "small.png", pictures[7][:40])


def test_bad_image_files_are_named(tmp_path):
    spoil_image_folder(tmp_path / "images")
    report = check_data([tmp_path / "images"], workers=1)
    named = {(e["place"].rpartition("/")[2], e["check"]) for e in report["findings"]}
    assert named == {
        ("empty.png", "unreadable"),
        ("cut.jpg", "unreadable"),
        ("black.png", "useless"),
        ("flat.png", "useless"),
        ("grey.png", "one-channel"),
        ("cmyk.jpg", "cmyk"),
        ("turned.jpg", "turned"),
        ("twin.png", "repeated"),
    }
    assert {w["check"] for w in report["warnings"]} == {"sizes"}
    assert report["folders"] == [{"path": str(tmp_path / "images"), "num_files": 12}]


def test_label_images_beside_pictures_are_no_finding(tmp_path):
    for i, picture in enumerate(slide(0, 3, size=(48, 80))):
        save(tmp_path / "images" / f"{i}.png", picture)
        save(tmp_path / "labels" / f"{i}.png", (picture[..., 0] // 64).astype(np.uint8) * 0 + 7)
    report = check_data([tmp_path], workers=1)
    assert report["ok"]
    assert {w["check"] for w in report["warnings"]} == {"grey", "useless"}


def test_what_is_no_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        check_data([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="neither a store nor an image"):
        check_data([tmp_path])
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        check_data([tmp_path / "file"])


def test_the_verb_exits_3_with_one_document(tmp_path, capsys):
    good = write_store(tmp_path / "good")
    assert run(["data", "check", str(good), "--json", "--threads", "1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"schema": 1, "verb": "data check", "ok": True}.items() <= document.items()
    bad = write_store(tmp_path / "bad", at(2, "image", lambda x: x * 0), seed=1)
    assert run(["data", "check", str(bad), "--json", "--quiet"]) == 3
    out, err = capsys.readouterr()
    assert [e["check"] for e in json.loads(out)["findings"]] == ["useless"]
    assert "1 finding" in err
    assert run(["data", "check", str(bad)]) == 3
    assert "image is black (frame 2)" in capsys.readouterr().out
