"""`infer-video` with segmentations: what `--outputs` chooses, end to end."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from clip_toys import ListSource, StubPredictor, facts
from untrained import MASKS, save_untrained

from unienc_core.class_tables import cityscapes_table
from unienc_core.errors import UsageError
from unienc_core.inference.clip import process_clip
from unienc_core.inference.metric import RunningScale
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.sinks import SINKS
from unienc_core.inference.video import VideoReader
from unienc_core.presets import load_preset
from unienc_core.segmentation import Segment, Segmentation
from unienc_core.workflows.infer import VideoRequest, format_report, infer_video

EVERYTHING = ["depth", "motion", "semantic", "instance", "panoptic"]


@pytest.fixture(scope="module")
def masks_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    save_untrained(folder / "checkpoints", MASKS)
    return folder


def test_all_that_the_network_can_say_is_drawn_and_kept(make_video, masks_run, tmp_path) -> None:
    source = make_video(num=4)
    request = VideoRequest(sinks="mp4,npz,h5,jsonl,png16")
    report = infer_video([source], request=request, out=tmp_path / "o", checkpoint=masks_run)
    assert report["predictions"] == EVERYTHING
    assert "depth up to scale" in format_report(report)
    with VideoReader(tmp_path / "o" / "clip_unienc.mp4") as reader:
        frames = [frame.image for frame in reader]
    assert len(frames) == 4
    assert frames[0].shape[1] == 2 * 640
    with h5py.File(tmp_path / "o" / "clip_unienc.h5") as file:
        stored = {key: data[:] for key, data in file.items()}
    assert stored["semantic"].shape == stored["panoptic"].shape == (4, 48, 64)
    evaluated = {entry.id for entry in cityscapes_table().evaluated}
    assert set(np.unique(stored["semantic"])) <= evaluated
    for i, text in enumerate((tmp_path / "o" / "clip_unienc.jsonl").read_text().splitlines()):
        line = json.loads(text)
        areas = {entry["label_id"]: entry["area"] for entry in line["classes"]}
        assert areas == {
            label: int((stored["semantic"][i] == label).sum())
            for label in np.unique(stored["semantic"][i])
        }
        assert {"segments", "instances", "depth"} <= set(line)
        with np.load(tmp_path / "o" / "clip_unienc_npz" / f"{i:06d}.npz") as arrays:
            np.testing.assert_array_equal(arrays["semantic"], stored["semantic"][i])


def test_only_what_is_chosen_comes_out(make_video, masks_run, tmp_path) -> None:
    source = make_video(num=2)
    request = VideoRequest(sinks="npz,jsonl,mp4", outputs="panoptic, semantic")
    report = infer_video([source], request=request, out=tmp_path / "o", checkpoint=masks_run)
    assert report["predictions"] == ["semantic", "panoptic"]
    assert report["videos"][0]["depth_range"] is None
    assert "depth" not in format_report(report)
    with np.load(tmp_path / "o" / "clip_unienc_npz" / "000001.npz") as arrays:
        assert set(arrays) == {"T_previous_current", "panoptic", "semantic"}
        assert np.isnan(arrays["T_previous_current"]).all()
    line = json.loads((tmp_path / "o" / "clip_unienc.jsonl").read_text().splitlines()[1])
    assert line["depth"] is line["T_previous_current"] is None
    assert "instances" not in line
    plain = VideoRequest(sinks="npz,jsonl", outputs="depth,motion")
    infer_video([source], request=plain, out=tmp_path / "p", checkpoint=masks_run)
    with np.load(tmp_path / "p" / "clip_unienc_npz" / "000001.npz") as arrays:
        assert set(arrays) == {"depth", "disparity", "T_previous_current"}
        assert np.isfinite(arrays["T_previous_current"]).all()


def test_a_network_that_only_segments_annotates_videos(make_video, tmp_path) -> None:
    preset = load_preset(
        "oneformer-tiny",
        [f"network.heads.masks.options.{o}" for o in ("width=16", "queries=12", "hidden=16")],
    )
    checkpoint = save_untrained(tmp_path / "ck", preset)
    report = infer_video([make_video(num=2)], out=tmp_path / "o.mp4", checkpoint=checkpoint)
    assert report["predictions"] == ["semantic", "instance", "panoptic"]
    assert report["videos"][0]["frames_out"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"outputs": "depth,panoptc"}, r"--outputs 'panoptc': none of .*did you mean 'panoptic'"),
        ({"outputs": ""}, "--outputs '': none of"),
        ({"outputs": "panoptic", "sinks": "png16"}, "--sink png16 is about depth, but .* panoptic"),
        ({"outputs": "motion", "scale": "factor=2"}, "--scale is about depth"),
    ],
)
def test_choices_that_make_no_sense(make_video, masks_run, tmp_path, words, message) -> None:
    source = make_video(num=2)
    with pytest.raises(UsageError, match=message):
        infer_video(
            [source], request=VideoRequest(**words), out=tmp_path / "o", checkpoint=masks_run
        )
    assert not (tmp_path / "o").exists()


def test_what_the_network_cannot_say_is_refused(make_video, untrained_run, tmp_path) -> None:
    request = VideoRequest(outputs="depth,instance")
    with pytest.raises(UsageError, match="no instance segmentation; it has depth, motion"):
        infer_video([make_video(num=2)], request=request, checkpoint=untrained_run)
    report = infer_video([tmp_path / "clip.mp4"], out=tmp_path / "o", checkpoint=untrained_run)
    assert report["predictions"] == ["depth", "motion"]


class SeesOneCar(StubPredictor):
    """A car that never moves, each time under another name."""

    classes = cityscapes_table()
    _count = 0

    def decode(self, current, previous=None, outputs=(), following=None, K=None, window=None):
        self._count += 1
        ids = np.zeros(current.shape[:2], np.int32)
        ids[5:20, 100:300] = 26000 + self._count % 7
        found = Segmentation(ids, (Segment(26000 + self._count % 7, 26, area=3000),))
        output = super().decode(current)
        return output.__class__(output.disparity, output.depth_spec, output.size, None, found)


def test_ids_last_until_the_scene_is_cut(tmp_path) -> None:
    scenes = [
        np.random.default_rng(s).integers(0, 255, (24, 640, 3), dtype=np.uint8) for s in b"ab"
    ]
    images = [scenes[i >= 20] for i in range(40)]
    sink = SINKS["jsonl"](tmp_path / "out.jsonl", facts((24, 640)))
    with Outputs([sink]) as outputs:
        process_clip(
            ListSource(iter(images)),
            SeesOneCar(),
            outputs,
            metric=RunningScale(None, np.eye(3), (24, 640)),
            wanted=("depth", "panoptic"),
        )
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines if line["cut"]] == [20]
    assert [line["segments"][0]["id"] for line in lines] == [26000] * 20 + [26001] * 20
