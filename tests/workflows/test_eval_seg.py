"""`eval_seg` on folders and stores: numbers known beforehand, and what lacks a partner."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import seg_toys as toys
from seg_toys import Stub, write_predictions, write_seg_store, write_truth

from unienc_core.contracts import Progress, Reporter
from unienc_core.errors import DataError, PartialError, UsageError
from unienc_core.workflows.eval_seg import eval_seg, format_report, metric_names
from unienc_core.workflows.export_panoptic import export_panoptic
from unienc_core.workflows.seg_samples import METRICS, TASKS


def score(**options) -> dict:
    """Call `eval_seg` in this process."""
    return eval_seg(**{"workers": 1, **options})


def evaluate(tmp_path: Path, task: str, count: int = 2, **options) -> dict:
    """Score `count` pictures of the toy set."""
    truth = write_truth(tmp_path / "cs", count)
    predictions = write_predictions(tmp_path / "found", task, count)
    return score(predictions=predictions, ground_truth=truth, task=task, **options)


def check_numbers(report: dict) -> None:
    """Compare with what is known beforehand of the toy scene, however often it is there."""
    task, metrics, per_class = report["task"], report["metrics"], report["per_class"]
    assert set(metrics) == set(METRICS[task]) == set(metric_names(task))
    if task == "instance":
        assert metrics["ap"] == pytest.approx(toys.AP, abs=1e-9)
        assert metrics["ap50"] == pytest.approx(toys.AP50, abs=1e-9)
        assert per_class["truck"] == {"ap": None, "ap50": None}
    elif task == "semantic":
        found = {name: scores["iou"] for name, scores in per_class.items() if scores["iou"]}
        assert found == pytest.approx({n: v for n, v in toys.IOUS.items() if v}, abs=1e-5)
        assert per_class["sidewalk"]["iou"] == 0
        assert metrics["miou"] == pytest.approx(np.mean(list(toys.IOUS.values())), abs=1e-5)
        assert metrics["iiou"] == pytest.approx(1)
        assert metrics["category_iou"] == pytest.approx(1, abs=0.02)
    else:
        expected = toys.expected_panoptic()
        found = {name: scores for name, scores in per_class.items() if scores["pq"] is not None}
        assert found == {name: pytest.approx(scores) for name, scores in expected.items()}
        things = (expected["car"]["pq"] + expected["person"]["pq"]) / 2
        assert metrics["pq_things"] == pytest.approx(things)
        assert metrics["pq_stuff"] == pytest.approx(expected["road"]["pq"])
        assert metrics["pq"] == pytest.approx(np.mean([c["pq"] for c in expected.values()]))


@pytest.mark.parametrize("task", TASKS)
def test_folders_score_what_is_known_beforehand(tmp_path, task) -> None:
    seen: list[Progress] = []
    report = evaluate(tmp_path, task, workers=1, reporter=Reporter(progress=seen.append))
    check_numbers(report)
    assert {
        "schema": 1,
        "verb": "eval-seg",
        "protocol": "cityscapes",
        "task": task,
        "classes": "cityscapes",
        "absent": "skip",
        "num_images": 2,
        "num_skipped": 0,
        "size": [200, 300],
        "checkpoint": None,
        "missing": [],
        "extra": [],
    }.items() <= report.items()
    assert report["data"] == {
        "predictions": str(tmp_path / "found"),
        "ground_truth": str(tmp_path / "cs" / "gtFine" / "val"),
    }
    assert [(p.done, p.total) for p in seen] == [(1, 2), (2, 2)]
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_processes_change_nothing(tmp_path, task) -> None:
    alone = evaluate(tmp_path, task, count=3, workers=1)
    folders = {"predictions": tmp_path / "found", "ground_truth": tmp_path / "cs" / "gtFine/val"}
    assert eval_seg(**folders, task=task, workers=2) == alone


@pytest.mark.parametrize("task", TASKS)
def test_workers_copied_off_a_process_of_one_thread_change_nothing(tmp_path, task) -> None:
    report = evaluate(tmp_path, task, count=5)
    words = ["eval-seg", "--predictions", str(tmp_path / "found"), "--ground-truth"]
    words += [str(tmp_path / "cs" / "gtFine"), "--task", task, "--workers", "2", "--json"]
    script = (
        "import multiprocessing, sys, threading\n"
        "from unienc_cli.main import run\n"
        "assert threading.active_count() == 1\n"
        "code = run(sys.argv[1:])\n"
        "assert multiprocessing.forkserver._forkserver._forkserver_pid is None\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import multiprocessing.forkserver\n{script}", *words],
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["metrics"] == report["metrics"]
    assert found["per_class"] == report["per_class"]


def test_panoptic_truth_may_be_a_document(tmp_path) -> None:
    truth = write_truth(tmp_path / "cs")
    files = sorted(truth.glob("*/*_instanceIds.png"))
    export_panoptic(files, tmp_path / "cs" / "gtFine", "val")
    predictions = write_predictions(tmp_path / "found", "panoptic")
    check_numbers(score(predictions=predictions, ground_truth=tmp_path / "cs" / "gtFine"))


@pytest.mark.parametrize("task", TASKS)
def test_a_store_scores_as_folders_do_and_its_export_as_the_store(tmp_path, task) -> None:
    store = write_seg_store(tmp_path / "store" / "val")
    stub = Stub((task,))
    report = eval_seg(tmp_path / "store", predictor=stub, task=task, export=tmp_path / "out")
    check_numbers(report)
    assert stub.calls == report["num_images"] == 2
    assert report["data"]["store"] == str(store)
    truth = tmp_path / "gtFine" / "val" / "ulm"
    for drive in range(2):  # named as Cityscapes does: set, sequence, frame
        ids = toys.scene()
        stem = f"ulmtoy_{drive:06d}_000000_gtFine"
        toys.write_png(truth / f"{stem}_instanceIds.png", ids)
        toys.write_png(truth / f"{stem}_labelIds.png", toys.label_ids_of(ids))
    again = score(predictions=tmp_path / "out", ground_truth=tmp_path / "gtFine", task=task)
    assert again["metrics"] == report["metrics"]
    assert again["per_class"] == report["per_class"]


def test_an_export_never_mixes_with_other_files_unasked(tmp_path) -> None:
    store, out = write_seg_store(tmp_path / "val"), tmp_path / "out"
    toys.write_png(out / "mine.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(UsageError, match=r"it holds mine\.png"):
        eval_seg(store, predictor=Stub(), export=out)
    eval_seg(store, predictor=Stub(), export=out, force=True)
    assert {path.name for path in out.iterdir()} == {"mine.png", "panoptic", "panoptic.json"}


def test_a_dry_run_exports_and_draws_nothing(tmp_path) -> None:
    store = write_seg_store(tmp_path / "val")
    out, plots = tmp_path / "out", tmp_path / "plots"
    report = eval_seg(store, predictor=Stub(), export=out, plots=plots, dry_run=True)
    assert (report["dry_run"], report["num_images"]) == (True, 2)
    assert report["metrics"]["pq"] is None
    assert format_report(report) == "dry run: all inputs open; 2 images would be scored"
    assert not out.exists()
    assert not plots.exists()


def test_a_task_the_predictor_does_not_give_is_named(tmp_path) -> None:
    store = write_seg_store(tmp_path / "val")
    with pytest.raises(UsageError, match="gives no instance segmentation"):
        eval_seg(store, predictor=Stub(("semantic",)), task="instance")


def test_a_store_needs_classes_and_instances(tmp_path) -> None:
    store = write_seg_store(tmp_path / "val", keys=("image", "semantic"))
    with pytest.raises(DataError, match="holds no 'instance'"):
        eval_seg(store, predictor=Stub())


@pytest.mark.parametrize("task", TASKS)
def test_what_lacks_a_partner_stops_or_is_left_out(tmp_path, task) -> None:
    truth = write_truth(tmp_path / "cs", 5)
    predictions = write_predictions(tmp_path / "found", task, 3)
    stranger = {"instance": "bonn_000000_000019.txt", "semantic": "bonn_000000_000019.png"}
    if task in stranger:
        (predictions / stranger[task]).touch()
    else:
        document = json.loads((predictions / "panoptic.json").read_text())
        entry = {**document["annotations"][0], "image_id": "bonn_000000_000019"}
        document["annotations"].append(entry)
        (predictions / "panoptic.json").write_text(json.dumps(document))
    folders = {"predictions": predictions, "ground_truth": truth, "task": task}
    with pytest.raises(DataError) as caught:
        score(**folders)
    assert "2 pictures without a prediction (ulm_000003_000019, ulm_00" in str(caught.value)
    assert "1 prediction of no picture (bonn_000000_000019" in str(caught.value)
    assert caught.value.details["missing"] == ["ulm_000003_000019", "ulm_000004_000019"]
    assert len(caught.value.details["extra"]) == 1
    with pytest.raises(PartialError) as partial:
        score(**folders, allow_missing=True)
    report = partial.value.report
    assert report is not None
    assert (report["num_images"], report["num_skipped"]) == (3, 2)
    assert report["missing"] == caught.value.details["missing"]
    check_numbers(report)
    assert "left out: 2 pictures without" in format_report(report)


def test_nothing_in_common_is_never_scored(tmp_path) -> None:
    truth = write_truth(tmp_path / "cs")
    other = tmp_path / "found"
    toys.write_png(other / "bonn_000000_000019.png", toys.found_labels())
    with pytest.raises(DataError, match="1 picture without a prediction") as caught:
        eval_seg(predictions=other, ground_truth=truth, task="semantic", allow_missing=True)
    assert "--allow-missing" not in str(caught.value)


def test_truth_of_void_alone_is_an_error_and_no_report_of_nothing(tmp_path) -> None:
    void = np.zeros((20, 20), np.uint8)
    toys.write_png(tmp_path / "true" / "a_labelIds.png", void)
    toys.write_png(tmp_path / "found" / "a.png", void + toys.ROAD)
    with pytest.raises(DataError, match="nothing to score: 1 images, and no class of cityscapes"):
        score(predictions=tmp_path / "found", ground_truth=tmp_path / "true", task="semantic")


ROOMS = """
name: rooms
classes:
  - {id: 0, name: unknown, ignore: true}
  - {id: 1, name: wall}
  - {id: 2, name: chair, thing: true}
  - {id: 3, name: lamp}
"""


@pytest.mark.parametrize("absent", ["skip", "zero"])
def test_other_classes_and_what_the_absent_ones_count(tmp_path, absent) -> None:
    classes = tmp_path / "rooms.yaml"
    classes.write_text(ROOMS)
    truth = np.ones((20, 20), np.uint8)
    truth[10:] = 2
    found = truth.copy()
    found[:5] = 2
    toys.write_png(tmp_path / "true" / "a_labelIds.png", truth)
    toys.write_png(tmp_path / "found" / "a.png", found)
    report = score(
        predictions=tmp_path / "found",
        ground_truth=tmp_path / "true",
        task="semantic",
        classes=classes,
        absent=absent,
    )
    ious = {name: scores["iou"] for name, scores in report["per_class"].items()}
    lamp = None if absent == "skip" else 0.0
    assert ious == {"wall": 0.5, "chair": pytest.approx(2 / 3), "lamp": lamp}
    expected = (0.5 + 2 / 3) / (2 if absent == "skip" else 3)
    assert report["metrics"]["miou"] == pytest.approx(expected)
    assert report["classes"] == "rooms"
    words = "counted as 0" if absent == "zero" else "left out of means"
    assert words in format_report(report)


def test_the_table_has_a_row_for_each_class_and_mean(tmp_path) -> None:
    text = format_report(evaluate(tmp_path, "panoptic"))
    lines = [line.split() for line in text.splitlines()]
    assert ["pq", "sq", "rq"] in lines
    assert ["car", "0.583", "0.875", "0.667"] in lines
    assert ["truck", "-", "-", "-"] in lines
    assert {"all", "things", "stuff"} <= {words[0] for words in lines if words}
    assert "2 images of 200x300, panoptic" in text


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("with_images", [False, True])
def test_plots_are_written_and_never_overwritten_unasked(tmp_path, task, with_images) -> None:
    truth = write_truth(tmp_path / "cs", 4, with_images)
    predictions = write_predictions(tmp_path / "found", task, 4)
    folders = {"predictions": predictions, "ground_truth": truth, "task": task, "workers": 1}
    said: list[str] = []
    plots = tmp_path / "plots"
    eval_seg(**folders, plots=plots, reporter=Reporter(say=said.append))
    assert said == [f"wrote {plots / 'confusion.png'}", f"wrote {plots / 'worst.png'}"]
    worst = cv2.imread(str(plots / "worst.png"))
    assert worst is not None
    assert worst.shape[1] == 480 * (3 + with_images)
    with pytest.raises(UsageError, match="--force"):
        eval_seg(**folders, plots=plots)
    eval_seg(**folders, plots=plots, force=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "panoptik"}, "did you mean 'panoptic'"),
        ({"protocol": "coco"}, "known: cityscapes"),
        ({"absent": "nan"}, "known: skip, zero"),
        ({"predictions": Path("a")}, "--ground-truth"),
        ({"predictions": Path("a"), "ground_truth": Path("b"), "store": Path("c")}, "not both"),
        ({"predictions": Path("a"), "ground_truth": Path("b"), "export": Path("c")}, "--export"),
    ],
)
def test_requests_without_sense_are_named(options, words) -> None:
    with pytest.raises(UsageError, match=words):
        eval_seg(**options)


def test_a_damaged_image_beside_the_truth_costs_its_panel_only(tmp_path) -> None:
    truth = write_truth(tmp_path / "cs", 1, with_images=True)
    (image,) = (tmp_path / "cs" / "leftImg8bit").glob("val/ulm/*.png")
    image.write_bytes(image.read_bytes()[:-30])
    predictions = write_predictions(tmp_path / "found", "semantic")
    plots = tmp_path / "plots"
    score(predictions=predictions, ground_truth=truth, task="semantic", plots=plots)
    assert cv2.imread(str(plots / "worst.png")).shape[1] == 480 * 3


def test_a_predictor_brings_its_classes(tmp_path) -> None:
    stub = Stub(("semantic",))
    stub.classes = replace(toys.TABLE, name="mine", classes=toys.TABLE.classes[:27])
    report = eval_seg(write_seg_store(tmp_path / "val"), predictor=stub, task="semantic")
    assert report["classes"] == "mine"
    assert "car" in report["per_class"]
    assert "bicycle" not in report["per_class"]


def test_labelled_images_are_found_beside_triplets_and_keep_their_names(tmp_path) -> None:
    write_seg_store(tmp_path / "val", keys=("image",))
    place = {"city": "bonn", "sequence": 3, "first_frame": 19}
    store = write_seg_store(tmp_path / "val-labelled", 1, attrs=place)
    out = tmp_path / "out"
    report = eval_seg(tmp_path, predictor=Stub(), task="instance", export=out)
    assert report["data"]["store"] == str(store)
    assert (out / "bonn_000003_000019.txt").exists()


def test_what_workers_import_is_light() -> None:
    code = (
        "import sys, unienc_core.workflows.seg_sources; "
        "print({'torch', 'h5py', 'av', 'typer'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
