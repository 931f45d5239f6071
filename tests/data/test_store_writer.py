"""Writing stores: resumable, refusing, one writer, the same bytes for any worker count."""

import resource
import signal

import numpy as np
import pytest
from fake_drives import file_bytes, frame, plans, render, spec, write_fake_store
from mounts import remount, small_disk

from unienc_core.data import store_writer
from unienc_core.data.manifest import read_manifest, write_manifest
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.store import Store
from unienc_core.data.store_folder import estimate_bytes
from unienc_core.data.store_writer import StoreWriter
from unienc_core.data.worker_pool import ProcessPool
from unienc_core.errors import DataError, ResourceError, StoreError, UsageError


class StoppedError(Exception):
    pass


def render_two_drives(plan):
    if plan.attrs["seed"] == 2:
        raise StoppedError
    return render(plan)


def groups(count=3):
    return [[plan] for plan in plans(count)]


def write(path, parts, source=render):
    with StoreWriter(path, spec()) as writer:
        return writer.add_shards(parts, source)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return file_bytes(write_fake_store(tmp_path_factory.mktemp("ref") / "s"))


def test_bytes_are_the_same_for_any_worker_count(reference, tmp_path):
    for workers in (1, 2):
        path = tmp_path / f"w{workers}"
        with StoreWriter(path, spec()) as writer, ProcessPool(workers) as pool:
            writer.add_shards(groups(), render, pool)
        assert file_bytes(path) == reference


def test_a_repeated_call_touches_nothing(reference, tmp_path):
    path = write_fake_store(tmp_path / "s")
    before = {p.name: p.stat().st_mtime_ns for p in path.iterdir()}
    assert write(path, groups()) == 0
    assert {p.name: p.stat().st_mtime_ns for p in path.iterdir()} == before


@pytest.mark.parametrize("quick", [store_writer._QUICK, -1.0], ids=["small", "large"])
def test_an_interrupted_store_is_not_readable_and_goes_on(reference, tmp_path, monkeypatch, quick):
    monkeypatch.setattr(store_writer, "_QUICK", quick)  # a manifest that takes long to write
    monkeypatch.setattr(store_writer, "_PATIENCE", 1e9)
    path = tmp_path / "s"
    with pytest.raises(StoppedError), StoreWriter(path, spec()) as writer:
        writer.add_shards(groups(), render_two_drives)
    with pytest.raises(StoreError, match=r"unfinished store \(2 drives so far\)"):
        Store(path)
    (path / ".tmp-shard-00002.h5-17").write_bytes(b"half")
    (path / "shard-00002.h5").write_bytes(b"written, but never recorded")
    with StoreWriter(path, spec()) as writer:
        assert sorted(writer.finished) == [0, 1]
        assert writer.add_shards(groups(), render) == 1
    assert file_bytes(path) == reference


def test_a_large_manifest_is_not_written_after_every_shard(reference, tmp_path, monkeypatch):
    written = []

    def count(folder, manifest):
        written.append(len(manifest.shards))
        return write_manifest(folder, manifest)

    monkeypatch.setattr(store_writer, "write_manifest", count)
    write(tmp_path / "small", groups())
    monkeypatch.setattr(store_writer, "_QUICK", -1.0)
    monkeypatch.setattr(store_writer, "_PATIENCE", 1e9)
    write(tmp_path / "large", groups())
    assert written == [0, 1, 2, 3, 3, 0, 3]
    assert file_bytes(tmp_path / "large") == file_bytes(tmp_path / "small") == reference


@pytest.mark.parametrize("damage", ["cut", "edited", "gone"])
def test_damaged_shards_are_made_again(reference, tmp_path, damage):
    path = write_fake_store(tmp_path / "s")
    shard = path / "shard-00001.h5"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes(data if damage == "edited" else data[:100])
    assert write(path, groups()) == 1
    assert file_bytes(path) == reference


def test_groups_of_drives_and_single_drives(tmp_path):
    with StoreWriter(tmp_path / "grouped", spec()) as writer:
        writer.add_shards([plans(3)[:2], plans(3)[2:]], render)
    store = Store(tmp_path / "grouped", verify=True)
    assert len(store.manifest["shards"]) == 2
    np.testing.assert_array_equal(store.frame(1, 2, ("depth",))["depth"], frame(1, 2)["depth"])
    with StoreWriter(tmp_path / "single", spec()) as writer:
        for seed in (0, 1):
            assert writer.add_drive(f"d{seed}", (frame(seed, i) for i in range(4)))
    with StoreWriter(tmp_path / "single", spec()) as writer:
        assert not writer.add_drive("d0", iter(()))
        assert not writer.add_drive("d1", iter(()))
    assert Store(tmp_path / "single").num_frames == 8


def test_what_the_source_learns_late_is_kept(tmp_path):
    class Late(list):
        attrs = {"camera_height": 1.5}

    with StoreWriter(tmp_path / "s", spec()) as writer:
        writer.add_shards(groups(1), lambda plan: Late(render(plan)))
    assert Store(tmp_path / "s").drives[0].attrs == {"seed": 0, "camera_height": 1.5}
    with StoreWriter(tmp_path / "s", spec()) as writer:
        assert writer.add_shards(groups(1), render) == 0


def test_another_store_is_refused_with_what_differs(reference, tmp_path):
    path = write_fake_store(tmp_path / "s")
    with pytest.raises(
        UsageError, match=r"fps is 17\.0 there, 25\.0 asked; seed is 3 there, 4 ask"
    ):
        StoreWriter(path, spec(seed=4, fps=25.0))
    assert file_bytes(path) == reference
    with StoreWriter(path, spec(seed=4), force=True) as writer:
        writer.add_shards(groups(2), render)
    assert sorted(p.name for p in path.iterdir()) == [
        "manifest.json",
        "shard-00000.h5",
        "shard-00001.h5",
    ]
    assert Store(path, verify=True).manifest["seed"] == 4


def test_folders_of_other_things_are_never_touched(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(UsageError, match=r"not empty and no store \(it holds precious\.txt\)"):
            StoreWriter(tmp_path, spec(), force=force)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_damaged_manifest_needs_force(reference, tmp_path):
    path = write_fake_store(tmp_path / "s")
    (path / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match="--force starts over"):
        StoreWriter(path, spec())
    with StoreWriter(path, spec(), force=True) as writer:
        assert writer.add_shards(groups(), render) == 3
    assert file_bytes(path) == reference


def test_two_writers_of_one_store(tmp_path):
    with StoreWriter(tmp_path / "s", spec()) as writer:
        with pytest.raises(UsageError, match="another process"):
            StoreWriter(tmp_path / "s", spec())
        writer.add_shards(groups(), render)
    assert write(tmp_path / "s", groups()) == 0


def _frames(**changes):
    return [{**frame(0, 0), **changes}]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "has no frames"),
        (_frames(depth=np.zeros((3, 3), np.float32)), r"depth is float32 \(3, 3\), declared as"),
        (_frames(extra=np.zeros(1)), r"undeclared \['extra'\]"),
        ([{"image": frame(0, 0)["image"]}], r"missing keys \['K', "),
    ],
)
def test_frames_that_do_not_fit_are_refused(tmp_path, frames, message):
    with pytest.raises(DataError, match=message), StoreWriter(tmp_path / "s", spec()) as writer:
        writer.add_drive("d", frames)
    assert not list(tmp_path.glob("s/shard-*"))


def test_a_drive_of_another_length_than_planned(tmp_path):
    short = [[DrivePlan("d", 9, attrs={"seed": 0})]]
    with pytest.raises(DataError, match="gave 4 frames, expected 9"):
        write(tmp_path / "s", short, lambda plan: (frame(0, i) for i in range(4)))


@pytest.fixture
def small_files():
    """Let no file grow beyond 30 kB, as a full disk would."""
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, previous)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, small_files):
    path = tmp_path / "s"
    with pytest.raises(ResourceError, match=r"disk is full; about \d+\.\d MB"):
        write(path, groups())
    assert [p.name for p in path.iterdir()] == ["manifest.json"]
    assert not read_manifest(path).complete


def test_a_small_disk_is_seen_before_and_while_writing(reference, tmp_path, monkeypatch):
    sizes = [len(data) for name, data in reference.items() if name != "manifest.json"]
    with small_disk(tmp_path / "disk", f"size={(sum(sizes) - 20_000) // 4096 * 4}k") as disk:
        with pytest.raises(ResourceError, match="MB are needed, .* MB are free"):
            write(disk / "s", groups(60))
        assert not list((disk / "s").iterdir())
        monkeypatch.setattr(store_writer, "require_space", lambda path, needed: None)
        with pytest.raises(ResourceError, match="disk is full"):
            write(disk / "s", groups())
        assert sorted(p.name for p in (disk / "s").iterdir()) == [
            "manifest.json",
            "shard-00000.h5",
            "shard-00001.h5",
        ]
        remount(disk, "size=4m")
        assert write(disk / "s", groups()) == 1
        assert file_bytes(disk / "s") == reference


def test_a_read_only_folder(tmp_path):
    refused = pytest.raises(ResourceError, match=r"disk/s: cannot be written \(Read-only")
    with small_disk(tmp_path / "disk", "size=1m,ro") as disk, refused:
        StoreWriter(disk / "s", spec())
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"file/s: cannot be written"):
        StoreWriter(tmp_path / "file" / "s", spec())


def test_the_estimate_is_not_far_off(reference):
    written = sum(len(data) for name, data in reference.items() if name != "manifest.json")
    assert 0.3 * written < estimate_bytes(spec(), plans()) < 4 * written
