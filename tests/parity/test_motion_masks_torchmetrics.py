"""Scores of motion masks equal those of torchmetrics, pooled over images with void pixels."""

import numpy as np
import pytest
import torch

import unienc_core.models.timm_compat  # noqa: F401 - torchmetrics imports torchvision
from unienc_core.metrics.motion import MASK_THRESHOLDS, ThresholdCounts, motion_labels

pytestmark = pytest.mark.parity
oracle = pytest.importorskip("torchmetrics.functional.classification")


def random_counts(seed: int, images: int = 5) -> tuple[ThresholdCounts, np.ndarray, np.ndarray]:
    """Counts of some images with void pixels; and labels and scores of their known pixels."""
    rng = np.random.default_rng(seed)
    counts, truth, scores = ThresholdCounts(), [], []
    for _ in range(images):
        label = rng.choice([0, 1, 255], (11, 13), p=[0.6, 0.2, 0.2])
        score = np.clip(rng.normal(0.4 + 0.2 * (label == 1), 0.25), 0, 1)
        counts.add(score, motion_labels(label, 255))
        truth.append(label[label != 255])
        scores.append(score[label != 255])
    return counts, np.concatenate(truth), np.concatenate(scores)


def score_of(name: str, said: np.ndarray, truth: np.ndarray) -> float:
    return float(getattr(oracle, name)(torch.from_numpy(said), torch.from_numpy(truth)))


@pytest.mark.parametrize("seed", range(3))
def test_scores_at_every_threshold(seed: int) -> None:
    counts, truth, scores = random_counts(seed)
    names = {"iou": "binary_jaccard_index", "f1": "binary_f1_score"}
    names |= {"precision": "binary_precision", "recall": "binary_recall"}
    said = [(scores > threshold).astype(int) for threshold in MASK_THRESHOLDS]
    for i in range(0, len(said), 9):
        for name, other in names.items():
            assert (counts.at(i)[name] or 0.0) == pytest.approx(score_of(other, said[i], truth))
    best = counts.best()
    assert best is not None
    for name in ("iou", "f1"):
        expected = max(score_of(names[name], one, truth) for one in said)
        assert best[1][name] == pytest.approx(expected)
    at = (scores > best[0]).astype(int)
    assert best[1]["iou"] == pytest.approx(score_of(names["iou"], at, truth))
    half = score_of(names["iou"], (scores > 0.5).astype(int), truth)
    assert counts.over(0.5)["iou"] == pytest.approx(half)


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_and_curve(seed: int) -> None:
    counts, truth, scores = random_counts(seed)
    # There every score is a threshold; here scores are told apart by how many they pass.
    steps = (scores[:, None] > MASK_THRESHOLDS).sum(1)
    total = len(MASK_THRESHOLDS)
    exact = score_of("binary_average_precision", steps / total, truth)
    assert counts.average_precision() == pytest.approx(exact)
    fine = score_of("binary_average_precision", scores, truth)
    assert counts.average_precision() == pytest.approx(fine, abs=0.01)
    precision, recall, above = (
        values.numpy()
        for values in oracle.binary_precision_recall_curve(
            torch.from_numpy(steps / total), torch.from_numpy(truth)
        )
    )
    curve, compared = counts.curve(), 0
    for share, p, r in zip(above, precision, recall, strict=False):
        passed = round(total * float(share))
        if passed:
            assert curve["precision"][passed - 1] == pytest.approx(float(p))
            assert curve["recall"][passed - 1] == pytest.approx(float(r))
            compared += 1
    assert compared > 50
