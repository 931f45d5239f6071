"""One shard, opened for reading with distrust: nothing is read that was not checked first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from unienc_core.data.codecs import decode_image
from unienc_core.data.manifest import FORMAT, VERSION, DriveRecord, KeySpec, ShardRecord
from unienc_core.data.shard_build import drive_group
from unienc_core.errors import DataError, StoreError

MAX_FRAME_BYTES = 1 << 30
_ALLOWED_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}
_REMEDY = "restore the file, or repeat prepare-data, which makes damaged shards again"


class Shard:
    """An open shard whose structure fits its record.

    Args:
        path: The file.
        record: What the manifest says of it.
        keys: What the manifest says of its keys.

    Raises:
        StoreError: If the file is missing, of another size, no HDF5 file, or of other structure.
    """

    def __init__(self, path: Path, record: ShardRecord, keys: Mapping[str, KeySpec]) -> None:
        self.path, self.record, self.keys = path, record, keys
        check_size(path, record)
        self._cache: dict[tuple[int, str], Any] = {}
        self._offsets: dict[tuple[int, str], np.ndarray] = {}
        try:
            self._file = h5py.File(path, "r")
            self._check()
        except StoreError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise StoreError(f"{path}: damaged ({_line(error)}); {_REMEDY}") from None

    def read(self, number: int, index: int, name: str) -> np.ndarray:
        """Read one key of one frame.

        Args:
            number: Drive within the shard.
            index: Frame within the drive.
            name: Declared key.

        Raises:
            DataError: If the frame cannot be decoded.
        """
        return self.decoded(number, index, name, self.stored(number, index, name))

    def decoded(self, number: int, index: int, name: str, data: np.ndarray) -> np.ndarray:
        """Turn what `stored` gave into the key's value; needs no file, so any thread may.

        Raises:
            DataError: If the frame cannot be decoded.
        """
        if not self.keys[name].encoded:
            return data
        size = self.record.drives[number].image_size
        return decode_image(data, size, self._where(number, index, name))

    def stored(self, number: int, index: int, name: str) -> np.ndarray:
        """Read one key of one frame as it is stored: of an image, the bytes of its file.

        Raises:
            DataError: If the frame cannot be read.
        """
        try:
            if not self.keys[name].encoded:
                return np.asarray(self._cache[number, name][index])
            start, end = self._offsets[number, name][index : index + 2]
            return self._cache[number, name][int(start) : int(end)]
        except (OSError, RuntimeError, ValueError) as error:
            where = self._where(number, index, name)
            raise DataError(f"{where}: unreadable ({_line(error)}); {_REMEDY}") from None

    def _where(self, number: int, index: int, name: str) -> str:
        drive = self.record.drives[number].name
        return f"{self.path}: drive {drive}, frame {index}, {name}"

    def column(self, number: int, name: str) -> np.ndarray:
        """Read all frames of a key that is not an image."""
        return np.asarray(self._cache[number, name][:])

    def triplets(self, number: int) -> np.ndarray:
        """Read the triplet index of a drive: `n 3`, previous, target, next."""
        return np.asarray(self._cache[number, "triplets"][:])

    def close(self) -> None:
        """Close the file."""
        self._cache.clear()
        self._file.close()

    def _check(self) -> None:
        version = self._file.attrs.get("version")
        if _text(self._file, "format") != FORMAT or version != VERSION:
            raise StoreError(f"{self.path}: not a shard of a {FORMAT} of version {VERSION}")
        drives = self.record.drives
        names = {drive_group(n) for n in range(len(drives))}
        self._check_names(self._file, names)
        for number, drive in enumerate(drives):
            self._check_drive(number, drive)

    def _check_drive(self, number: int, drive: DriveRecord) -> None:
        group: Any = self._file[drive_group(number)]
        if _text(group, "name") != drive.name:
            raise self._fault(group, f"is drive '{_text(group, 'name')}', not '{drive.name}'")
        self._check_names(group, {*self.keys, "triplets"})
        for name, key in self.keys.items():
            node = group[name]
            if (_text(node, "unit"), _text(node, "encoding")) != (key.unit, key.encoding):
                raise self._fault(node, f"is not in {key.unit or 'no unit'}, {key.encoding}")
            if key.encoded:
                self._check_names(node, {"bytes", "offsets"})
                self._offsets[number, name] = self._read_offsets(node, drive.num_frames)
                self._cache[number, name] = node["bytes"]
            else:
                shape = (drive.num_frames, *key.frame_shape(drive.image_size))
                self._cache[number, name] = self._checked(node, shape, key.dtype)
        index = self._checked(group["triplets"], (drive.num_triplets, 3), "int32")
        rows = index[:]
        if rows.size and not (rows.min() >= 0 and rows.max() < drive.num_frames):
            raise self._fault(index, "names frames that do not exist")
        self._cache[number, "triplets"] = index

    def _check_names(self, group: Any, expected: set[str]) -> None:
        """Accept these names only, as real members: a link may lead to another file."""
        if not isinstance(group, h5py.Group) or set(group) != expected:
            raise self._fault(group, f"does not hold {', '.join(sorted(expected))}")
        for name in expected:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise self._fault(group, f"has a link '{name}', which is not accepted")

    def _checked(self, node: Any, shape: tuple[int, ...], dtype: str) -> Any:
        """Check that a dataset has this shape and plain type, inside this file."""
        if not isinstance(node, h5py.Dataset) or node.shape != shape or node.dtype != dtype:
            raise self._fault(node, f"is not {dtype} {shape}")
        if np.prod(shape[1:], dtype=np.float64) * node.dtype.itemsize > MAX_FRAME_BYTES:
            raise self._fault(node, f"has frames of more than {MAX_FRAME_BYTES} bytes")
        if node.is_virtual or node.external:
            raise self._fault(node, "keeps its data in another file, which is not accepted")
        if node.chunks is not None and node.chunks != (1, *shape[1:]):
            raise self._fault(node, f"has chunks of {node.chunks}, expected one frame each")
        plist = node.id.get_create_plist()
        filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
        if not filters <= _ALLOWED_FILTERS:
            raise self._fault(node, f"is packed by an unknown filter {sorted(filters)}")
        return node

    def _read_offsets(self, node: Any, num_frames: int) -> np.ndarray:
        offsets = self._checked(node["offsets"], (num_frames + 1,), "uint64")[:].astype(np.int64)
        data = node["bytes"]
        length = data.shape[0] if isinstance(data, h5py.Dataset) and data.ndim == 1 else -1
        self._checked(data, (length,), "uint8")
        ordered = offsets[0] == 0 and (np.diff(offsets) > 0).all()
        if not ordered or offsets[-1] != length or length > self.record.bytes:
            raise self._fault(node, "has offsets that do not fit its bytes")
        return offsets

    def _fault(self, node: Any, what: str) -> StoreError:
        name = getattr(node, "name", None) or "/"
        return StoreError(f"{self.path}: {name} {what}; {_REMEDY}")


def check_size(path: Path, record: ShardRecord) -> None:
    """Check that a shard is there with the recorded size.

    Raises:
        StoreError: If it is not.
    """
    try:
        found = path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path}: shard is missing ({error.strerror}); {_REMEDY}") from None
    if found != record.bytes:
        raise StoreError(f"{path}: has {found} bytes, recorded are {record.bytes}; {_REMEDY}")


def _text(node: Any, name: str) -> str | None:
    """Read a text attribute, of fixed length only."""
    if name not in node.attrs or node.attrs.get_id(name).dtype.kind != "S":
        return None
    value = node.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
