"""What each sink writes, read back with other tools; also what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from clip_toys import facts, make_result, motion_ahead

from unienc_core.geometry.camera import disparity_to_depth
from unienc_core.inference.moving import Moving
from unienc_core.inference.results import FrameResult
from unienc_core.inference.scene import Scene
from unienc_core.inference.seen import Seen
from unienc_core.inference.sinks import SINKS, sink_class
from unienc_core.inference.sinks.base import Sink
from unienc_core.inference.sinks.hdf5 import FLUSH_FRAMES
from unienc_core.inference.video import VideoReader
from unienc_core.presets import DepthSpec
from unienc_core.segmentation import Instance, Segment, Segmentation

SIZE = (24, 32)


def run(name: str, folder: Path, results: list[FrameResult], unit: str = "m") -> tuple[Sink, Path]:
    suffix = SINKS[name].suffix
    sink = SINKS[name](folder / f"clip{suffix}", facts(SIZE, unit))
    sink.open()
    for result in results:
        sink.write(result)
    sink.close()
    return sink, sink.finish()


def depth_of(disparity: float) -> float:
    spec = DepthSpec()
    return float(
        disparity_to_depth(
            np.array([disparity]).astype(np.float64), spec.min, spec.max, spec.convention
        )[0]
    )


def disparity_of(depth: float) -> float:
    """The inverse, by bisection: depth falls with disparity."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if depth_of(middle) > depth else (low, middle)
    return middle


def flat(depth: float) -> np.ndarray:
    return np.full((12, 16), disparity_of(depth), np.float32)


def test_png16_is_depth_times_256_in_metres(tmp_path) -> None:
    results = [make_result(3, flat(10.0), scale=2.0), make_result(4, flat(5.0), scale=None)]
    _, folder = run("png16", tmp_path, results)
    values = cv2.imread(str(folder / "000003.png"), cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16
    assert values.shape == SIZE
    assert np.abs(values.astype(int) - 20 * 256).max() <= 1
    assert not cv2.imread(str(folder / "000004.png"), cv2.IMREAD_UNCHANGED).any()  # unknown is 0
    about = json.loads((folder / "unienc.json").read_text())
    assert (about["unit"], about["png_scale"], about["num_frames"]) == ("m", 256.0, 2)


def test_png16_counts_what_does_not_fit(tmp_path) -> None:
    disparity = flat(50.0)
    disparity[:6] = disparity_of(20.0)
    results = [make_result(0, disparity, size=(12, 16), scale=10.0)]  # 500 and 200 m
    sink, folder = run("png16", tmp_path, results)
    values = cv2.imread(str(folder / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert (values[6:] == 65535).all()
    assert np.abs(values[:6].astype(int) - 200 * 256).max() <= 8
    assert sink.report() == {"saturated_pixels": 6 * 16, "coarse_pixels": 0}


@pytest.mark.parametrize(
    ("depth", "saturated", "coarse", "value"),
    [(1e-4, 1, 1, 1), (0.15, 0, 1, 38), (0.25, 0, 0, 64)],
)
def test_png16_counts_what_it_holds_only_roughly(tmp_path, depth, saturated, coarse, value) -> None:
    results = [make_result(0, flat(1.0), size=(12, 16), scale=depth)]
    sink, folder = run("png16", tmp_path, results)
    pixels = 12 * 16
    assert sink.report() == {
        "saturated_pixels": pixels * saturated, "coarse_pixels": pixels * coarse
    }  # fmt: skip
    assert (cv2.imread(str(folder / "000000.png"), cv2.IMREAD_UNCHANGED) == value).all()


def test_npz_holds_the_raw_arrays(tmp_path) -> None:
    motion = motion_ahead(1.5)
    results = [make_result(7, motion=motion, scale=2.0, name="left_7"), make_result(8, scale=None)]
    _, folder = run("npz", tmp_path, results)
    with np.load(folder / "left_7.npz") as arrays:
        assert set(arrays) == {"depth", "disparity", "T_previous_current"}
        np.testing.assert_array_equal(arrays["disparity"], results[0].output.disparity)
        np.testing.assert_array_equal(arrays["depth"], results[0].output.depth * 2)
        assert arrays["depth"].dtype == np.float32
        assert arrays["T_previous_current"][2, 3] == 3.0
    with np.load(folder / "000008.npz") as arrays:
        assert np.isnan(arrays["depth"]).all()
        assert np.isnan(arrays["T_previous_current"]).all()


def test_jsonl_is_one_line_a_frame(tmp_path) -> None:
    disparity = flat(10.0)
    disparity[:6] = disparity_of(40.0)
    results = [
        make_result(0, disparity, scale=2.0, num_lost=3, is_damaged=True),
        make_result(
            25,
            scale=None,
            motion=motion_ahead(1),
            scene=Scene(is_cut=True, is_black=False, is_start=True),
            path=Path("a\nb\udc80.png"),
        ),
        make_result(50, motion=motion_ahead(1), scale=0.5),
    ]
    _, path = run("jsonl", tmp_path, results)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 3
    assert lines[0]["depth"]["p25"] == pytest.approx(20, rel=1e-3)
    assert lines[0]["depth"]["p75"] == pytest.approx(80, rel=1e-3)
    assert (lines[0]["lost_before"], lines[0]["damaged"], lines[0]["file"]) == (3, True, "x")
    assert lines[0]["T_previous_current"] is None
    assert (lines[1]["cut"], lines[1]["depth"], lines[1]["scale"]) == (True, None, None)
    assert lines[1]["T_previous_current"] is None  # its length is not known
    assert lines[1]["file"] == "a\nb\udc80.png"
    assert (lines[2]["index"], lines[2]["pts"], lines[2]["time"]) == (50, 50, 2.0)
    assert lines[2]["T_previous_current"][2][3] == 0.5


def test_h5_grows_and_is_an_ordinary_file_at_the_end(tmp_path) -> None:
    results = [make_result(i, motion=motion_ahead(1) if i else None) for i in range(11)]
    results[5] = make_result(5, scale=None)
    _, path = run("h5", tmp_path, results)
    with h5py.File(path) as file:
        assert file["depth"].shape == (11, *SIZE)
        assert file["depth"].chunks == (1, *SIZE)
        np.testing.assert_array_equal(file["depth"][3], results[3].depth)
        assert np.isnan(file["depth"][5]).all()
        assert np.isnan(file["T_previous_current"][0]).all()
        np.testing.assert_array_equal(file["T_previous_current"][4], motion_ahead(1))
        np.testing.assert_array_equal(file["index"], np.arange(11))
        np.testing.assert_allclose(file["time"], np.arange(11) / 25)
        assert file.attrs["unit"] == "m"
        assert file.attrs["rate"] == "25"
        assert set(file) >= {"disparity", "scale", "pts", "lost_before", "cut", "black"}


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import numpy as np
from dataclasses import replace
from pathlib import Path
from clip_toys import facts, make_result
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.sinks import SINKS
folder = Path({folder!r})
sinks = [cls(folder / ("clip" + cls.suffix), facts((24, 32), "m")) for cls in SINKS.values()]
with Outputs(sinks) as outputs:
    for i in range(70):
        picture = np.random.default_rng(i).integers(0, 255, (96, 128, 3), dtype=np.uint8)
        outputs.write(replace(make_result(i), picture=picture))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_what_was_written(tmp_path) -> None:
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not any(p.name in {"clip.mp4", "clip.jsonl", "clip.h5"} for p in tmp_path.iterdir())
    with VideoReader(tmp_path / "clip.part.mp4") as reader:
        frames = list(reader)
        assert not reader.losses.num_damaged
    assert 40 <= len(frames) <= 70  # the encoder looks some frames ahead
    assert [frame.pts * reader.info.time_base * 25 for frame in frames] == list(range(len(frames)))
    lines = (tmp_path / "clip.part.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(70))
    with h5py.File(tmp_path / "clip.part.h5", "r", swmr=True) as file:
        whole = 70 - 70 % FLUSH_FRAMES
        assert {len(file[name]) for name in file} == {whole}
        np.testing.assert_array_equal(file["depth"][whole - 1], make_result(whole - 1).depth)
    for folder, suffix in (
        ("clip_depth.part", "png"),
        ("clip_npz.part", "npz"),
        ("clip_ply.part", "ply"),
    ):
        assert len(list((tmp_path / folder).glob(f"*.{suffix}"))) == 70


def test_a_fragmented_file_never_remembers_its_fragments(tmp_path) -> None:
    """No index of fragments is kept: it would grow for as long as the video lasts."""
    sink = SINKS["mp4"](tmp_path / "clip.mp4", facts(SIZE))
    sink.open()
    for i in range(5):
        sink.write(_with_picture(i))
    sink.close()
    data = sink.part.read_bytes()
    assert data.count(b"moof") == 5
    assert b"mfra" not in data
    whole = sink.finish().read_bytes()
    assert b"moof" not in whole
    assert whole.find(b"moov") < whole.find(b"mdat")


def _with_picture(index: int) -> FrameResult:
    result = make_result(index)
    return FrameResult(
        result.frame, result.output, 1.0, result.scene, np.full((24, 32, 3), 9 * index, np.uint8)
    )


def test_a_single_picture_becomes_a_picture(tmp_path) -> None:
    sink = sink_class("mp4", is_still=True)(tmp_path / "a.png", facts(SIZE))
    sink.open()
    sink.write(_with_picture(11))
    sink.close()
    assert (cv2.imread(str(sink.finish())) == 99).all()
    assert sink_class("jsonl", is_still=True) is SINKS["jsonl"]


def test_a_new_sink_is_one_class(tmp_path, monkeypatch) -> None:
    class CountSink(Sink):
        suffix = ".count"

        def open(self) -> None:
            self.num = 0

        def write(self, result: FrameResult) -> None:
            self.num += 1

        def close(self) -> None:
            self.part.write_text(str(self.num))

    monkeypatch.setitem(SINKS, "count", CountSink)
    assert run("count", tmp_path, [make_result()])[1].read_text() == "1"


def test_one_frame_has_the_same_bytes_in_every_run(tmp_path) -> None:
    for name in ("png16", "npz", "jsonl", "h5", "ply"):
        found = []
        for attempt in ("a", "b"):
            folder = tmp_path / name / attempt
            folder.mkdir(parents=True)
            _, path = run(name, folder, [make_result(i) for i in range(3)])
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            found.append([file.read_bytes() for file in files])
        assert found[0] == found[1], name


def test_film_times_are_fractions() -> None:
    assert facts().info.time_base == Fraction(1, 25)
    assert os.sep not in "".join(cls.suffix for cls in SINKS.values())


def with_segments(index: int = 0, scale: float | None = 1.0) -> FrameResult:
    """A road with a car, which an instance overlaps further up; no depth, and semantic classes."""
    ids, labels = np.full(SIZE, 7, np.int32), np.full(SIZE, 7, np.uint8)
    ids[4:10, 8:20] = 26003
    labels[:, 16:] = 23
    low, high = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    low[4:12, 8:20] = high[2:6, 8:20] = True
    segments = (Segment(7, 7, area=int((ids == 7).sum())), Segment(26003, 26, area=72))
    objects = (Instance(26, 0.91234, low, 26005), Instance(24, 0.8, high, 24001))
    found = Segmentation(ids, segments, labels, objects)
    plain = make_result(index, scale=scale)
    output = replace(plain.output, disparity=None)
    return replace(plain, output=output, seen=Seen.of(found, SIZE))


def test_jsonl_holds_segments_with_masks_of_coco(tmp_path) -> None:
    oracle = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    result = with_segments()
    _, path = run("jsonl", tmp_path, [result])
    line = json.loads(path.read_text())
    assert line["depth"] is None

    def masks(name: str) -> list[np.ndarray]:
        found = []
        for entry in line[name]:
            assert entry["mask"]["size"] == list(SIZE)
            packed = {"size": list(SIZE), "counts": entry["mask"]["counts"].encode()}
            found.append(oracle.decode(packed).astype(bool))
            assert entry["area"] == found[-1].sum()
        return found

    road, car = masks("segments")
    assert [(e["id"], e["label_id"], e["class"]) for e in line["segments"]] == [
        (7, 7, "road"), (26003, 26, "car")
    ]  # fmt: skip
    np.testing.assert_array_equal(car, result.seen.panoptic_ids == 26003)
    np.testing.assert_array_equal(road, ~car)
    assert {k: v for k, v in line["instances"][0].items() if k != "mask"} == {
        "id": 26005, "score": 0.9123, "bbox": [8, 4, 12, 8], "label_id": 26, "class": "car",
        "area": 96,
    }  # fmt: skip
    for mask, instance in zip(masks("instances"), result.seen.instances(SIZE), strict=True):
        np.testing.assert_array_equal(mask, instance.mask)
    assert [e["class"] for e in line["classes"]] == ["road", "sky"]
    np.testing.assert_array_equal(masks("classes")[1], result.seen.label_ids == 23)


@pytest.mark.parametrize("name", ["npz", "h5"])
def test_arrays_hold_maps_of_ids_and_nothing_that_was_not_asked_for(tmp_path, name) -> None:
    results = [with_segments(0), with_segments(1)]
    suffix = SINKS[name].suffix
    about = replace(facts(SIZE), outputs=("semantic", "instance", "panoptic"))
    sink = SINKS[name](tmp_path / f"clip{suffix}", about)
    sink.open()
    for result in results:
        sink.write(result)
    sink.close()
    if name == "npz":
        with np.load(sink.finish() / "000001.npz") as arrays:
            found = dict(arrays)
    else:
        with h5py.File(sink.finish()) as file:
            found = {key: data[1] for key, data in file.items()}
            assert file.attrs["instance_factor"] == 1000
            assert json.loads(file.attrs["classes"])["26"] == "car"
    assert not {"depth", "disparity"} & set(found)
    seen = results[1].seen
    for key, expected in (
        ("panoptic", seen.panoptic_ids),
        ("semantic", seen.label_ids),
        ("instance", seen.instance_ids()),
    ):
        assert found[key].dtype == expected.dtype
        np.testing.assert_array_equal(found[key], expected)
    assert (found["instance"][4:6, 8:20] == 26005).all()  # the surer one lies on top


@pytest.mark.parametrize(("is_timed", "speed"), [(True, 75.0), (False, None)])
def test_jsonl_tells_what_moves_and_how_fast_where_times_are_known(
    tmp_path, is_timed, speed
) -> None:
    about = replace(facts(SIZE, "m"), outputs=("flow", "mask"))
    about = replace(about, info=replace(about.info, is_timed=is_timed))
    moving = Moving(None, None, 0.04, 0.25, 1.5)
    sink = SINKS["jsonl"](tmp_path / "clip.jsonl", about)
    sink.open()
    for i, scale in enumerate((2.0, None)):
        sink.write(replace(make_result(i, scale=scale), moving=moving))
    sink.write(make_result(2))
    sink.close()
    found = [json.loads(line)["moving"] for line in sink.finish().read_text().splitlines()]
    assert found == [
        {"share": 0.25, "mean_own_flow": 3.0, "mean_speed": speed},
        {"share": 0.25, "mean_own_flow": None, "mean_speed": None},  # metres that are not known
        {"share": None, "mean_own_flow": None, "mean_speed": None},
    ]
