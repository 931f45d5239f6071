"""One shard, opened for reading with distrust: nothing is read that was not checked first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from unienc_core.data.codecs import decode_image
from unienc_core.data.manifest import FORMAT, VERSION, KeySpec, ShardRecord
from unienc_core.data.shard_build import drive_group
from unienc_core.errors import DataError, StoreError
from unienc_core.files import sha256_file

MAX_FRAME_BYTES = 1 << 30
_ALLOWED_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}
_REMEDY = "restore the file, or repeat prepare-data, which makes damaged shards again"

TRIPLETS = "triplets"


MAX_OPEN_DRIVES = 64
"""Of a shard, whose objects stay open: each takes some 50 kB, so up to 3 MB a shard. Shuffled reads
of more drives than stay open have to open and check a drive nearly every time, which takes several
times as long as the read itself."""


@dataclass(frozen=True)
class _Node:
    """An open dataset; of images the bytes one after another, and where each one begins."""

    data: Any
    offsets: np.ndarray | None = None


@dataclass(frozen=True)
class _Drive:
    """An open drive, with those of its keys that were asked for."""

    group: Any
    nodes: dict[str, _Node] = field(default_factory=dict)


class Shard:
    """An open shard. What it holds of a drive is opened, and checked, when it is first asked for.

    A store may have thousands of drives: to open all of their objects takes long, and much memory.
    One thread at a time may use it, but for `decoded`.

    Args:
        path: The file.
        record: What the manifest says of it.
        keys: What the manifest says of its keys.

    Raises:
        StoreError: If the file is missing, of another size, no HDF5 file, or holds other drives
            than recorded; from every reading method, too, if the drive is of other structure.
    """

    def __init__(self, path: Path, record: ShardRecord, keys: Mapping[str, KeySpec]) -> None:
        self.path, self.record, self.keys = path, record, keys
        check_size(path, record)
        self._drives: OrderedDict[int, _Drive] = OrderedDict()
        with self._distrust():
            # A chunk is a frame, and read whole: HDF5's cache of chunks would only take memory.
            self._file = h5py.File(path, "r", rdcc_nbytes=0)
            self._check_file()

    def check(self) -> None:
        """Check the structure of every drive.

        Raises:
            StoreError: If it does not fit the record.
        """
        with self._distrust():
            for number in range(len(self.record.drives)):
                for name in (*self.keys, TRIPLETS):
                    self._node(number, name)

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
        with self._distrust():
            node = self._node(number, name)
        try:
            if node.offsets is None:
                return np.asarray(node.data[index])
            start, end = node.offsets[index : index + 2]
            return node.data[int(start) : int(end)]
        except (OSError, RuntimeError, ValueError) as error:
            where = self._where(number, index, name)
            raise DataError(f"{where}: unreadable ({_line(error)}); {_REMEDY}") from None

    def _where(self, number: int, index: int, name: str) -> str:
        drive = self.record.drives[number].name
        return f"{self.path}: drive {drive}, frame {index}, {name}"

    def column(self, number: int, name: str) -> np.ndarray:
        """Read all frames of a key that is not an image."""
        with self._distrust():
            return np.asarray(self._node(number, name).data[:])

    def triplets(self, number: int) -> np.ndarray:
        """Read the triplet index of a drive: `n 3`, previous, target, next."""
        return self.column(number, TRIPLETS)

    def close(self) -> None:
        """Close the file."""
        self._drives.clear()
        self._file.close()

    @contextmanager
    def _distrust(self) -> Iterator[None]:
        """Turn whatever a damaged file makes HDF5 raise into one line."""
        try:
            yield
        except StoreError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise StoreError(f"{self.path}: damaged ({_line(error)}); {_REMEDY}") from None

    def _check_file(self) -> None:
        version = self._file.attrs.get("version")
        if _text(self._file, "format") != FORMAT or version != VERSION:
            raise StoreError(f"{self.path}: not a shard of a {FORMAT} of version {VERSION}")
        names = {drive_group(n) for n in range(len(self.record.drives))}
        self._check_names(self._file, names)

    def _drive(self, number: int) -> _Drive:
        """Return an open drive, checked: its name, and the names of what it holds."""
        if number in self._drives:
            self._drives.move_to_end(number)
        else:
            group: Any = self._file[drive_group(number)]
            name = self.record.drives[number].name
            if _text(group, "name") != name:
                raise self._fault(group, f"is drive '{_text(group, 'name')}', not '{name}'")
            self._check_names(group, {*self.keys, TRIPLETS})
            self._drives[number] = _Drive(group)
            if len(self._drives) > MAX_OPEN_DRIVES:
                self._drives.popitem(last=False)
        return self._drives[number]

    def _node(self, number: int, name: str) -> _Node:
        """Return a key of a drive, or its triplets, checked."""
        drive = self._drive(number)
        if name not in drive.nodes:
            drive.nodes[name] = self._open(number, name, drive.group[name])
        return drive.nodes[name]

    def _open(self, number: int, name: str, node: Any) -> _Node:
        if name == TRIPLETS:
            return self._open_triplets(number, node)
        drive, key = self.record.drives[number], self.keys[name]
        if (_text(node, "unit"), _text(node, "encoding")) != (key.unit, key.encoding):
            raise self._fault(node, f"is not in {key.unit or 'no unit'}, {key.encoding}")
        if key.encoded:
            self._check_names(node, {"bytes", "offsets"})
            offsets = self._read_offsets(node, drive.num_frames)
            return _Node(node["bytes"], offsets)
        shape = (drive.num_frames, *key.frame_shape(drive.image_size))
        return _Node(self._checked(node, shape, key.dtype))

    def _open_triplets(self, number: int, node: Any) -> _Node:
        drive = self.record.drives[number]
        index = self._checked(node, (drive.num_triplets, 3), "int32")
        rows = index[:]
        if rows.size and not (rows.min() >= 0 and rows.max() < drive.num_frames):
            raise self._fault(index, "names frames that do not exist")
        return _Node(index)

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


def check_hash(path: Path, record: ShardRecord) -> None:
    """Check that a shard has the recorded bytes.

    Raises:
        StoreError: If it does not.
    """
    if sha256_file(path) != record.sha256:
        raise StoreError(f"{path}: its bytes do not fit their recorded SHA-256; {_REMEDY}")


def _text(node: Any, name: str) -> str | None:
    """Read a text attribute, of fixed length only."""
    if name not in node.attrs or node.attrs.get_id(name).dtype.kind != "S":
        return None
    value = node.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
