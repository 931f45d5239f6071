"""The tiny network of segments learns a few frames by heart: classes, masks and objects."""

import json

import pytest
from labels_toys import write_labelled_store

from unienc_core.workflows.eval_seg import eval_seg
from unienc_core.workflows.train import train


@pytest.mark.slow
def test_eight_frames_are_learned_by_heart(tmp_path):
    store = write_labelled_store(tmp_path / "store", images=8)
    overrides = ["image_size=[64, 96]", "optimizer.lr=1e-3", "stages.0.steps=600"]
    overrides += [f"streams.labels.augment.{change}=0" for change in ("flip", "jitter")]
    options = {"overrides": overrides, "device": "cpu", "workers": 0, "threads": 1}
    train("oneformer-tiny", [store], out=tmp_path / "run", **options)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    for term, share in (("cls", 0.1), ("bce", 0.3), ("dice", 0.4)):
        assert last[f"loss/{term}"] < share * first[f"loss/{term}"]
    pixels = eval_seg(store, checkpoint=tmp_path / "run", task="semantic", device="cpu", workers=1)
    assert pixels["metrics"]["miou"] > 0.9
    found = eval_seg(store, checkpoint=tmp_path / "run", task="panoptic", device="cpu", workers=1)
    assert found["metrics"]["pq"] > 0.9
