"""`data check`: look through stores and image folders for what would spoil training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.check_files import FileCheck, check_files, judge_files, list_images
from unienc_core.data.check_store import DriveCheck, ShardCheck, check_shard
from unienc_core.data.findings import Finding
from unienc_core.data.manifest import Manifest, StoreSpec, read_manifest
from unienc_core.data.sets.runs import CUT_OVERLAP
from unienc_core.data.store import is_store
from unienc_core.data.worker_pool import Pool, make_pool
from unienc_core.errors import DataError, Interrupted, StoreError
from unienc_core.machine import available_cores

_FILES_A_JOB = 64
_FEW_JOBS = 4
"""With fewer jobs than this, starting processes takes longer than they save."""


@dataclass
class _StoreCheck:
    path: Path
    manifest: Manifest | None = None
    drives: list[DriveCheck] = field(default_factory=list)


def check_data(
    paths: Sequence[Path], *, workers: int | None = None, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Check stores and image folders, every byte once, and compare all their pictures.

    Args:
        paths: Stores, folders of stores, or folders of image files.
        workers: Processes; None for one per core.
        reporter: Progress in shards or files.

    Returns:
        Plain data: ``ok`` (nothing is wrong), ``stores`` and ``folders`` (what was looked at),
        ``findings`` and ``warnings`` (each with ``check``, ``place``, ``what``, ``remedy``).

    Raises:
        DataError: If a path does not exist, or holds neither stores nor images.
        Interrupted: On Ctrl-C.
    """
    reporter = reporter or Reporter()
    stores, folders = _find(paths)
    found: list[Finding] = []
    checks = [_open(path, found) for path in stores]
    jobs = sum(len(c.manifest.shards) for c in checks if c.manifest is not None)
    jobs += sum(-(-len(files) // _FILES_A_JOB) for files in folders.values())
    try:
        with make_pool(workers or available_cores() if jobs >= _FEW_JOBS else 1) as pool:
            _check_stores(checks, found, pool, reporter)
            folder_records = _check_folders(folders, found, pool, reporter)
    except KeyboardInterrupt:
        raise Interrupted("interrupted: nothing was changed, repeat the command") from None
    found += _shared_pictures(checks)
    by_severity = {
        severity: [f.record() for f in found if f.severity == severity]
        for severity in ("finding", "warning")
    }
    return {
        "ok": not by_severity["finding"],
        "stores": [_describe(check) for check in checks],
        "folders": folder_records,
        "findings": by_severity["finding"],
        "warnings": by_severity["warning"],
    }


def format_check(report: dict[str, Any]) -> str:
    """Return the report as text: what was looked at, then a line per finding and warning."""
    lines = [_looked_at(store) for store in report["stores"]]
    lines += [f"{folder['path']}: {folder['num_files']} images" for folder in report["folders"]]
    for kind in ("warnings", "findings"):
        entries = report[kind]
        lines.append(f"{len(entries)} {kind if len(entries) != 1 else kind[:-1]}")
        lines += [f"  {e['place']}: {e['what']}; {e['remedy']}" for e in entries]
    return "\n".join(lines)


def _looked_at(store: dict[str, Any]) -> str:
    share = store["static_share"]
    standing = "" if share is None else f", camera stands in {share:.0%}"
    return f"{store['path']}: {len(store['drives'])} drives, {store['num_frames']} frames{standing}"


def _find(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, list[Path]]]:
    """Return the stores to check, and the image folders with their files."""
    stores: list[Path] = []
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        if not path.is_dir():
            what = "is a file, expected a store or a folder" if path.exists() else "no such folder"
            raise DataError(f"{path}: {what}")
        inside = [path] if is_store(path) else sorted(p for p in path.iterdir() if is_store(p))
        stores += inside
        if not inside:
            folders[path] = list_images(path)
            if not folders[path]:
                raise DataError(f"{path}: holds neither a store nor an image; nothing to check")
    return list(dict.fromkeys(stores)), folders


def _open(path: Path, found: list[Finding]) -> _StoreCheck:
    try:
        manifest = read_manifest(path)
    except StoreError as error:
        text, _, remedy = str(error).removeprefix(f"{path}: ").rpartition("; ")
        again = "restore it, or prepare the store again with --force"
        found.append(Finding("integrity", str(path), text or remedy, remedy if text else again))
        return _StoreCheck(path)
    if not manifest.complete:
        what = f"is unfinished, it has {len(manifest.shards)} shards so far"
        remedy = "repeat the prepare-data command, which goes on where it stopped"
        found.append(Finding("integrity", str(path), what, remedy))
    drives = [drive for shard in manifest.shards for drive in shard.drives]
    if manifest.spec.kind == "drives" and drives and not any(d.num_triplets for d in drives):
        what = f"no drive holds a triplet of gap {manifest.spec.gap}: nothing can be trained on it"
        found.append(Finding("triplets", str(path), what, "prepare longer drives"))
    return _StoreCheck(path, manifest)


def _check_stores(
    checks: Sequence[_StoreCheck], found: list[Finding], pool: Pool, reporter: Reporter
) -> None:
    jobs = [
        (check, shard)
        for check in checks
        if check.manifest is not None
        for shard in check.manifest.shards
    ]
    arguments = [
        (check.path, shard, check.manifest.spec) for check, shard in jobs if check.manifest
    ]
    results: list[ShardCheck | None] = [None] * len(jobs)
    for done, (number, result) in enumerate(pool.map(check_shard, arguments), 1):
        results[number] = result
        reporter.progress(Progress("check", done, len(jobs), "shard"))
    for (check, _), result in zip(jobs, results, strict=True):
        if result is not None:
            found += result.findings
            check.drives += result.drives


def _check_folders(
    folders: dict[Path, list[Path]], found: list[Finding], pool: Pool, reporter: Reporter
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for folder, files in folders.items():
        chunks = [(files[i : i + _FILES_A_JOB],) for i in range(0, len(files), _FILES_A_JOB)]
        results: dict[int, list[FileCheck]] = {}
        for number, checks in pool.map(check_files, chunks):
            results[number] = checks
            done = sum(map(len, results.values()))
            reporter.progress(Progress("check", done, len(files), "file"))
        found += judge_files([check for n in sorted(results) for check in results[n]])
        records.append({"path": str(folder), "num_files": len(files)})
    return records


def _shared_pictures(checks: Sequence[_StoreCheck]) -> Iterator[Finding]:
    """Yield a finding for each two drives that share pictures, by content, whatever their names."""
    drives = [(check, drive) for check in checks for drive in check.drives]
    owner: dict[bytes, int] = {}
    shared: Counter[tuple[int, int]] = Counter()
    for number, (_, drive) in enumerate(drives):
        for digest in set(drive.digests):
            first = owner.setdefault(digest, number)
            if first != number:
                shared[first, number] += 1
    for (first, second), count in sorted(shared.items()):
        (check, drive), (other, twin) = drives[first], drives[second]
        same = drive.digest == twin.digest
        if _is_meant(check, other, count, same):
            continue
        what = "is" if same else f"shares {count} of its {twin.num_frames} pictures with"
        what += f" {'the same drive as ' if same else ''}{drive.name} of {check.path}"
        remedy = "leave one of them out"
        splits = [c.manifest.spec.split if c.manifest else "" for c in (check, other)]
        if splits[0] != splits[1]:
            what += f", so split '{splits[1]}' holds what '{splits[0]}' holds"
            remedy = "keep it in one split only, or what is measured there is worth nothing"
        place = f"{other.path}, drive {twin.name}"
        yield Finding("same-drive" if same else "shared-pictures", place, what, remedy)


def _is_meant(check: _StoreCheck, other: _StoreCheck, count: int, same: bool) -> bool:
    """Say whether pictures are shared by design: labelled frames, and pieces of one run."""
    if check.manifest is None or other.manifest is None:
        return False
    spec, twin = check.manifest.spec, other.manifest.spec
    if spec.split != twin.split:
        return False
    if spec.kind != twin.kind:
        return True
    parts = all("shard" in config for config in (spec.config, twin.config))
    made_of_one = check is other or (parts and _but_part(spec) == _but_part(twin))
    return made_of_one and not same and count <= CUT_OVERLAP


def _but_part(spec: StoreSpec) -> StoreSpec:
    config = {name: value for name, value in spec.config.items() if name != "shard"}
    return spec.model_copy(update={"config": config})


def _describe(check: _StoreCheck) -> dict[str, Any]:
    shares = [(d.static_share, d.num_frames) for d in check.drives if d.static_share is not None]
    total = sum(frames for _, frames in shares)
    share = sum((s or 0.0) * frames for s, frames in shares) / total if total else None
    return {
        "path": str(check.path),
        "split": check.manifest.spec.split if check.manifest else None,
        "digest": check.manifest.digest if check.manifest else None,
        "num_frames": sum(drive.num_frames for drive in check.drives),
        "static_share": share,
        "drives": [
            {
                "name": drive.name,
                "num_frames": drive.num_frames,
                "static_share": drive.static_share,
                "content": drive.digest.hex(),
            }
            for drive in check.drives
        ],
    }
