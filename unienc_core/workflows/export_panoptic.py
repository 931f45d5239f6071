"""The panoptic ground truth of a split of Cityscapes as files, for other people's tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.sets.panoptic import INSTANCE_SUFFIX, convert_image, panoptic_categories
from unienc_core.data.store_folder import resource_error
from unienc_core.data.worker_pool import InlinePool, Pool
from unienc_core.errors import UsageError
from unienc_core.files import check_writable, write_atomic

_PICTURE_SUFFIX = "_gtFine_panoptic.png"


def export_panoptic(
    files: Sequence[Path],
    out: Path,
    split: str,
    *,
    pool: Pool | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write ``cityscapes_panoptic_<split>.json`` and, beside it, a folder of PNGs of that name.

    Names, ids and JSON are those of the official tool, bytes included; the PNGs hold the same
    pixels. The JSON file comes last: while it is missing, the export is unfinished.

    Args:
        files: ``*_gtFine_instanceIds.png``.
        out: Folder to write to, made if absent.
        split: Name of the split.
        pool: Where to run; None for this process.
        force: Replace an export of other images.
        reporter: Progress in images, and remarks.

    Returns:
        Plain data: ``path`` (of the JSON file), ``images``, ``segments`` and ``made``, the number
        of images converted now.

    Raises:
        DataError: If an image is missing, damaged, or holds an id of no label.
        UsageError: If the folder holds an export of other images.
        ResourceError: If the folder cannot be written.
    """
    reporter, files = reporter or Reporter(), sorted(files)
    target = out / f"cityscapes_panoptic_{split}.json"
    check_writable(out)
    found = None if force else _finished(target, files)
    if found is not None:
        reporter.say(f"{target} is complete already: nothing to do")
        return _report(target, found, 0)
    folder = target.with_suffix("")
    jobs = [(path, folder / _picture_name(path)) for path in files]
    made: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if force:
            for picture in folder.glob(f"*{_PICTURE_SUFFIX}"):
                picture.unlink()
        for number, entries in (pool or InlinePool()).map(convert_image, jobs):
            made[number] = entries
            reporter.progress(Progress("panoptic", len(made), len(jobs), "image"))
        document = {
            "images": [made[number][0] for number in range(len(jobs))],
            "annotations": [made[number][1] for number in range(len(jobs))],
            "categories": panoptic_categories(),
        }
        write_atomic(target, json.dumps(document, sort_keys=True, indent=4).encode())
    except OSError as error:
        raise resource_error(error, out, 0) from error
    return _report(target, document, len(jobs))


def check_panoptic(files: Sequence[Path], out: Path, split: str, force: bool) -> None:
    """Refuse what `export_panoptic` would refuse, and change nothing.

    Raises:
        UsageError: If the folder holds an export of other images.
        ResourceError: If the folder cannot be written.
    """
    check_writable(out)
    if not force:
        _finished(out / f"cityscapes_panoptic_{split}.json", sorted(files))


def _finished(target: Path, files: Sequence[Path]) -> dict[str, Any] | None:
    """Return the document of a whole export of these images, or None if there is none at all."""
    try:
        document = json.loads(target.read_text(encoding="utf-8"))
        names = [entry["file_name"] for entry in document["annotations"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{target}: no panoptic annotations; --force replaces it") from None
    if names != [_picture_name(path) for path in files]:
        raise UsageError(
            f"{target}: holds {len(names)} images, not the {len(files)} asked for; choose another "
            "folder, or --force to replace it"
        )
    whole = all((target.with_suffix("") / name).is_file() for name in names)
    return document if whole else None


def _report(target: Path, document: dict[str, Any], made: int) -> dict[str, Any]:
    annotations = document["annotations"]
    segments = sum(len(entry["segments_info"]) for entry in annotations)
    report = {"path": str(target), "images": len(annotations)}
    return {**report, "segments": segments, "made": made}


def _picture_name(path: Path) -> str:
    return path.name.removesuffix(INSTANCE_SUFFIX) + _PICTURE_SUFFIX
