"""`infer-video` with scene flow and motion mask: one meaning in every output, end to end."""

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from clip_toys import ListSource, StubPredictor, facts
from test_ply import read_ply
from untrained import MOVING, MOVING_TRIPLE

import unienc_core
from unienc_cli.main import run as run_cli
from unienc_core.checkpoint import save_checkpoint
from unienc_core.errors import UsageError
from unienc_core.inference.clip import process_clip
from unienc_core.inference.frame_output import FrameOutput
from unienc_core.inference.metric import RunningScale
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.scene_motion import SceneMotion
from unienc_core.inference.sinks import SINKS
from unienc_core.inference.video import VideoReader
from unienc_core.models.network import build_network
from unienc_core.presets import DepthSpec, Preset
from unienc_core.workflows.infer import VideoRequest, format_report, infer_video

EVERYTHING = ["depth", "motion", "flow", "mask"]
NUM, SIZE = 5, (48, 64)
K_TEXT, K = "60,60,31.5,23.5", np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])


def save(folder: Path, preset: Preset) -> Path:
    """A network that has learnt nothing, but whose mask is not one half everywhere."""
    network = build_network(preset)
    with torch.no_grad():
        network.heads["motion_mask"].decode.from_images.to_map.weight.mul_(200)
    save_checkpoint(
        folder / "checkpoints",
        preset=preset, model=network.state_dict(), optimizer={}, state={"step": 3},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module", params=["pair", "triple"])
def run(request, tmp_path_factory) -> Path:
    preset = MOVING if request.param == "pair" else MOVING_TRIPLE
    return save(tmp_path_factory.mktemp(request.param), preset)


def unknown_in(run: Path) -> set[int]:
    return {0, NUM - 1} if run.name.startswith("triple") else {0}


def test_every_output_says_what_the_library_says_in_one_unit(make_video, run, tmp_path) -> None:
    source = make_video(num=NUM)
    request = VideoRequest(
        sinks="mp4,npz,h5,jsonl,ply", scale="factor=3", intrinsics=K_TEXT, max_depth=1e9
    )
    report = infer_video([source], request=request, out=tmp_path / "o", checkpoint=run)
    assert report["predictions"] == EVERYTHING
    assert report["videos"][0]["frames_out"] == NUM
    with VideoReader(source) as reader:
        images = [frame.image for frame in reader]
    with VideoReader(tmp_path / "o" / "clip_unienc.mp4") as reader:
        assert reader.info.width == 2 * 640
        assert len(list(reader)) == NUM
    lines = [json.loads(x) for x in (tmp_path / "o" / "clip_unienc.jsonl").read_text().splitlines()]
    with h5py.File(tmp_path / "o" / "clip_unienc.h5") as file:
        stored = {key: data[:] for key, data in file.items()}
    for i, output in enumerate(unienc_core.load(run, "cpu").stream(images)):
        with np.load(tmp_path / "o" / "clip_unienc_npz" / f"{i:06d}.npz") as archive:
            arrays = dict(archive)
        vertices, _ = read_ply(tmp_path / "o" / "clip_unienc_ply" / f"{i:06d}.ply")
        assert len(vertices) == 64 * 96  # the network's size
        np.testing.assert_allclose(arrays["depth"], 3 * output.depth, rtol=1e-6)
        for key in ("own_flow", "motion_mask"):
            np.testing.assert_array_equal(stored[key][i], arrays[key])
        if i in unknown_in(run):
            assert output.scene_motion is None
            assert np.isnan(arrays["own_flow"]).all()
            assert np.isnan(arrays["motion_mask"]).all()
            assert set(lines[i]["moving"].values()) == {None}
            continue
        np.testing.assert_allclose(arrays["motion_mask"], output.motion_mask, atol=1e-6)
        np.testing.assert_allclose(arrays["own_flow"], 3 * output.own_flow(K), atol=1e-5)
        assert arrays["own_flow"].shape == (3, *SIZE)
        assert arrays["own_flow"].dtype == arrays["motion_mask"].dtype == np.float32
        flow = 3 * output.scene_motion.own_flow(K, SIZE)
        cloud = np.stack([vertices[f"own_flow_{axis}"] for axis in "xyz"])
        np.testing.assert_allclose(cloud, flow.reshape(3, -1), atol=1e-5)
        moves = output.scene_motion.mask > 0.5
        assert 0 < moves.mean() < 1
        lengths = np.linalg.norm(flow, axis=0)[moves]
        assert lines[i]["moving"] == {
            "share": pytest.approx(moves.mean()),
            "mean_own_flow": pytest.approx(lengths.mean(), rel=1e-4),
            "mean_speed": pytest.approx(lengths.mean() * 24000 / 1001, rel=1e-4),
        }


def test_only_what_is_chosen_comes_out(make_video, run, tmp_path) -> None:
    request = VideoRequest(sinks="npz,h5,jsonl,mp4", outputs="mask,flow")
    source = make_video(num=3)
    report = infer_video([source], request=request, out=tmp_path / "o", checkpoint=run)
    assert report["predictions"] == ["flow", "mask"]
    assert "depth" not in format_report(report)
    with np.load(tmp_path / "o" / "clip_unienc_npz" / "000001.npz") as arrays:
        assert set(arrays) == {"own_flow", "motion_mask", "T_previous_current"}
        assert np.isnan(arrays["T_previous_current"]).all()
        assert np.isfinite(arrays["own_flow"]).all()
    plain = VideoRequest(sinks="npz,jsonl", outputs="depth,motion")
    infer_video([source], request=plain, out=tmp_path / "p", checkpoint=run)
    with np.load(tmp_path / "p" / "clip_unienc_npz" / "000001.npz") as arrays:
        assert set(arrays) == {"depth", "disparity", "T_previous_current"}
    assert "moving" not in (tmp_path / "p" / "clip_unienc.jsonl").read_text()


def test_a_single_picture_shows_no_motion(make_video, run, tmp_path) -> None:
    with VideoReader(make_video(num=1)) as reader:
        (frame,) = reader
    cv2.imwrite(str(tmp_path / "a.png"), frame.image)
    request = VideoRequest(sinks="mp4,npz,ply")
    infer_video([tmp_path / "a.png"], request=request, out=tmp_path / "o", checkpoint=run)
    assert (tmp_path / "o" / "a_unienc.png").exists()
    with np.load(tmp_path / "o" / "a_unienc_npz" / "a.npz") as arrays:
        assert np.isnan(arrays["own_flow"]).all()
        assert np.isfinite(arrays["depth"]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"outputs": "mask,flw"}, r"--outputs 'flw': none of .*did you mean 'flow'"),
        ({"outputs": "flow,mask", "sinks": "ply"}, "--sink ply is about depth, but .* flow, mask"),
        ({"sinks": "ply", "max_depth": -1.0}, "--max-depth -1: expected a depth above 0"),
        ({"sinks": "ply", "max_depth": float("nan")}, "--max-depth nan: expected"),
        ({"max_depth": 50.0}, "--max-depth is for point clouds, that is --sink ply"),
        ({"sinks": "plx"}, "--sink 'plx': none of .*did you mean 'ply'"),
    ],
)
def test_choices_that_make_no_sense(make_video, run, tmp_path, words, message) -> None:
    with pytest.raises(UsageError, match=message):
        infer_video(
            [make_video(num=2)], request=VideoRequest(**words), out=tmp_path / "o", checkpoint=run
        )
    assert not (tmp_path / "o").exists()


def test_what_the_network_cannot_say_is_refused(make_video, untrained_run) -> None:
    for output, name in (("mask", "motion mask"), ("flow", "scene flow")):
        with pytest.raises(UsageError, match=f"no {name}; it has depth, motion$") as caught:
            infer_video(
                [make_video(num=2)],
                request=VideoRequest(outputs=f"depth,{output}"),
                checkpoint=untrained_run,
            )
        assert caught.value.exit_code == 2


class Neighbours(StubPredictor):
    """Looks ahead, and says in the mask which frames it was shown: their brightness."""

    def looks_ahead(self, outputs=()) -> bool:
        return True

    def decode(
        self, current, previous=None, outputs=(), following=None, K=None, window=None
    ) -> FrameOutput:
        output = super().decode(current, previous)
        if previous is None or following is None:
            return output
        shown = [[previous[0, 0, 0], current[0, 0, 0], following[0, 0, 0]]]
        mask = np.array(shown, np.float32) / 255
        return replace(output, scene_motion=SceneMotion(mask, None, None, None, DepthSpec()))


def test_a_frame_waits_for_the_next_but_never_looks_over_a_cut(tmp_path) -> None:
    """Frames 0 to 19 are one scene, 20 to 39 another; the mask is of neighbours of one scene."""
    size = (24, 640)
    scenes = [np.random.default_rng(s).integers(0, 250, (*size, 3), dtype=np.uint8) for s in b"ab"]
    images = []
    for i in range(40):
        images.append(scenes[i >= 20].copy())
        images[-1][:2, :2] = 5 * i
    sink = SINKS["npz"](tmp_path / "out_npz", replace(facts((1, 3)), outputs=("depth", "mask")))
    with Outputs([sink]) as outputs:
        summary = process_clip(
            ListSource(iter(images), size),
            Neighbours(),
            outputs,
            metric=RunningScale(None, np.eye(3), size),
            wanted=("depth", "mask"),
        )
    assert summary.num_frames == 40
    assert [cut["index"] for cut in summary.cuts] == [20]
    for i in range(40):
        with np.load(tmp_path / "out_npz" / f"{i:06d}.npz") as arrays:
            mask = arrays["motion_mask"]
        assert np.isnan(mask).all() == (i in (0, 19, 20, 39)), i
        if i not in (0, 19, 20, 39):
            found = np.sort(np.unique(np.round(mask * 255)))
            assert (found.min(), found.max()) == (5 * (i - 1), 5 * (i + 1))


def test_the_readme_s_examples_of_motion_run(make_video, tmp_path, monkeypatch, capsys) -> None:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    make_video("drive.mp4", num=3)
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "runs" / "moving", MOVING)
    lines = [x for x in text.splitlines() if x.startswith("unienc infer") and "runs/moving" in x]
    assert len(lines) == 2
    for line in lines:
        words = line.replace("camera_height=1.5", "factor=9").split()  # it shows no ground
        assert run_cli(words[1:]) == 0, capsys.readouterr().err
    assert len(list((tmp_path / "moving" / "drive_unienc_ply").glob("*.ply"))) == 3
    assert (tmp_path / "movers" / "drive_unienc.jsonl").exists()
    (block,) = re.findall(r"```py\n(.*?)```", text, re.S)
    with VideoReader(tmp_path / "drive.mp4") as reader:
        names = {"unienc_core": unienc_core, "images": [frame.image for frame in reader]}
    exec(block, names)
    assert names["output"].own_flow(names["K"]).shape == (3, *SIZE)
