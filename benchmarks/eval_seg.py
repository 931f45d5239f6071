"""`eval-seg` against cityscapesscripts on the same frames: time, memory and figures.

Each side scores the same files over the same number of processes, in a process of its own, in turn;
two of the official scripts use one process only, and are also timed as they are. What is timed is
from files to figures: starting workers counts, importing modules before it does not. Memory is the
most that the process and its workers hold together, in a run of its own, since looking at it takes
time. The figures must agree.

Run: python benchmarks/eval_seg.py DATA [--frames N] [--size H W] [--workers N] [--repeats N]
     [--many N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# One thread per process, set before numpy and OpenCV are loaded.
os.environ["OMP_NUM_THREADS"] = "1"

# What else is needed is imported where it is used: worker processes import this file, too.

TASKS = ("panoptic", "instance", "semantic")
SIDES = ("published", "official", "ours")
"""The scripts as they are, of which two use one process; shared out over the workers; our verb."""
LEAST_RATIO = 3.0
TOLERANCE = {"panoptic": 1e-9, "instance": 1e-6, "semantic": 1e-6}
LOOK_SECONDS = 0.1


def main() -> None:
    """Measure, print one JSON document, and fail where a task is too slow or a figure differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, help="folder for the files, made if it is empty")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--many", type=int, default=500, help="frames for the memory of our side")
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "TASK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(score(options.data, *options.one, options.workers)))
        return
    result = measure(options)
    print(json.dumps(result, indent=1))
    slow = [name for name, task in result["tasks"].items() if task["ratio"] < LEAST_RATIO]
    wrong = [name for name, task in result["tasks"].items() if not task["equal"]]
    if slow or wrong:
        raise SystemExit(f"less than {LEAST_RATIO:g} times as fast: {slow}; not equal: {wrong}")


def score(root: Path, side: str, task: str, workers: int) -> dict[str, Any]:
    """Score the predictions of a task by one side; return its figures and the seconds it took."""
    from eval_seg_data import Files

    files = Files(root)
    if side != "ours":
        import eval_seg_official

        processes = 1 if side == "published" and task != "panoptic" else workers
        began = time.perf_counter()
        metrics = eval_seg_official.score(files, task, processes)
    else:
        from unienc_core.workflows.eval_seg import eval_seg

        began = time.perf_counter()
        metrics = eval_seg(
            predictions=files.predictions(task),
            ground_truth=files.truth(task),
            task=task,
            workers=workers,
        )["metrics"]
    return {"seconds": time.perf_counter() - began, "metrics": metrics}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Prepare the files, run both sides on each task, and return the figures."""
    from eval_seg_data import prepare, repeat

    base = options.data / f"{options.frames}x{options.size[0]}x{options.size[1]}"
    files = prepare(base, options.frames, tuple(options.size))
    tasks = {task: compare(files.root, task, options) for task in TASKS}
    if options.many:
        many = repeat(files, base.with_name(f"{base.name}-{options.many}"), options.many)
        for task in TASKS:
            run = run_side(many.root, "ours", task, options.workers, watched=True)
            tasks[task][f"mb_{options.many}"] = round(run["mb"])
            tasks[task][f"seconds_{options.many}"] = round(run["seconds"], 2)
    return {
        "benchmark": "eval_seg",
        "frames": options.frames,
        "size": list(options.size),
        "workers": options.workers,
        "repeats": options.repeats,
        "tasks": tasks,
    }


def compare(root: Path, task: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run all sides in turn and return what they took."""
    # In advance, so that the files are read from memory when it counts.
    memory = {side: run_side(root, side, task, options.workers, watched=True) for side in SIDES}
    rounds = [
        {side: run_side(root, side, task, options.workers) for side in SIDES[:: 1 - 2 * (n % 2)]}
        for n in range(options.repeats)
    ]
    ratios = [each["official"]["seconds"] / each["ours"]["seconds"] for each in rounds]
    published = [each["published"]["seconds"] / each["ours"]["seconds"] for each in rounds]
    official, ours = (rounds[0][side]["metrics"] for side in ("official", "ours"))
    differences = {name: float(abs(ours[name] - value)) for name, value in official.items()}
    took = {
        f"seconds_{side}": round(statistics.median(each[side]["seconds"] for each in rounds), 2)
        for side in SIDES
    }
    return {
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "ratio_to_published": round(statistics.median(published), 2),
        **took,
        **{f"mb_{side}": round(run["mb"]) for side, run in memory.items()},
        "metrics": ours,
        "largest_difference": max(differences.values()),
        "equal": max(differences.values()) <= TOLERANCE[task],
    }


def run_side(
    root: Path, side: str, task: str, workers: int, *, watched: bool = False
) -> dict[str, Any]:
    """Run one side in a process of its own; return its figures and, if watched, its memory, MB."""
    command = [sys.executable, __file__, str(root), "--one", side, task, "--workers", str(workers)]
    most = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while watched and process.poll() is None:
            most = max(most, sum(memory_of(pid) for pid in family(process.pid)))
            time.sleep(LOOK_SECONDS)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{side} {task} failed with exit code {process.returncode}")
    run = json.loads(output)
    memory = f", {most:.0f} MB" if watched else ""
    print(f"{side} {task}: {run['seconds']:.2f} s{memory}", file=sys.stderr)
    return {**run, "mb": most}


def family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    try:
        lists = [p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    children = [int(child) for text in lists for child in text.split()]
    return [pid, *(member for child in children for member in family(child))]


def memory_of(pid: int) -> float:
    """Return the memory of a process in MB, what it shares with others divided among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


if __name__ == "__main__":
    main()
