"""Stands in for the command line: makes the files that the real one makes, out of its options.

A preset's name decides what happens: `broken` fails with seed 1, `slow` trains until it is told to
stop the first time, `meet` goes on only when two of its kind train at once.
"""

import json
import random
import signal
import sys
import time
from pathlib import Path

from unienc_core.code_version import code_digest

VERB, *REST = sys.argv[1:]
LOG = Path(__file__).with_name("calls.jsonl")


def option(name: str) -> str:
    return REST[REST.index(name) + 1]


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def prepare() -> None:
    folder = Path(option("--out"))
    if "--fail" in REST:
        sys.exit("error: no space for the city")
    (folder / "val").mkdir(parents=True, exist_ok=True)


def train() -> None:
    run, preset, seed = Path(option("--out")), option("--preset"), int(option("--seed"))
    if preset == "broken" and seed == 1:
        say("step 3")
        say("error: loss is not finite")
        sys.exit(6)
    run.mkdir(exist_ok=True)
    record = run / "run.json"
    if record.exists() and (found := json.loads(record.read_text())["report"]) is not None:
        sys.stdout.write(json.dumps(found))
        return
    for name in ("--init", "--teacher"):
        if name in REST:
            json.loads((Path(option(name)) / "run.json").read_text())["report"]["seconds"]
    record.write_text(json.dumps({"report": None}))
    if preset == "slow" and not (run / "saved").exists():
        signal.signal(signal.SIGTERM, lambda *_: stop(run))
        say("train: 1/9 steps")
        time.sleep(60)
    if preset == "meet":
        meet(run)
    machine = {"cpu": "Abacus 3000", "device": "cpu", "torch": "9.9", "code": preset[:1] * 12}
    (run / "environment.json").write_text(json.dumps(machine))
    report = {"seconds": 600.0 + 60 * seed, "preset": preset, "seed": seed}
    record.write_text(json.dumps({"report": report}))
    sys.stdout.write(json.dumps(report))


def stop(run: Path) -> None:
    (run / "saved").touch()
    sys.exit(130)


def meet(run: Path) -> None:
    """Wait until another run has started that has not ended."""
    (run / "here").touch()
    until = time.monotonic() + 20
    while len(list(run.parents[1].glob("meet*/run/here"))) < 2:
        if time.monotonic() > until:
            sys.exit("error: alone")
        time.sleep(0.01)


def evaluate() -> None:
    run = json.loads((Path(option("--checkpoint")) / "run.json").read_text())["report"]
    level = {"good": 0.2, "tied": 0.201, "bad": 0.4}.get(run["preset"], 0.3)
    noise = (-0.01, 0.0, 0.01)[run["seed"] % 3]
    code = LOG.with_name("code")
    report = {
        "code": code.read_text() if code.exists() else code_digest(),
        "num_images": 7,
        "metrics": {"abs_rel": level + noise, "a1": 1 - level},
        "subsets": {"static": {"abs_rel": level / 2}, "moving": {"abs_rel": None}},
        "baselines": {"constant": {"abs_rel": 0.6, "a1": 0.25}},
    }
    if "--pose" in REST:
        report["pose"] = {
            "rotation_deg": random.Random(str(run)).random(),
            "num_pairs": 6,
            "num_snippets": 2,
            "baselines": {"straight_ahead": {"rotation_deg": 1.5}},
        }
    sys.stdout.write(json.dumps(report))


def steer() -> None:
    """Train and test at once: a random encoder has the larger errors."""
    run = Path(option("--out"))
    first = 1.0 if "--init" in REST else 1.5
    errors = [first + k for k in range(int(option("--folds")))]
    report = {
        "seconds": 30.0,
        "num_images": len(errors),
        "metrics": {"test_mse": {"mean": sum(errors) / len(errors)}},
        "baselines": {"train_mean": {"test_mse": {"mean": 4.0}}},
        "folds": [{"test": {"steering_mse": error}} for error in errors],
    }
    (run / "fold-0").mkdir(parents=True, exist_ok=True)
    machine = {"cpu": "Abacus 3000", "device": "cpu", "torch": "9.9", "code": "s" * 12}
    (run / "fold-0" / "environment.json").write_text(json.dumps(machine))
    (run / "steering.json").write_text(json.dumps(report))
    sys.stdout.write(json.dumps(report))


def segment() -> None:
    report = {
        "code": code_digest(),
        "num_images": 7,
        "metrics": {"pq": 0.3 if option("--task") == "panoptic" else 0.9},
        "per_class": {"road": {"pq": 0.6}, "car": {"pq": 0.4}, "sky": {"pq": 0.0}},
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    with LOG.open("a") as file:
        file.write(json.dumps([VERB, *REST]) + "\n")
    verbs = {"prepare-data": prepare, "eval-seg": segment, "finetune-steering": steer}
    verbs |= dict.fromkeys(("train-student", "train-teacher", "distill"), train)
    verbs |= dict.fromkeys(("eval-depth", "eval-motion"), evaluate)
    verbs[VERB]()
