"""The benchmark's panoptic scripts and ours, given the same files."""

import contextlib
import io
import json
from pathlib import Path

import pytest
from panoptic_cases import Picture
from PIL import Image

from unienc_core.class_tables import cityscapes_table
from unienc_core.data.seg_files.names import match_panoptic
from unienc_core.data.seg_files.panoptic_files import PanopticPicture
from unienc_core.data.sets.panoptic import panoptic_categories
from unienc_core.metrics.panoptic_quality import PanopticCounts, count_panoptic, instance_segments

official = pytest.importorskip("cityscapesscripts.evaluation.evalPanopticSemanticLabeling")

TABLE = cityscapes_table()


def write_set(folder: Path, pictures: dict[str, Picture]) -> Path:
    (folder / "set").mkdir(parents=True)
    annotations = []
    for key, picture in pictures.items():
        Image.fromarray(picture.colours()).save(folder / "set" / f"{key}.png", compress_level=1)
        annotations.append(
            {
                "image_id": key,
                "file_name": f"{key}.png",
                "segments_info": picture.segments_info(),
            }
        )
    document = {"annotations": annotations, "categories": panoptic_categories()}
    (folder / "set.json").write_text(json.dumps(document))
    return folder / "set.json"


def official_scores(true: Path, predicted: Path) -> dict:
    """Scores of the official functions; a group without a class, which stops them, is None."""
    truth, prediction = (json.loads(path.read_text()) for path in (true, predicted))
    categories = {entry["id"]: entry for entry in truth["categories"]}
    by_id = {entry["image_id"]: entry for entry in prediction["annotations"]}
    pairs = [(entry, by_id[entry["image_id"]]) for entry in truth["annotations"]]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        stat = official.pq_compute_single_core(
            0, pairs, str(true.with_suffix("")), str(predicted.with_suffix("")), categories
        )
    scores: dict = {}
    for group, is_thing in (("", None), ("_things", True), ("_stuff", False)):
        try:
            means, per_class = stat.pq_average(categories, is_thing)
        except ZeroDivisionError:
            means, per_class = dict.fromkeys(("pq", "sq", "rq")), {}
        scores |= {f"{name}{group}": means[name] for name in ("pq", "sq", "rq")}
        if is_thing is None:
            counted = {c for c, s in stat.pq_per_cat.items() if s.tp + s.fp + s.fn}
            scores["per_class"] = {
                categories[c]["name"]: values for c, values in per_class.items() if c in counted
            }
    return scores


def count_pair(prediction: PanopticPicture, truth: PanopticPicture) -> PanopticCounts:
    ids, true_ids = prediction.read_ids(), truth.read_ids()
    segments = truth.segments
    if segments is None:
        segments = instance_segments(true_ids, TABLE)
    assert prediction.segments is not None
    return count_panoptic(ids, prediction.segments, true_ids, segments, TABLE)


def our_counts(true: Path, predicted: Path) -> PanopticCounts:
    matches = match_panoptic(true, predicted, TABLE)
    assert (matches.missing, matches.extra) == ((), ())
    counts = PanopticCounts.zero(TABLE)
    for pair in matches.pairs:
        counts += count_pair(pair.prediction, pair.truth)
    return counts
