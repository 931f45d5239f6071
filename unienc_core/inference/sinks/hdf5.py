"""All arrays of a clip in one HDF5 file that grows."""

from __future__ import annotations

import json
import os
from typing import Any

import h5py
import numpy as np

from unienc_core.inference.results import FrameResult
from unienc_core.inference.sinks.base import Sink
from unienc_core.inference.sinks.npz import frame_arrays
from unienc_core.sentences import TASKS

FLUSH_FRAMES = 8
"""A kill loses this many frames at most."""

_SLACK_BYTES = 1 << 18  # for the indices of the datasets
_FORMAT = ("v110", "v110")  # what HDF5 1.10 and later can read
_SCALARS_PER_CHUNK = 256


class Hdf5Sink(Sink):
    """Datasets with one entry per frame; what is unknown is NaN.

    ``depth`` (`n H W`, float32, the clip's size and unit), ``disparity`` (`n h w`, float32),
    ``T_previous_current`` (`n 4 4`), ``scale``, ``time`` (`n`, float64), ``index``, ``pts``,
    ``lost_before`` (`n`, int64), ``cut``, ``black`` (`n`, bool). Where asked for: ``own_flow``
    (`n 3 H W`, float32) and ``motion_mask`` (`n H W`, float32), as in `NpzSink`; ``steering``
    (`n`, float64), with attributes ``key`` (its label) and ``unit``; of segmentations
    ``panoptic`` and ``instance`` (`n H W`, int32, ids, 0 where there is none) and ``semantic``
    (`n H W`, uint8, label ids), with the attributes ``classes`` (names by label id, as JSON) and
    ``instance_factor``: an id of at least that is label id x factor + number. Attributes: ``unit``,
    ``K``, ``rate``, ``time_base``, ``source``.

    The file is written in HDF5's single-writer mode: others can follow it with
    ``h5py.File(path, "r", swmr=True)``, and a file left by a kill opens in the same way.
    """

    suffix = ".h5"
    _file: h5py.File | None = None

    def open(self) -> None:
        """Open the file; its datasets come with the first frame, which has their sizes."""
        self._file = h5py.File(self.part, "w", libver=_FORMAT)
        self._data: dict[str, h5py.Dataset] = {}
        self._reserved = 0
        self._reserve(0)
        self._num_frames = 0
        info = self.facts.info
        self._file.attrs.update(
            unit=self.facts.unit,
            K=self.facts.K,
            rate=str(info.rate),
            time_base=str(info.time_base),
            source=json.dumps(str(info.path)),  # names need not be text
        )
        if set(TASKS) & set(self.facts.outputs):
            table = self.facts.classes
            names = {entry.id: entry.name for entry in table.classes}
            self._file.attrs.update(
                classes=json.dumps(names), instance_factor=table.instance_factor
            )

    def write(self, result: FrameResult) -> None:
        """Append the frame's arrays."""
        assert self._file is not None
        values = self._values(result)
        if not self._data:
            self._data = {name: self._create(name, value) for name, value in values.items()}
            if self.facts.steering is not None:
                self._data["steering"].attrs.update(self.facts.steering.describe())
            self._file.swmr_mode = True
        n = self._num_frames
        if n % FLUSH_FRAMES == 0:
            self._reserve(FLUSH_FRAMES * sum(value.nbytes for value in values.values()))
        for name, value in values.items():
            dataset = self._data[name]
            dataset.resize(n + 1, axis=0)
            dataset[n] = value
        self._num_frames = n + 1
        if self._num_frames % FLUSH_FRAMES == 0:
            for dataset in self._data.values():
                dataset.flush()

    def close(self) -> None:
        """Close the file, which makes it an ordinary one."""
        if self._file is not None and self._file.id.valid:
            self._file.flush()
            size = self._file.id.get_filesize()
            self._file.close()
            if self.part.stat().st_size > size:
                os.truncate(self.part, size)

    def _reserve(self, num_bytes: int) -> None:
        """Take room on the disk before it is needed: HDF5 crashes where it meets a full one."""
        assert self._file is not None
        end = self._file.id.get_filesize() + num_bytes + _SLACK_BYTES
        if end > self._reserved and hasattr(os, "posix_fallocate"):
            descriptor = self._file.id.get_vfd_handle()
            os.posix_fallocate(descriptor, self._reserved, end - self._reserved)
            self._reserved = end

    def _values(self, result: FrameResult) -> dict[str, Any]:
        frame, info = result.frame, self.facts.info
        return frame_arrays(result, (info.height, info.width), self.facts.outputs) | {
            "scale": np.float64(np.nan if result.scale is None else result.scale),
            "time": np.float64(frame.time),
            "index": np.int64(frame.index),
            "pts": np.int64(frame.pts),
            "lost_before": np.int64(frame.num_lost),
            "cut": np.bool_(result.scene.is_cut),
            "black": np.bool_(result.scene.is_black),
        }

    def _create(self, name: str, value: np.ndarray | np.generic) -> h5py.Dataset:
        assert self._file is not None
        is_map = value.size > 16
        chunk = (1 if is_map else _SCALARS_PER_CHUNK, *value.shape)
        packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if is_map else {}
        return self._file.create_dataset(
            name,
            (0, *value.shape),
            dtype=value.dtype,
            maxshape=(None, *value.shape),
            chunks=chunk,
            **packing,
        )
