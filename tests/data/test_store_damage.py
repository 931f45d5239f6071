"""Stores that were cut, edited or forged: named errors, never a crash and never a wrong frame."""

import json
import shutil

import h5py
import numpy as np
import pytest
from fake_drives import SIZE, write_fake_store

from unienc_core.data.manifest import read_manifest, write_manifest
from unienc_core.data.store import Store
from unienc_core.errors import DataError, StoreError


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return write_fake_store(tmp_path_factory.mktemp("store") / "s")


@pytest.fixture
def path(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "copy")


def test_a_shard_cut_in_half_is_named(path):
    shard = path / "shard-00001.h5"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(StoreError, match=r"shard-00001\.h5: has \d+ bytes, recorded are"):
        Store(path)


def test_a_missing_shard_is_named(path):
    (path / "shard-00002.h5").unlink()
    with pytest.raises(StoreError, match=r"shard-00002\.h5: shard is missing"):
        Store(path)


def test_an_edited_byte_is_found_on_demand(path):
    shard = path / "shard-00000.h5"
    data = bytearray(shard.read_bytes())
    place = data.index(b"IDAT") + 40
    data[place] ^= 0xFF
    shard.write_bytes(data)
    Store(path)
    with pytest.raises(StoreError, match=r"shard-00000\.h5.*SHA-256"):
        Store(path, verify=True)


def test_random_damage_never_gives_anything_but_named_errors(path):
    shard = path / "shard-00000.h5"
    whole = shard.read_bytes()
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(40):
        data = bytearray(whole)
        for start in rng.integers(0, len(whole) - 16, 12):
            data[start : start + 16] = rng.bytes(16)
        shard.write_bytes(data)
        try:
            store = Store(path)
            store.frame(0, 2, store.keys)
        except DataError as error:
            assert "shard-00000.h5" in str(error)
            assert "\n" not in str(error)
            found += 1
        finally:
            shard.write_bytes(whole)
    assert found > 5


def test_an_edited_manifest_is_refused(path):
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"fps": 17.0', '"fps": 18.0'))
    with pytest.raises(StoreError, match=r"manifest\.json.*digest"):
        Store(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "unreadable manifest"),
        ("[]", "not the manifest"),
        ('{"format": "unienc-store", "version": 9}', "store version 9"),
        ('{"format": "unienc-store", "version": 1, "specs": {}}', "spec"),
    ],
)
def test_malformed_manifests(path, content, message):
    (path / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        Store(path)


def test_a_shard_of_other_structure_than_declared_is_refused(path):
    manifest = read_manifest(path)
    keys = {**manifest.spec.keys}
    keys["depth"] = keys["depth"].model_copy(update={"dtype": "float64"})
    spec_ = manifest.spec.model_copy(update={"keys": keys})
    write_manifest(path, manifest.model_copy(update={"spec": spec_}))
    store = Store(path)
    assert store.frame(0, 0, ("image",)).keys() == {"image"}
    with pytest.raises(StoreError, match=r"depth is not float64"):
        store.frame(0, 0, ("depth",))
    with pytest.raises(StoreError, match=r"depth is not float64"):
        Store(path, verify=True)


def test_absurd_sizes_are_refused_before_anything_is_read(path):
    raw = json.loads((path / "manifest.json").read_text())
    raw["shards"][0]["drives"][0]["image_size"] = [10**6, 10**6]
    (path / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(StoreError, match="outside 1"):
        Store(path)


def _tampered(path, change):
    """Change a shard and its recorded size, as a hostile writer would."""
    shard = path / "shard-00000.h5"
    with h5py.File(shard, "r+") as file:
        change(file["drive-00000"])
    manifest = read_manifest(path)
    record = manifest.shards[0].model_copy(update={"bytes": shard.stat().st_size})
    write_manifest(path, manifest.model_copy(update={"shards": (record, *manifest.shards[1:])}))
    return Store(path)


def _replace(name, make):
    def change(group):
        attrs = dict(group[name].attrs)
        del group[name]
        make(group, name)
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            group[name].attrs.update(attrs)

    return change


def _external_link(group, name):
    group[name] = h5py.ExternalLink("shard-00001.h5", "/drive-00000/depth")


def _soft_link(group, name):
    group[name] = h5py.SoftLink("/drive-00000/instance")


def _virtual(group, name):
    layout = h5py.VirtualLayout((5, *SIZE), "float32")
    layout[:] = h5py.VirtualSource("shard-00001.h5", "/drive-00000/depth", (5, *SIZE))
    group.create_virtual_dataset(name, layout)


def _external_storage(group, name):
    group.create_dataset(
        name, (5, *SIZE), "float32", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    )


def _objects(group, name):
    group.create_dataset(name, (5, *SIZE), h5py.string_dtype())


def _whole_chunk(group, name):
    group.create_dataset(name, (5, *SIZE), "float32", chunks=(5, *SIZE), compression="gzip")


def _lzf(group, name):
    group.create_dataset(name, (5, *SIZE), "float32", chunks=(1, *SIZE), compression="lzf")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_external_link, "link"),
        (_soft_link, "link"),
        (_virtual, "another file"),
        (_external_storage, "another file"),
        (_objects, "is not float32"),
        (_whole_chunk, "chunks"),
        (_lzf, "filter"),
    ],
)
def test_links_objects_and_foreign_storage_are_refused(path, make, message):
    store = _tampered(path, _replace("depth", make))
    refused = rf"shard-00000\.h5.*{message}"
    for _ in range(2):  # what was refused once is not trusted the second time
        with pytest.raises(StoreError, match=refused):
            store.frame(0, 0, ("depth",))
    with pytest.raises(StoreError, match=refused):
        Store(path, verify=True)


def test_offsets_that_lie_are_refused(path):
    def change(group):
        group["image/offsets"][-1] = 2**40

    with pytest.raises(StoreError, match="offsets"):
        _tampered(path, change).encoded(0, 0, "image")


def _rename(group):
    group.attrs["name"] = np.bytes_("drive-9")


def _add(group):
    group["more"] = np.zeros(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [(_rename, "is drive 'drive-9', not 'drive-0'"), (_add, "drive-00000 does not hold K, T_")],
)
def test_a_drive_of_another_name_or_with_more_in_it_is_refused(path, change, message):
    store = _tampered(path, change)
    assert store.column(1, "speed").shape == (5,)
    with pytest.raises(StoreError, match=message):
        store.column(0, "speed")


def test_triplets_of_frames_that_do_not_exist_are_refused(path, tmp_path):
    """Of a drive that has all its triplets the index says nothing new, and is not read."""

    def change(group):
        group["triplets"][-1] = [8, 9, 10]

    store = _tampered(path, change)
    assert store.triplets()[:3].tolist() == [[0, 1], [0, 2], [0, 3]]
    with pytest.raises(StoreError, match="frames that do not exist"):
        Store(path, verify=True)
    some = write_fake_store(tmp_path / "some", min_motion=1e9)
    manifest = read_manifest(some)
    drive = manifest.shards[0].drives[0].model_copy(update={"num_triplets": 1})
    record = manifest.shards[0].model_copy(update={"drives": (drive,)})
    write_manifest(some, manifest.model_copy(update={"shards": (record, *manifest.shards[1:])}))
    with pytest.raises(StoreError, match=r"triplets is not int32 \(1, 3\)"):
        Store(some).triplets()


def test_an_undecodable_frame_is_named(path):
    def change(group):
        start = int(group["image/offsets"][2])
        group["image/bytes"][start + 60 : start + 400] = 0

    store = _tampered(path, change)
    store.frame(0, 1, ("image",))
    with pytest.raises(DataError, match="drive drive-0, frame 2, image"):
        store.frame(0, 2, ("image",))
