"""`prepare-data synth-city` and `data show`: kills, worker counts, refusals, and what is in it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.city_source import CitySource, city_plans, world_seed
from unienc_core.data.dataset import TripletDataset
from unienc_core.data.manifest import read_manifest
from unienc_core.data.store import Store
from unienc_core.data.synthcity import City
from unienc_core.errors import Interrupted, StoreError, UsageError
from unienc_core.presets import AugmentSpec, StreamSpec
from unienc_core.workflows.inspect_data import describe_store, format_description
from unienc_core.workflows.prepare import format_report, prepare_synth_city

SIZE = (48, 96)
SPLITS = {"train": (9, 4), "val": (1, 3)}
SETTINGS = {"splits": SPLITS, "image_size": SIZE, "supersample": 1, "seed": 2}

RUN = """
from pathlib import Path
from unienc_core.workflows.prepare import prepare_synth_city
if __name__ == "__main__":
    prepare_synth_city(Path({out!r}), workers={workers}, **{settings!r})
"""


def file_bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("city") / "out"
    steps: list[Progress] = []
    report = prepare_synth_city(out, workers=1, reporter=Reporter(steps.append), **SETTINGS)
    assert [(p.done, p.total) for p in steps][-1] == (39, 39)
    return out, report


def start(tmp_path, out, settings):
    script = tmp_path / "run.py"
    script.write_text(RUN.format(out=str(out), workers=2, settings=settings))
    return subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)


def num_shards(out):
    try:
        return len(read_manifest(out / "train").shards)
    except StoreError:
        return 0


def children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def descendants(pid):
    return [each for child in children(pid) for each in (child, *descendants(child))]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_three_kills_end_in_the_bytes_of_one_run(tmp_path):
    """Killed by -9 when more shards are there; two workers, against one in the reference."""
    settings = {**SETTINGS, "splits": {"train": (10, 3)}, "image_size": (64, 208)}
    settings["supersample"] = 2
    prepare_synth_city(tmp_path / "whole", workers=1, **settings)
    out = tmp_path / "out"
    for kill in range(3):
        before = num_shards(out)
        process = start(tmp_path, out, settings)
        while num_shards(out) <= before + kill % 2:
            assert process.poll() is None, "finished before it was killed"
            time.sleep(0.002)
        workers = descendants(process.pid)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        wait_for(lambda pids=workers: not any(is_alive(pid) for pid in pids))
        assert before < num_shards(out) < 10
        with pytest.raises(StoreError, match="unfinished"):
            Store(out / "train")
    recorded = [out / "train" / shard.file for shard in read_manifest(out / "train").shards]
    times = [path.stat().st_mtime_ns for path in recorded]
    process = start(tmp_path, out, settings)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    assert file_bytes(out) == file_bytes(tmp_path / "whole")
    assert [path.stat().st_mtime_ns for path in recorded] == times, "made again"


def test_a_repeated_call_does_nothing_and_says_so(made):
    out, report = made
    said: list[str] = []
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = prepare_synth_city(out, workers=2, reporter=Reporter(say=said.append), **SETTINGS)
    assert again["rendered"] == 0
    assert said == [f"{out} is complete already: nothing to do"]
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before
    assert again["stores"] == report["stores"]


def test_interrupted_by_the_user(tmp_path, made):
    def interrupt(progress):
        if progress.done >= 8:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(Interrupted, match="same command goes on"):
        prepare_synth_city(out, workers=2, reporter=Reporter(interrupt), **SETTINGS)
    assert not list(out.rglob(".tmp-*"))
    said: list[str] = []
    report = prepare_synth_city(out, workers=1, reporter=Reporter(say=said.append), **SETTINGS)
    assert 0 < report["rendered"] < 39
    assert f"{39 - report['rendered']} of 39 frames are there already" in said[0]
    assert file_bytes(out) == file_bytes(made[0])


def test_other_settings_are_refused_or_start_over(made, tmp_path):
    out, _ = made
    before = file_bytes(out)
    for dry_run in (False, True):
        with pytest.raises(UsageError, match=r"config\.noise is 0\.0075 there, 0\.01 asked"):
            prepare_synth_city(out, **{**SETTINGS, "noise": 0.01}, dry_run=dry_run)
    assert file_bytes(out) == before
    settings = {**SETTINGS, "splits": {"val": (1, 2)}}
    prepare_synth_city(tmp_path / "out", workers=1, **settings)
    settings["seed"] = 3
    report = prepare_synth_city(tmp_path / "out", workers=1, force=True, **settings)
    assert report["rendered"] == 2
    assert Store(tmp_path / "out" / "val").manifest["seed"] == 3


@pytest.mark.parametrize(
    "change",
    [
        {"splits": {}},
        {"splits": {"dev": (1, 2)}},
        {"splits": {"train": (0, 2)}},
        {"splits": {"train": (10**6 + 1, 2)}},
        {"image_size": (4, 4)},
        {"noise": 2.0},
        {"supersample": 9},
        {"seed": -1},
        {"workers": 0},
    ],
)
def test_senseless_settings_touch_nothing(tmp_path, change):
    with pytest.raises(UsageError):
        prepare_synth_city(tmp_path / "out", **{**SETTINGS, **change})
    assert not (tmp_path / "out").exists()


def test_dry_run_touches_nothing(tmp_path):
    report = prepare_synth_city(tmp_path / "out", dry_run=True, **SETTINGS)
    assert "settings are fine" in format_report(report)
    assert not (tmp_path / "out").exists()


def test_no_two_splits_or_seeds_share_a_world():
    seeds = [
        world_seed(seed, split, index)
        for seed in (0, 1, 7)
        for split in ("train", "val", "test")
        for index in (0, 1, 999_999)
    ]
    assert len(set(seeds)) == len(seeds)
    planned = [
        plan.attrs["world_seed"]
        for split in ("train", "val", "test")
        for plan in city_plans(split, 0, 50, 2)
    ]
    assert len(set(planned)) == 150


def test_the_store_holds_what_the_city_renders(made):
    out, _ = made
    store = Store(out / "train", verify=True)
    source = CitySource(SIZE, 1, 0.0075, shadows=False)
    city = City(source.config(world_seed(2, "train", 5), 4))
    rendered = city.render(2)
    found = store.frame(5, 2, store.keys)
    for key in ("image", "depth", "semantic", "motion_mask", "K", "T_world_camera"):
        np.testing.assert_array_equal(found[key], rendered[key], err_msg=key)
    np.testing.assert_array_equal(found["instance"], rendered["instance_ids"])
    assert store.drives[5].attrs["world_seed"] == world_seed(2, "train", 5)
    assert 1.2 < store.drives[5].attrs["camera_height"] < 1.7


def test_complete_flow_is_that_of_the_city(made):
    """Depth, poses and the actors' own motion give back the renderer's flow, flips included."""
    out, _ = made
    labels = ("complete_flow_gt", "T_source_target_gt", "depth_gt", "motion_mask_gt")
    source = CitySource(SIZE, 1, 0.0075, shadows=False)
    moving = 0.0
    for flip in (0.0, 1.0):
        stream = StreamSpec(
            kind="triplets", batch_size=1, labels=labels, augment=AugmentSpec(flip=flip)
        )
        dataset = TripletDataset(Store(out / "train"), stream, SIZE, train=flip > 0)
        item = dataset.item(0, 0)
        row = 0
        if flip:  # find which triplet that was
            flipped = item["depth_gt"].flip(-1)
            plain = TripletDataset(Store(out / "train"), stream, SIZE, train=False)
            row = next(i for i in range(len(plain)) if plain.item(i, 0)["depth_gt"].equal(flipped))
        drive, target = dataset.stores[0].triplets()[row]
        city = City(source.config(world_seed(2, "train", int(drive)), 4))
        for s, step in enumerate((-1, 1)):
            expected = city.complete_flow(int(target), int(target) + step).transpose(2, 0, 1)
            if flip:
                expected = expected[..., ::-1] * np.array([-1, 1, 1])[:, None, None]
            valid = item["depth_gt"][0].numpy() > 0
            error = np.abs(item["complete_flow_gt"][s].numpy() - expected)[:, valid]
            assert error.max() < 2e-4 * max(1.0, float(item["depth_gt"].max()) / 10)
        moving += float(item["motion_mask_gt"].mean())
    assert moving > 0


def test_report_and_description(made):
    out, report = made
    train = report["stores"][0]
    assert train["num_frames"] == 36
    assert train["num_triplets"] + train["num_triplets_dropped"] == 18
    assert train["keys"]["depth"]["unit"] == "m"
    assert train["intrinsics"]["fx"] == [pytest.approx(0.8 * SIZE[1])] * 2
    assert 6 <= train["ranges"]["speed"]["min"] <= train["ranges"]["speed"]["max"] <= 13
    assert "triplets kept" in format_report(report)
    sheet = cv2.imread(report["contact_sheet"])
    assert sheet.shape == (4 * SIZE[0] + 3 * 4, 4 * SIZE[1] + 3 * 4, 3)
    description = describe_store(out, verify=True)
    assert [s["split"] for s in description["stores"]] == ["train", "val"]
    text = format_description(description)
    assert "1/km" in text
    assert "hashes verified" in text
    assert describe_store(out / "val")["stores"][0]["num_drives"] == 1
    with pytest.raises(StoreError, match="neither a store nor a folder of stores"):
        describe_store(out / "train" / ".." / "..")


def test_workers_use_one_thread_and_leave_no_process(tmp_path):
    prepare_synth_city(tmp_path / "o", workers=2, **{**SETTINGS, "splits": {"val": (2, 2)}})
    servers = children(os.getpid())
    assert servers
    assert not any(is_alive(worker) for server in servers for worker in children(server))
