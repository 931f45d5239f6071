"""Where torchmetrics differs from the benchmark, which is what ours agrees with.

torchmetrics treats void in a prediction as it treats void in the ground truth: such pixels leave
the union, and a true segment of which most is predicted void is no miss. In the benchmark void is
no answer, and what it hides is missed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from panoptic_cases import Picture
from panoptic_oracle import TABLE, official_scores, our_counts, write_set

import unienc_core.models.timm_compat  # noqa: F401 - torchmetrics imports torchvision
from unienc_core.metrics.panoptic_quality import panoptic_quality

pytestmark = pytest.mark.parity
detection = pytest.importorskip("torchmetrics.detection")

ROAD, CAR = 7, 26


def picture(ids: list[int]) -> Picture:
    """A road (1) and two cars (2, 3)."""
    classes = {1: (ROAD, False), 2: (CAR, False), 3: (CAR, False)}
    return Picture(np.array([ids], np.int32), classes).keep_visible()


CASES = {
    # true, predicted, PQ of the benchmark, PQ of torchmetrics
    "no void": ([1] * 5 + [2] * 5, [1] * 6 + [2] * 4, (5 / 6 + 4 / 5) / 2, (5 / 6 + 4 / 5) / 2),
    "true void": ([1] * 5 + [2] * 3 + [0] * 2, [1] * 5 + [2] * 5, 1, 1),
    "predicted void": ([1] * 5 + [2] * 5, [1] * 5 + [2] * 2 + [0] * 3, 0.5, 1),
    "car not seen": ([1] * 4 + [2, 2, 2, 3, 3, 3], [1] * 4 + [2, 2, 2, 0, 0, 0], 5 / 6, 1),
}


@pytest.mark.parametrize("name", CASES)
def test_void_in_a_prediction_is_a_miss(tmp_path: Path, name: str):
    true_ids, predicted_ids, expected, theirs = CASES[name]
    true, predicted = picture(true_ids), picture(predicted_ids)
    files = [write_set(tmp_path / "t", {"a": true}), write_set(tmp_path / "p", {"a": predicted})]
    ours = panoptic_quality(our_counts(*files), TABLE).metrics["pq"]
    assert ours == pytest.approx(expected, abs=1e-12)
    assert ours == pytest.approx(official_scores(*files)["pq"], abs=1e-12)
    assert torchmetrics_quality(true, predicted) == pytest.approx(theirs, abs=1e-6)


def torchmetrics_quality(true: Picture, predicted: Picture) -> float:
    metric = detection.PanopticQuality(
        things={CAR}, stuffs={ROAD}, allow_unknown_preds_category=True
    )

    def colours(p: Picture) -> torch.Tensor:
        lookup = np.zeros((int(p.ids.max()) + 1, 2), np.int64)
        for value, (category, _) in p.classes.items():
            lookup[value] = (category, value)
        return torch.from_numpy(lookup[p.ids])[None]

    return float(metric(colours(predicted), colours(true)))
