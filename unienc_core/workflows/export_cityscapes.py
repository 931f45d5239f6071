"""Ground truth of Cityscapes as files beside the stores: depth and panoptic segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unienc_core.contracts import Reporter
from unienc_core.data.sets.cityscapes_files import names_in, path_of, tree_of
from unienc_core.data.sets.listing import missing_tree
from unienc_core.data.worker_pool import make_pool
from unienc_core.machine import available_cores
from unienc_core.workflows.export_depth import export_cityscapes_depth
from unienc_core.workflows.export_panoptic import check_panoptic, export_panoptic


def export_cityscapes(
    root: Path,
    split: str,
    *,
    depth: Path | None = None,
    frames: Path | None = None,
    panoptic: Path | None = None,
    workers: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write the ground truth that is asked for.

    Args:
        root: Of the data set.
        split: "train", "val" or "test".
        depth: Folder of depth maps; see `export_cityscapes_depth`.
        frames: List of frames that have depth written.
        panoptic: Folder of panoptic annotations; see `export_panoptic`.
        workers: Processes; None for one per core.
        force: Replace what is there.
        dry_run: Check everything, write nothing.
        reporter: Progress and remarks.

    Returns:
        ``exported_depth`` and ``exported_panoptic``, those that were asked for.
    """
    found: dict[str, Any] = {}
    if depth is not None:
        found["exported_depth"] = export_cityscapes_depth(
            root,
            split,
            depth,
            frames,
            workers=workers,
            force=force,
            dry_run=dry_run,
            reporter=reporter,
        )
    if panoptic is not None:
        names = names_in(root, "instance", split)
        if not names:
            tree = [tree_of("instance", split)]
            raise missing_tree(root, f"Cityscapes instances of split '{split}'", tree)
        files = [path_of(root, "instance", split, name) for name in names]
        check_panoptic(files, panoptic, split, force)
        if not dry_run:
            with make_pool(min(workers or available_cores(), len(files))) as pool:
                found["exported_panoptic"] = export_panoptic(
                    files, panoptic, split, pool=pool, force=force, reporter=reporter
                )
    return found
