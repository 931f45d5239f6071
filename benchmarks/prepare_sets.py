"""Throughput and memory of `prepare-data cityscapes`, against bare decoding of the same files.

Throughput: pictures of the set's own size, by one bare process before and after the verb with
several workers. A worker takes whole shards, of 150 such frames: give each of them two or more.
Memory: as many files as the full train split has, tiny ones, since what grows with the set is what
is known of each frame, not the pictures.

Run: python benchmarks/prepare_sets.py [--pictures FOLDER] [--frames N] [--snippets N] [--workers N]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing import active_children
from pathlib import Path

# One thread per process, set before numpy and OpenCV are loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np

# What else is needed is imported where it is used: worker processes import this file, too.

SNIPPET = 30
PARTS = ("leftImg8bit_sequence", "camera")
WHOLE, TINY = (1024, 2048), (32, 64)
TRAIN_SNIPPETS = 2975
BARE_FRAMES = 60
INTRINSIC = {"fx": 2262.5, "fy": 2265.3, "u0": 1097.0, "v0": 513.1}  # of whole pictures


def render_pictures(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Render pictures of a city as PNG files."""
    from unienc_core.data.synthcity import City, CityConfig

    city = City(CityConfig(0, size, num_frames=count, supersample=1))
    paths = [folder / f"{index}.png" for index in range(count)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), city.render(index)["image"][..., ::-1])
    return paths


def link_tree(root: Path, pictures: list[Path], size: tuple[int, int], frames: int) -> list[Path]:
    """Lay out `frames` links to the pictures as snippets of Cityscapes with a camera each."""
    intrinsic = {name: value * size[0] / WHOLE[0] for name, value in INTRINSIC.items()}
    content = {"extrinsic": {"baseline": 0.209313, "z": 1.22}, "intrinsic": intrinsic}
    sequence, camera = (root / part / "train" / "bench" for part in PARTS)
    sequence.mkdir(parents=True)
    camera.mkdir(parents=True)
    paths = []
    for index in range(frames):
        stem = f"bench_{index // SNIPPET:06d}_{index % SNIPPET:06d}"
        path = sequence / f"{stem}_leftImg8bit.png"
        path.hardlink_to(pictures[index % len(pictures)])
        paths.append(path)
        if index % SNIPPET == 0:
            (camera / f"{stem}_camera.json").write_text(json.dumps(content))
    return paths


def bare(paths: list[Path]) -> float:
    """Decode, crop and resize in this process; return the seconds of a frame."""
    cv2.setNumThreads(1)
    began = time.perf_counter()
    for path in paths:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        cv2.resize(image[: image.shape[0] * 3 // 4], (512, 192), interpolation=cv2.INTER_AREA)
    return (time.perf_counter() - began) / len(paths)


def prepare(root: Path, out: Path, size: tuple[int, int], workers: int) -> None:
    """Run the verb's workflow and print what it took, as JSON."""
    from unienc_core.contracts import Progress, Reporter
    from unienc_core.data.sets.cityscapes import CityscapesRequest, list_cityscapes
    from unienc_core.workflows.prepare_sets import prepare_set

    listing = list_cityscapes(root, CityscapesRequest(image_size=size))
    listed = time.process_time()
    peak = 0.0

    def watch(step: Progress) -> None:
        nonlocal peak
        peak = max(peak, *(high_water(process.pid) for process in active_children()), 0.0)

    report = prepare_set(listing, out, workers=workers, reporter=Reporter(watch))
    own = resource.getrusage(resource.RUSAGE_SELF)
    used = {
        "frames": report["stored"],
        "seconds": report["seconds"],
        "cpu_listing": listed,
        "cpu_parent": own.ru_utime + own.ru_stime,
        "mb_parent": own.ru_maxrss / 1024,
        "mb_worker": peak,
    }
    print(json.dumps(used))


def high_water(pid: int | None) -> float:
    """Return the most memory that a process has had, MB.

    The system's own record of children will not do: it begins with the memory of their parent.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")), 0.0)


def prepared(root: Path, size: tuple[int, int], workers: int) -> dict[str, float]:
    """Run `prepare` in a process of its own, so that its memory is nobody else's."""
    with tempfile.TemporaryDirectory(dir=root.parent) as out:
        arguments = [str(root), out, *map(str, size), str(workers)]
        done = subprocess.run(
            [sys.executable, __file__, "--child", *arguments], stdout=subprocess.PIPE, check=True
        )
    return json.loads(done.stdout)


def throughput(pictures: list[Path], folder: Path, frames: int, workers: int) -> dict[str, float]:
    """Print rates of bare decoding and of the verb, and their ratio."""
    paths = link_tree(folder / "set", pictures, WHOLE, frames)
    bare(paths[:8])
    before = bare(paths[:BARE_FRAMES])
    found = prepared(folder / "set", (192, 512), workers)
    after = bare(paths[:BARE_FRAMES])
    wall = (before + after) / 2
    rate = found["frames"] / found["seconds"]
    print(f"bare decode + resize, one process: {1 / wall:.1f} frames/s")
    print(
        f"prepare-data, {workers} workers: {rate:.1f} frames/s, start of the workers included; "
        f"{rate * wall / workers:.2f} x workers x the bare rate; largest worker "
        f"{found['mb_worker']:.0f} MB"
    )
    return found


def memory(folder: Path, snippets: int, workers: int) -> dict[str, float]:
    """Print what a set of many files needs."""
    pictures = render_pictures(folder, TINY, 3)
    link_tree(folder / "many", pictures, TINY, SNIPPET * snippets)
    found = prepared(folder / "many", (24, 64), workers)
    print(
        f"{snippets} snippets of {SNIPPET} tiny frames, {workers} workers: parent "
        f"{found['mb_parent']:.0f} MB, largest worker {found['mb_worker']:.0f} MB; CPU of parent "
        f"{found['cpu_parent']:.0f} s, of which {found['cpu_listing']:.0f} s until all is listed"
    )
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--pictures", type=Path, help="folder of PNG files to use (default: rendered)"
    )
    parser.add_argument("--frames", type=int, default=600, help="0: memory only")
    parser.add_argument("--snippets", type=int, default=TRAIN_SNIPPETS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        root, out, height, width, workers = args.child
        prepare(Path(root), Path(out), (int(height), int(width)), int(workers))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "large").mkdir()
        given = sorted(args.pictures.rglob("*.png")) if args.pictures else None
        if not args.frames:
            memory(folder, args.snippets, args.workers)
            return
        copies = [folder / "large" / path.name for path in given or ()]
        for path, copy in zip(given or (), copies, strict=True):
            copy.write_bytes(path.read_bytes())
        large = throughput(
            copies or render_pictures(folder / "large", WHOLE, 3), folder, args.frames, args.workers
        )
        many = memory(folder, args.snippets, args.workers)
        total = many["mb_parent"] + args.workers * max(x["mb_worker"] for x in (large, many))
        print(f"so a full train split takes {total:.0f} MB with {args.workers} workers")


if __name__ == "__main__":
    main()
