"""Stores: exact round trips, and distrust of everything that was touched."""

import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from fake_drives import SIZE, K, file_bytes, frame, plans, pose, render, spec, write_fake_store

from unienc_core.data.codecs import decode_image, encode_image, image_size_of
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import KeySpec
from unienc_core.data.shard_build import DrivePlan
from unienc_core.data.shard_read import Shard
from unienc_core.data.store import Store, resolve_store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, StoreError


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return write_fake_store(tmp_path_factory.mktemp("store") / "s")


@pytest.fixture
def path(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "copy")


def test_every_key_comes_back_exactly(pristine):
    store = Store(pristine)
    for drive in range(3):
        for index in (0, 4):
            expected = frame(drive, index)
            found = store.frame(drive, index, expected.keys())
            for key, value in expected.items():
                assert found[key].dtype == np.asarray(value).dtype
                np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_store_describes_itself(pristine):
    store = Store(pristine)
    assert store.num_frames == 15
    assert [d.name for d in store.drives] == ["drive-0", "drive-1", "drive-2"]
    assert store.drives[1].attrs == {"seed": 1}
    assert store.manifest["version"] == 1
    assert store.manifest["keys"]["depth"]["unit"] == "m"
    assert store.manifest["fps"] == 17.0
    assert store.manifest["complete"]
    depths = np.stack([frame(2, i)["depth"] for i in range(5)])
    stats = store.drives[2].stats["depth"]
    assert stats.min == depths.min()
    assert stats.max == depths.max()
    assert stats.mean == pytest.approx(depths.astype(float).mean(), rel=1e-12)
    assert stats.valid == 1.0


def test_units_stand_in_the_file_and_maps_are_chunked_by_frame(pristine):
    with h5py.File(pristine / "shard-00000.h5") as file:
        depth = file["drive-00000/depth"]
        assert depth.attrs["unit"] == b"m"
        assert depth.chunks == (1, *SIZE)
        assert depth.compression == "gzip"
        assert depth.shuffle
        assert file["drive-00000/image/bytes"].dtype == np.uint8
        assert file["drive-00000/image"].attrs["encoding"] == b"png"
        assert file["drive-00000/triplets"][:].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_triplets_and_other_gaps(pristine):
    store = Store(pristine)
    assert store.triplets().tolist() == [[d, t] for d in range(3) for t in (1, 2, 3)]
    assert store.triplets(2).tolist() == [[0, 2], [1, 2], [2, 2]]
    assert store.triplets(3).shape == (0, 2)


def test_triplets_without_motion_are_left_out(tmp_path):
    def standing(plan):
        for index in range(6):
            values = frame(0, index)
            values["T_world_camera"][:3, 3] = [0, 0, 0.5 * max(0, index - 2)]
            yield values

    with StoreWriter(tmp_path / "s", spec(min_motion=0.25)) as writer:
        writer.add_drive("d", standing(None))
    assert Store(tmp_path / "s").triplets()[:, 1].tolist() == [3, 4]


def test_what_was_found_standing_is_a_target_at_no_gap(tmp_path):
    class Frames:
        standing = frozenset({3, 7})

        def __iter__(self):
            return ({"K": K, "T_world_camera": pose(0, i)} for i in range(11))

    keys = standard_keys("K", "T_world_camera")
    for least in (0.0, 0.4):  # the camera drives 0.51 m a frame
        with StoreWriter(tmp_path / str(least), spec(keys=keys, min_motion=least)) as writer:
            writer.add_shards([[DrivePlan("a", 11)]], lambda plan: Frames())
        store = Store(tmp_path / str(least))
        for gap in (None, 1):
            assert store.triplets(gap)[:, 1].tolist() == [1, 2, 4, 5, 6, 8, 9]
        assert store.triplets(2)[:, 1].tolist() == [2, 4, 5, 6, 8]
        assert store.triplets(4)[:, 1].tolist() == [4, 5, 6]


def test_a_camera_too_slow_at_one_gap_may_be_fast_enough_at_another(tmp_path):
    store = Store(write_fake_store(tmp_path / "s", count=1, num_frames=7, min_motion=0.6))
    assert store.triplets().tolist() == []
    assert store.triplets(2)[:, 1].tolist() == [2, 3, 4]


def test_jpeg_and_other_sizes_and_own_keys(tmp_path):
    keys = standard_keys("image", "K", image_encoding="jpeg")
    keys["flow"] = KeySpec(
        dtype="float32",
        shape=(3, "H", "W"),
        unit="m",
        encoding="gzip",
        role="lateral_map",
        provenance="a checkpoint",
    )
    rng = np.random.default_rng(0)
    flow = rng.normal(size=(3, 40, 56)).astype(np.float32)
    image = np.full((40, 56, 3), (200, 90, 20), np.uint8)
    with StoreWriter(tmp_path / "s", spec(keys=keys, kind="images")) as writer:
        writer.add_drive("d", [{"image": image, "K": K, "flow": flow}], image_size=(40, 56))
    store = Store(tmp_path / "s")
    found = store.frame(0, 0, ("image", "flow"))
    np.testing.assert_array_equal(found["flow"], flow)
    assert np.abs(found["image"].astype(int) - image).max() <= 3
    assert store.drives[0].image_size == (40, 56)
    assert store.keys["flow"].provenance == "a checkpoint"
    assert len(store.triplets()) == 0


def test_png_and_jpeg_headers():
    image = np.random.default_rng(1).integers(0, 256, (24, 40, 3), np.uint8)
    for encoding in ("png", "jpeg"):
        data = encode_image(image, encoding)
        assert image_size_of(data.tobytes()) == (24, 40)
        with pytest.raises(DataError, match="found an image of 24x40, expected 24x41"):
            decode_image(data, (24, 41), "here")
        with pytest.raises(DataError, match="here"):
            decode_image(data[: len(data) // 8], (24, 40), "here")
    np.testing.assert_array_equal(decode_image(encode_image(image, "png"), (24, 40), "here"), image)
    with pytest.raises(DataError, match="no PNG or JPEG"):
        decode_image(np.zeros(100, np.uint8), (24, 40), "here")


def _read_in_child(store, queue):
    queue.put(store.frame(1, 3, ("image", "depth")))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_store_survives_fork_and_pickle(pristine, method):
    store = Store(pristine)
    store.frame(1, 3, ("image",))
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=_read_in_child, args=(store, queue)) for _ in range(2)]
    for child in children:
        child.start()
    mine = store.frame(1, 3, ("image", "depth"))
    for _ in children:
        theirs = queue.get(timeout=60)
        for key, value in mine.items():
            np.testing.assert_array_equal(theirs[key], value)
    for child in children:
        child.join()
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.frame(1, 3, ("depth",))["depth"], mine["depth"])


def test_unknown_keys_name_the_nearest(pristine):
    with pytest.raises(DataError, match="no 'depht'.*did you mean 'depth'"):
        Store(pristine).frame(0, 0, ("depht",))
    with pytest.raises(IndexError):
        Store(pristine).frame(0, 5, ("depth",))


def test_reading_changes_nothing(path):
    before = file_bytes(path)
    store = Store(path, verify=True)
    store.frame(0, 0, store.keys)
    store.close()
    store.frame(0, 0, ("depth",))
    assert file_bytes(path) == before


def test_many_shards_keep_few_files_open(pristine, monkeypatch):
    monkeypatch.setattr("unienc_core.data.store.MAX_OPEN_SHARDS", 1)
    store = Store(pristine)
    for drive in (0, 2, 1, 0):
        np.testing.assert_array_equal(
            store.frame(drive, 1, ("depth",))["depth"], frame(drive, 1)["depth"]
        )
    assert len(store._open) == 1
    assert isinstance(next(iter(store._open.values())), Shard)


def test_only_what_is_read_is_opened(tmp_path, monkeypatch):
    """A store of thousands of drives opens at once: the objects of a drive wait until needed."""
    with StoreWriter(tmp_path / "s", spec()) as writer:
        writer.add_shards([plans(8)], render)
    store = Store(tmp_path / "s")
    assert store.triplets().tolist() == [[d, t] for d in range(8) for t in (1, 2, 3)]
    assert len(store._open) == 0
    images = write_fake_store(tmp_path / "images", kind="images")
    unrelated = Store(images)
    assert (len(unrelated.triplets()), len(unrelated.triplets(2))) == (0, 0)
    assert len(unrelated._open) == 0
    store.frame(5, 2, ("image", "K"))
    store.frame(5, 3, ("image",))
    opened = store._open[0]._drives
    assert {number: set(drive.nodes) for number, drive in opened.items()} == {5: {"image", "K"}}
    monkeypatch.setattr("unienc_core.data.shard_read.MAX_OPEN_DRIVES", 2)
    for drive in (0, 5, 1, 0, 7):
        assert store.frame(drive, 4, ("curvature",))["curvature"] == 1 + drive
    assert list(opened) == [0, 7]
    Store(tmp_path / "s", verify=True)


def test_shuffled_reads_of_forty_drives_open_each_drive_once(tmp_path, monkeypatch):
    with StoreWriter(tmp_path / "s", spec()) as writer:
        writer.add_shards([plans(40)], render)
    store, opened = Store(tmp_path / "s"), []
    open_node = Shard._open
    monkeypatch.setattr(Shard, "_open", lambda *call: opened.append(call) or open_node(*call))
    for drive in [*range(40), *range(0, 40, 7), *range(40)]:
        store.frame(drive, 0, ("curvature",))
    assert len(opened) == 40


def test_threads_read_side_by_side_while_shards_open_and_close(pristine, monkeypatch):
    monkeypatch.setattr("unienc_core.data.store.MAX_OPEN_SHARDS", 1)
    store = Store(pristine)
    places = [(n % 3, n % 5) for n in range(60)]

    def read(place):
        drive, index = place
        column = store.column((drive + 1) % 3, "curvature")
        return store.frame(drive, index, ("depth",))["depth"], column

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, places))
    for (drive, index), (depth, column) in zip(places, found, strict=True):
        np.testing.assert_array_equal(depth, frame(drive, index)["depth"])
        assert column.tolist() == [1 + (drive + 1) % 3] * 5


def test_resolve_store(pristine, tmp_path):
    assert resolve_store(pristine, "val") == pristine
    parent = tmp_path / "all"
    parent.mkdir()
    shutil.copytree(pristine, parent / "train")
    assert resolve_store(parent, "train") == parent / "train"
    with pytest.raises(StoreError, match="store 'val'; it holds train"):
        resolve_store(parent, "val")
    with pytest.raises(DataError, match="no such folder"):
        resolve_store(tmp_path / "absent", "train")
