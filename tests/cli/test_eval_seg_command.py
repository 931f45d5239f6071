"""`unienc eval-seg` as people and pipelines meet it: tables, JSON, exit codes, one-line errors."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import seg_toys as toys
from seg_toys import key_of, write_predictions, write_seg_store, write_truth

from unienc_cli.main import run

TASKS = ("panoptic", "instance", "semantic")


@pytest.fixture
def toy_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures with predictions for each task, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_truth(tmp_path / "cs", 2)
    for task in TASKS:
        write_predictions(tmp_path / task, task, 2)
    return tmp_path


def command(task: str, *more: str) -> list[str]:
    folders = ["--predictions", task, "--ground-truth", "cs/gtFine/val"]
    return ["eval-seg", *folders, "--task", task, "--workers", "1", *more]


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("panoptic", "car            0.583  0.875  0.667"),
        ("instance", "car                  0.750  1.000"),
        ("semantic", "sidewalk        0.000      -"),
    ],
)
def test_a_table_on_stdout_and_nothing_else_when_quiet(toy_set, capsys, task, row) -> None:
    assert run(command(task, "--quiet")) == 0
    out, err = capsys.readouterr()
    assert row in out.splitlines()
    assert err == ""


@pytest.mark.parametrize("task", TASKS)
def test_json_is_one_document_whatever_the_workers(toy_set, capsys, task) -> None:
    assert run(command(task, "--json")) == 0
    alone = json.loads(capsys.readouterr().out)
    assert (alone["verb"], alone["task"], alone["num_images"]) == ("eval-seg", task, 2)
    if task == "panoptic":
        assert run([*command(task, "--json")[:-3], "--workers", "2", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == alone


def test_a_dry_run_scores_nothing_and_fails_where_the_run_would(toy_set, capsys) -> None:
    assert run(command("panoptic", "--dry-run", "--quiet")) == 0
    assert capsys.readouterr().out == "dry run: all inputs open; 2 images would be scored\n"
    (toy_set / "panoptic" / "panoptic.json").write_text("{")
    assert run(command("panoptic", "--dry-run", "--quiet")) == 3


def test_thresholds_exit_with_7_after_the_report(toy_set, capsys) -> None:
    assert run(command("instance", "--json", "-q", "--fail-under", "ap=0.37")) == 0
    capsys.readouterr()
    assert run(command("instance", "--json", "-q", "--fail-under", "ap=0.38")) == 7
    out, err = capsys.readouterr()
    assert json.loads(out)["metrics"]["ap"] == pytest.approx(toys.AP)
    assert err == "error: ap = 0.375 is under 0.38\n"
    assert run(command("instance", "--fail-under", "pq=0.4")) == 2
    assert "no metric 'pq'" in capsys.readouterr().err


def test_what_is_missing_or_extra_exits_with_3_or_4(toy_set, capsys) -> None:
    (toy_set / "semantic" / f"{key_of(1)}_labelIds.png").rename(toy_set / "semantic/other.png")
    listed = {"missing": [key_of(1)], "extra": ["other.png"]}
    words = f"1 picture without a prediction ({key_of(1)}), 1 prediction of no picture (other.png)"
    assert run(command("semantic", "--json")) == 3
    out, err = capsys.readouterr()
    assert err == f"error: semantic: {words}; --allow-missing scores the others\n"
    assert {"exit_code": 3, **listed}.items() <= json.loads(out).items()
    assert run(command("semantic", "--json", "--quiet", "--allow-missing")) == 4
    out, err = capsys.readouterr()
    assert err == f"error: semantic: left out {words}\n"
    assert {"num_images": 1, "num_skipped": 1, **listed}.items() <= json.loads(out).items()
    beyond = ("--allow-missing", "--fail-under", "miou=0.9")
    assert run(command("semantic", "--json", "--quiet", *beyond)) == 7
    out, err = capsys.readouterr()
    assert json.loads(out)["num_images"] == 1
    assert err.startswith("error: miou = ")


def test_other_classes_where_the_absent_ones_count(toy_set, capsys) -> None:
    (toy_set / "classes.yaml").write_text(
        "name: street\nclasses:\n"
        "  - {id: 0, name: void, ignore: true}\n  - {id: 7, name: road}\n"
        "  - {id: 8, name: kerb}\n  - {id: 11, name: house}\n"
        "  - {id: 24, name: human, thing: true}\n  - {id: 26, name: vehicle, thing: true}\n"
    )
    options = ("--classes", "classes.yaml", "--absent-classes", "zero", "--json")
    assert run(command("semantic", *options)) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["per_class"]["house"]["iou"] == 0
    assert report["metrics"]["miou"] == pytest.approx(sum(toys.IOUS.values()) / 5, abs=1e-5)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def edit(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def repaint(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(path), change(values))


def first_segment(document: dict) -> dict:
    return document["annotations"][0]["segments_info"][0]


TRUTH = f"cs/gtFine/val/ulm/{key_of(0)}_gtFine_"
PANOPTIC, PICTURE = "panoptic/panoptic.json", f"panoptic/panoptic/{key_of(0)}_panoptic.png"
LABELS, TEXT = f"semantic/{key_of(0)}_labelIds.png", f"instance/{key_of(0)}.txt"
MASK = f"instance/masks/{key_of(0)}_000.png"
BAD = {
    "panoptic: a truncated png": ("panoptic", PICTURE, truncate, "damaged"),
    "panoptic: a png that is missing": ("panoptic", PICTURE, Path.unlink, "PNGs are missing"),
    "panoptic: an unknown class": (
        "panoptic",
        PANOPTIC,
        lambda p: edit(p, lambda d: first_segment(d).update(category_id=77)),
        "class 77",
    ),
    "panoptic: a class that is not scored": (
        "panoptic",
        PANOPTIC,
        lambda p: edit(p, lambda d: first_segment(d).update(category_id=4)),
        "not evaluated",
    ),
    "panoptic: an id that only the json has": (
        "panoptic",
        PANOPTIC,
        lambda p: edit(p, lambda d: first_segment(d).update(id=99)),
        "segment",
    ),
    "panoptic: training ids": (
        "panoptic",
        PANOPTIC,
        lambda p: edit(p, lambda d: d.update(categories=[{"id": i} for i in range(19)])),
        "training ids",
    ),
    "panoptic: no json": ("panoptic", PANOPTIC, Path.unlink, "no JSON file"),
    "panoptic: half a json": ("panoptic", PANOPTIC, truncate, "no panoptic document"),
    "panoptic: another size": (
        "panoptic",
        PICTURE,
        lambda p: repaint(p, lambda a: a[:-1]),
        "199x300, expected 200x300",
    ),
    "panoptic: a grey picture": (
        "panoptic",
        PICTURE,
        lambda p: repaint(p, lambda a: a[..., 0]),
        "grey, expected an RGB one",
    ),
    "instance: a truncated mask": ("instance", MASK, truncate, "damaged"),
    "instance: a mask that is missing": ("instance", MASK, Path.unlink, "No such file"),
    "instance: an unknown class": (
        "instance",
        TEXT,
        lambda p: p.write_text(p.read_text().replace(" 26 ", " 77 ")),
        "class 77",
    ),
    "instance: a line of two words": (
        "instance",
        TEXT,
        lambda p: p.write_text("mask.png 26\n"),
        "line 1: found 2 words",
    ),
    "instance: a score that is no number": (
        "instance",
        TEXT,
        lambda p: p.write_text(f"masks/{key_of(0)}_000.png 26 high\n"),
        "'high'",
    ),
    "instance: another size": (
        "instance",
        MASK,
        lambda p: repaint(p, lambda a: a[:, :-1]),
        "200x299, expected 200x300",
    ),
    "semantic: a truncated png": ("semantic", LABELS, truncate, "damaged"),
    "semantic: an unknown class": (
        "semantic",
        LABELS,
        lambda p: repaint(p, lambda a: np.where(a == 8, 255, a).astype(np.uint8)),
        "label id 255",
    ),
    "semantic: another size": (
        "semantic",
        LABELS,
        lambda p: repaint(p, lambda a: a[:-1]),
        "199x300, expected 200x300",
    ),
    "semantic: 16 bits": (
        "semantic",
        LABELS,
        lambda p: repaint(p, lambda a: a.astype(np.uint16)),
        "16 bits",
    ),
}
for _task in TASKS:
    BAD[f"{_task}: instanceIds of 8 bits"] = (
        _task,
        f"{TRUTH}instanceIds.png",
        lambda p: repaint(p, lambda a: (a % 256).astype(np.uint8)),
        "expected a grey one of 16 bits",
    )


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_3(toy_set, capsys, case) -> None:
    task, name, spoil, words = BAD[case]
    spoil(toy_set / name)
    assert run(command(task, "--quiet")) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert words in err
    stem = Path(name).stem
    assert stem.removesuffix("_labelIds").removesuffix("_000") in err or "no JSON" in err


@pytest.mark.parametrize("task", TASKS)
def test_bad_input_in_a_worker_is_one_line_too(toy_set, capsys, task) -> None:
    truncate(toy_set / {"panoptic": PICTURE, "instance": MASK, "semantic": LABELS}[task])
    assert run([*command(task)[:-1], "2", "--json"]) == 3
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert json.loads(out)["exit_code"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 3, "nowhere"),
        (["--predictions", "nowhere", "--ground-truth", "cs"], 3, "nowhere"),
        (["--predictions", "panoptic", "--ground-truth", "panoptic/panoptic"], 3, "no *_inst"),
        (["--predictions", "panoptic"], 2, "--ground-truth"),
        (["--task", "panoptik"], 2, "did you mean 'panoptic'"),
        (["--classes", "nowhere.yaml"], 3, "nowhere.yaml"),
        (["--absent-classes", "nan"], 2, "skip, zero"),
    ],
)
def test_other_slips(toy_set, capsys, arguments, code, words) -> None:
    assert run(["eval-seg", "--quiet", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert words in err


def test_a_store_is_opened_before_a_checkpoint_is_looked_for(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIENC_CHECKPOINT", raising=False)
    assert run(["eval-seg", "-q"]) == 3  # neither data nor a run
    write_seg_store(tmp_path / "data" / "synth-city" / "val", 1)
    capsys.readouterr()
    assert run(["eval-seg", "-q"]) == 2
    assert "checkpoint" in capsys.readouterr().err
