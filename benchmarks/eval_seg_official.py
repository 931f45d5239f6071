"""The scripts of cityscapesscripts, run over several processes, for `benchmarks/eval_seg.py`.

The panoptic script shares its pictures out itself, over as many processes as there are cores. The
other two use one process; here their pictures are shared out in the same way, which is better than
they are: matching of instances, and confusion matrices. What follows from all pictures is left to
one process.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as instances  # noqa: N813
import cityscapesscripts.evaluation.evalPanopticSemanticLabeling as panoptic  # noqa: N813
import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as semantic  # noqa: N813
import numpy as np
from eval_seg_data import Files

Pair = tuple[str, str]


def score(files: Files, task: str, workers: int) -> dict[str, float]:
    """Score predictions and return the figures that our evaluator gives too, by its names."""
    run = {"panoptic": _panoptic, "instance": _instance, "semantic": _semantic}[task]
    with (
        patch.object(np, "in1d", np.isin, create=True),  # gone from NumPy, still called
        patch.object(multiprocessing, "cpu_count", lambda: workers),
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
    ):
        return run(files, workers)


def _panoptic(files: Files, _workers: int) -> dict[str, float]:
    sides = (files.panoptic, files.predictions("panoptic"))
    truth, found = (files.document(side) for side in sides)
    with tempfile.TemporaryDirectory() as folder:
        results = panoptic.evaluatePanoptic(
            *(str(p) for path in (truth, found) for p in (path, path.with_suffix(""))),
            str(Path(folder, "results.json")),
        )
    groups = {"": "All", "_things": "Things", "_stuff": "Stuff"}
    return {f"pq{ours}": results[theirs]["pq"] for ours, theirs in groups.items()}


def _instance(files: Files, workers: int) -> dict[str, float]:
    args = copy.copy(instances.args)
    args.quiet, args.predictionPath = True, str(files.predictions("instance").absolute())
    instances.setInstanceLabels(args)
    truths = [str(path.absolute()) for path in files.true_ids("instanceIds")]
    pairs = [(instances.getPrediction(truth, args), truth) for truth in truths]
    args.predictionWalk = None
    matches: dict[str, Any] = {}
    for part in _shared_out(_matches, pairs, workers, args):
        matches |= part
    averages = instances.computeAverages(instances.evaluateMatches(matches, args), args)
    return {"ap": averages["allAp"], "ap50": averages["allAp50%"]}


def _matches(pairs: Sequence[Pair], args: Any) -> dict[str, Any]:
    found, truths = ([pair[side] for pair in pairs] for side in (0, 1))
    return instances.matchGtWithPreds(found, truths, instances.instances2dict(truths), args)


def _semantic(files: Files, workers: int) -> dict[str, float]:
    args = copy.copy(semantic.args)
    args.quiet, args.predictionPath = True, str(files.predictions("semantic").absolute())
    truths = [str(path) for path in files.true_ids("labelIds")]
    pairs = [(semantic.getPrediction(args, truth), truth) for truth in truths]
    args.predictionWalk = None
    matrix = semantic.generateMatrix(args)
    statistics = semantic.generateInstanceStats(args)
    for part, part_statistics in _shared_out(_confusion, pairs, workers, args):
        matrix += part
        for kind, entries in statistics.items():
            for name, numbers in entries.items():
                for key in ("tp", "fn", "tpWeighted", "fnWeighted"):
                    numbers[key] += part_statistics[kind][name][key]
    ids = args.evalLabels
    classes = {i: semantic.getIouScoreForLabel(i, matrix, args) for i in ids}
    weighted = {i: semantic.getInstanceIouScoreForLabel(i, matrix, statistics, args) for i in ids}
    return {
        "miou": semantic.getScoreAverage(classes, args),
        "iiou": semantic.getScoreAverage(weighted, args),
    }


def _confusion(pairs: Sequence[Pair], args: Any) -> tuple[np.ndarray, dict]:
    matrix, statistics = semantic.generateMatrix(args), semantic.generateInstanceStats(args)
    for found, truth in pairs:
        semantic.evaluatePair(found, truth, matrix, statistics, {}, args)
    return matrix, statistics


def _shared_out(
    function: Callable[..., Any], pairs: list[Pair], workers: int, args: Any
) -> Iterable[Any]:
    """Run a function on equal parts of the pairs, one a process."""
    parts = [pairs[start::workers] for start in range(workers)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return pool.starmap(function, [(part, args) for part in parts])
