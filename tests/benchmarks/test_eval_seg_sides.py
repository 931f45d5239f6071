"""The benchmark of `eval-seg`: both of its sides score the same files alike."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from eval_seg import TASKS, TOLERANCE, score  # noqa: E402
from eval_seg_data import Files, prepare, repeat  # noqa: E402

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    pytest.importorskip("cityscapesscripts")
    return prepare(tmp_path_factory.mktemp("frames"), 2, (192, 384))


@pytest.mark.parametrize("task", TASKS)
def test_both_sides_agree(files, task):
    official, ours = (score(files.root, side, task, 1)["metrics"] for side in ("official", "ours"))
    assert len(official) >= 2
    for name, value in official.items():
        assert ours[name] == pytest.approx(value, rel=0, abs=TOLERANCE[task])
        assert 0 < value < 1


def test_a_set_repeated_scores_the_same(files):
    many = repeat(files, files.root / "many", 4)
    for task in TASKS:
        once, twice = (score(side.root, "ours", task, 1)["metrics"] for side in (files, many))
        assert twice == pytest.approx(once, abs=1e-12)
