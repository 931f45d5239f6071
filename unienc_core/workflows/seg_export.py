"""Predicted segmentations as files in the official formats, for other people's tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unienc_core.class_tables import ClassTable
from unienc_core.data.seg_files.instance_files import write_instances
from unienc_core.data.seg_files.label_files import write_label_ids
from unienc_core.data.seg_files.panoptic_files import write_document, write_picture
from unienc_core.data.store_folder import resource_error
from unienc_core.errors import UsageError
from unienc_core.files import check_writable
from unienc_core.metrics.joint import joint_areas
from unienc_core.segmentation import Segment
from unienc_core.workflows.seg_samples import Prediction

DOCUMENT = "panoptic.json"


def check_export(folder: Path, force: bool) -> None:
    """Check before the long work that predictions can be written.

    Raises:
        UsageError: If the folder is not empty and `force` is not set.
        ResourceError: If it cannot be written.
    """
    check_writable(folder)
    strangers = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if strangers and not force:
        raise UsageError(
            f"{folder}: folder is not empty (it holds {strangers[0]}); choose another, or --force "
            "to replace files of the same names"
        )


class SegExport:
    """Writes predictions, one picture after the other.

    Panoptic ones become ``panoptic.json`` and a folder of that name, instances ``<name>.txt`` with
    their masks, classes ``<name>_labelIds.png``. `eval-seg --predictions` and the official scripts
    read them.

    Args:
        folder: Made if absent.
        table: The classes.
    """

    def __init__(self, folder: Path, table: ClassTable) -> None:
        self._folder, self._table = folder, table
        self._annotations: list[dict[str, Any]] = []

    def add(self, name: str, prediction: Prediction) -> None:
        """Write what there is of one picture.

        Raises:
            ResourceError: If the disk is full or not writable.
        """
        with self._writing():
            if prediction.ids is not None:
                pictures = (self._folder / DOCUMENT).with_suffix("")
                pictures.mkdir(exist_ok=True)
                segments = _measured(prediction.ids, prediction.segments)
                self._annotations.append(write_picture(pictures, name, prediction.ids, segments))
            elif prediction.label_ids is not None:
                write_label_ids(self._folder, name, prediction.label_ids)
            else:
                write_instances(self._folder, name, prediction.instances)

    def finish(self) -> None:
        """Write what comes after the last picture.

        Raises:
            ResourceError: If the disk is full or not writable.
        """
        if self._annotations:
            with self._writing():
                write_document(self._folder / DOCUMENT, self._annotations, self._table)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise resource_error(error, self._folder, 0) from error


def _measured(ids: np.ndarray, segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments with the areas that they have in the picture."""
    values, areas = joint_areas(ids)
    area_of = dict(zip(values[:, 0].tolist(), areas.tolist(), strict=True))
    return [replace(segment, area=area_of.get(segment.id, 0)) for segment in segments]
