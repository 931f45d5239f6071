"""A teacher of three encoders and its student, a few steps in each of four stages."""

import copy
from pathlib import Path

import yaml
from tiny_store import write_tiny_store
from training_runs import MOTION

from unienc_core.contracts import Reporter
from unienc_core.safe_yaml import parse_yaml
from unienc_core.workflows.train import train
from unienc_core.workflows.training_verbs import DISTILL, TRAIN_STUDENT, TRAIN_TEACHER

VERBS = {verb.name: verb for verb in (TRAIN_STUDENT, TRAIN_TEACHER, DISTILL)}
SHORT = [f"stages.{i}.steps=2" for i in range(4)]


def student_dict() -> dict:
    """The four stages of the shared network, with what it learns from a teacher."""
    raw = parse_yaml(MOTION, "motion")
    raw["name"] = "student"
    raw["terms"] |= {"distil_flow": {"weight": 0.1}, "distil_mask": {"weight": 0.001}}
    raw["stages"][1]["terms"].append("distil_flow")
    for stage in raw["stages"][2:]:
        stage["terms"] += ["distil_flow", "distil_mask"]
    return raw


def teacher_dict() -> dict:
    """The same with an encoder each for depth, pose, and flow and mask."""
    raw = parse_yaml(MOTION, "motion")
    raw |= {"name": "teacher", "kind": "teacher"}
    network, stages = raw["network"], raw["stages"]
    network["encoders"] |= {
        "pose": {**copy.deepcopy(network["encoders"]["main"]), "view": "pair"},
        "motion": {**copy.deepcopy(network["encoders"]["main"]), "starts_as": "main"},
    }
    network["heads"]["pose"] = {"type": "single_scale", "reads": ["pose"], "view": "pair"}
    network["heads"]["pose"]["options"] = {"squeeze": 8}
    for head in ("scene_flow", "motion_mask"):
        network["heads"][head]["reads"] = ["motion"]
    added = (["encoders.main.*", "encoders.pose.*"], ["encoders.motion.*"])
    stages[0]["trains"] = [*added[0], "heads.depth.*", "heads.pose.*"]
    stages[1]["trains"] += added[1]
    stages[2]["trains"] += ["encoders.pose.*", *added[1]]
    return raw


def write_toys(folder: Path) -> Path:
    """Write both presets and a store of triplets; return the folder."""
    for raw in (student_dict(), teacher_dict()):
        (folder / f"{raw['name']}.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    write_tiny_store(folder / "store")
    return folder


def go(place: Path, verb: str, out: Path, *, preset: str | None = None, **options):
    """Train by a verb, two steps a stage; a teacher's run of the toys is ``place/teacher``."""
    name = preset or ("teacher" if verb == "train-teacher" else "student")
    if verb == "distill":
        options.setdefault("teacher", place / "teacher")
    options.setdefault("reporter", Reporter(say=options.pop("say", lambda line: None)))
    return train(
        str(place / f"{name}.yaml"),
        [place / "store"],
        verb=VERBS[verb],
        out=out,
        overrides=[*SHORT, *options.pop("overrides", ())],
        checkpoint_every=1,
        device="cpu",
        threads=1,
        **{"workers": 0, **options},
    )
