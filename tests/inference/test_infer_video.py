"""`infer-video` as a whole, on small videos with an untrained network."""

import json
import threading
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from clip_toys import write_video

from unienc_core.contracts import Progress, Reporter
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import DataError, Interrupted, PartialError, UsageError
from unienc_core.inference.frames import Frame, SourceInfo
from unienc_core.inference.video import VideoReader
from unienc_core.inference.video_writer import VideoWriter
from unienc_core.workflows.infer import VideoRequest, format_report, infer_video


def look(path: Path | str) -> tuple[SourceInfo, list[Frame]]:
    with VideoReader(Path(path)) as reader:
        return reader.info, list(reader)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_frame_comes_out_at_its_time(make_video, untrained_run, tmp_path) -> None:
    source, target = make_video(num=20, with_audio=True), tmp_path / "out.mp4"
    seen: list[Progress] = []
    said: list[str] = []
    report = infer_video(
        [source], out=target, checkpoint=untrained_run, reporter=Reporter(seen.append, said.append)
    )
    info, frames = look(target)
    assert info.rate == Fraction(24000, 1001)
    times = [frame.pts * info.time_base for frame in frames]
    assert times == [i * Fraction(1001, 24000) for i in range(20)]
    assert (info.width, info.height % 2) == (640, 0)  # 64 px wide is shown tenfold
    (video,) = report["videos"]
    assert video["frames_in"] == video["frames_out"] == video["frames_stated"] == 20
    assert (video["frames_lost"], video["gaps"], video["is_cut"]) == (0, [], False)
    assert video["rate"] == "24000/1001"
    assert video["depth_range"][0] < video["depth_range"][1]
    assert [(p.done, p.total) for p in seen] == [(i + 1, 20) for i in range(20)]
    assert video["K_origin"] == "assumed"
    assert any("assuming 60 degrees" in line for line in said)
    assert any("sound is dropped" in line for line in said)
    assert (video["audio"], info.has_audio) == ("dropped", False)
    assert set(video["timing"]) == {"decode", "compute", "draw", "encode"}
    assert str(target) in format_report(report)
    json.dumps(report, allow_nan=False)


def test_a_span_of_a_clip_in_all_forms(make_video, untrained_run, tmp_path) -> None:
    request = VideoRequest(
        sinks="mp4,png16,npz,h5,jsonl", start="0.25s", stop="20", stride=4, scale="factor=2"
    )
    report = infer_video(
        [make_video(num=30)], request=request, out=tmp_path, checkpoint=untrained_run
    )
    expected = [6, 10, 14, 18]
    info, frames = look(tmp_path / "clip_unienc.mp4")
    assert [frame.pts * info.time_base for frame in frames] == [
        (i - 6) * Fraction(1001, 24000) for i in expected
    ]
    records = lines(tmp_path / "clip_unienc.jsonl")
    assert [record["index"] for record in records] == expected
    assert {record["unit"] for record in records} == {"m"}
    assert [record["T_previous_current"] is None for record in records] == [True] + 3 * [False]
    with h5py.File(tmp_path / "clip_unienc.h5") as file:
        depth, motion = file["depth"][1], file["T_previous_current"][1]
        assert list(file["index"]) == expected
        assert np.isnan(file["T_previous_current"][0]).all()
    with np.load(tmp_path / "clip_unienc_npz" / "000010.npz") as arrays:
        np.testing.assert_array_equal(arrays["depth"], depth)
        np.testing.assert_array_equal(arrays["T_previous_current"], motion)
    assert motion.tolist() == records[1]["T_previous_current"]
    png = cv2.imread(str(tmp_path / "clip_unienc_depth" / "000010.png"), cv2.IMREAD_UNCHANGED)
    assert np.abs(png - depth.astype(np.float64) * 256).max() <= 0.51
    (video,) = report["videos"]
    assert (video["frames_out"], video["depth_unit"], video["saturated_pixels"]) == (4, "m", 0)
    assert video["scale"]["factor"] == 2
    half = VideoRequest(sinks="npz", start="6", stop="7")
    infer_video([tmp_path / "clip.mp4"], request=half, out=tmp_path / "b", checkpoint=untrained_run)
    with (
        np.load(tmp_path / "b" / "clip_unienc_npz" / "000006.npz") as plain,
        np.load(tmp_path / "clip_unienc_npz" / "000006.npz") as scaled,
    ):
        np.testing.assert_array_equal(scaled["depth"], 2 * plain["depth"])


def test_uneven_times_odd_sizes_and_single_frames(make_video, untrained_run, tmp_path) -> None:
    pts = [0, 40, 75, 200, 201, 350]
    odd = make_video("odd.mp4", num=6, size=(47, 63), pts=pts, time_base=Fraction(1, 1000))
    one = make_video("one.mp4", num=1)
    report = infer_video(
        [odd, one], request=VideoRequest(sinks="mp4,jsonl"), out=tmp_path, checkpoint=untrained_run
    )
    info, frames = look(tmp_path / "odd_unienc.mp4")
    assert [frame.pts * info.time_base * 1000 for frame in frames] == pts
    assert [r["time"] * 1000 for r in lines(tmp_path / "odd_unienc.jsonl")] == pts
    assert report["videos"][1]["frames_out"] == 1
    (record,) = lines(tmp_path / "one_unienc.jsonl")
    assert record["T_previous_current"] is None
    assert record["depth"]["p5"] > 0


def test_a_span_beyond_the_end_is_bad_data(make_video, untrained_run, tmp_path) -> None:
    source = make_video(num=5)
    with pytest.raises(DataError, match="no frame from --start to --stop"):
        infer_video(
            [source], request=VideoRequest(start="9"), out=tmp_path, checkpoint=untrained_run
        )
    assert list(tmp_path.iterdir()) == [source]


def test_a_cut_video_is_annotated_as_far_as_it_goes(make_video, untrained_run, tmp_path) -> None:
    source = make_video(num=40)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(PartialError, match="frames lost, the file is cut") as caught:
        infer_video([source], out=tmp_path / "out.mp4", checkpoint=untrained_run)
    (video,) = caught.value.report["videos"]
    assert caught.value.exit_code == 4
    assert video["frames_out"] == len(look(tmp_path / "out.mp4")[1])
    assert video["frames_out"] + video["frames_lost"] == 40
    assert video["gaps"] == [
        {"before": video["frames_out"], "time": video["gaps"][0]["time"],
         "num_lost": video["frames_lost"]}
    ]  # fmt: skip
    json.dumps(caught.value.report, allow_nan=False)


def test_a_hole_is_recorded_and_motion_begins_anew(make_video, untrained_run, tmp_path) -> None:
    source = make_video(num=40)
    data = bytearray(source.read_bytes())
    start = data.find(b"mdat") + len(data) // 3
    data[start : start + 4000] = bytes(4000)
    source.write_bytes(data)
    with pytest.raises(PartialError, match="frames lost") as caught:
        infer_video(
            [source], request=VideoRequest(sinks="jsonl"), out=tmp_path, checkpoint=untrained_run
        )
    (video,) = caught.value.report["videos"]
    (gap,) = video["gaps"]
    records = lines(tmp_path / "clip_unienc.jsonl")
    after = [r for r in records if r["lost_before"]]
    assert [(r["index"], r["lost_before"]) for r in after] == [(gap["before"], gap["num_lost"])]
    assert after[0]["T_previous_current"] is None
    assert not any(r["cut"] for r in records)
    # What follows the hole is patched up by the decoder, until a key frame comes (every sixth).
    damaged = [r["index"] for r in records if r["damaged"]]
    assert after[0]["index"] in damaged
    assert damaged == list(range(damaged[0], damaged[0] + len(damaged)))
    assert len(damaged) < 12 < damaged[-1] + 1 < len(records)
    assert video["frames_damaged"] == len(damaged)
    assert sum(r["T_previous_current"] is None for r in records) == 2


def test_a_scene_cut_and_black_frames_are_recorded(make_video, untrained_run, tmp_path) -> None:
    rng = np.random.default_rng(0)
    a, b = (
        rng.integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        for _ in range(2)
    )
    black = np.zeros_like(a)
    pictures = [a] * 6 + [b] * 6 + [black] * 2 + [b] * 3
    source = make_video(num=17, size=(96, 128), pictures=pictures)
    said: list[str] = []
    report = infer_video(
        [source],
        request=VideoRequest(sinks="mp4,jsonl"),
        out=tmp_path,
        checkpoint=untrained_run,
        reporter=Reporter(say=said.append),
    )
    (video,) = report["videos"]
    assert [cut["index"] for cut in video["scene_cuts"]] == [6]
    assert video["frames_black"] == 2
    records = lines(tmp_path / "clip_unienc.jsonl")
    assert [r["index"] for r in records if r["black"]] == [12, 13]
    unknown = [r["index"] for r in records if r["T_previous_current"] is None]
    assert unknown == [0, 6, 12, 13, 14]
    assert any("1 scene cut;" in line for line in said)


def test_metres_before_the_ground_is_seen_are_not_known(
    make_video, untrained_run, tmp_path, monkeypatch
) -> None:
    factors = iter([None, None, 3.0, None, 3.0])
    monkeypatch.setattr("unienc_core.inference.metric.scale_factor", lambda *_, **__: next(factors))
    said: list[str] = []
    report = infer_video(
        [make_video(num=5)],
        request=VideoRequest(sinks="mp4,jsonl,png16", scale="camera_height=1.5"),
        out=tmp_path,
        checkpoint=untrained_run,
        reporter=Reporter(say=said.append),
    )
    records = lines(tmp_path / "clip_unienc.jsonl")
    assert [r["scale"] for r in records] == [None, None, 3.0, 3.0, 3.0]
    assert [r["depth"] is None for r in records] == [True, True, False, False, False]
    empty = cv2.imread(str(tmp_path / "clip_unienc_depth" / "000001.png"), cv2.IMREAD_UNCHANGED)
    assert not empty.any()
    scale = report["videos"][0]["scale"]
    assert scale == {"factor": 3.0, "frames_without_plane": 3, "frames_unscaled": 2}
    assert any("no ground was seen before frame 2" in line for line in said)
    assert any("1 frame without ground, scaled like those before" in line for line in said)


def test_a_bad_video_does_not_stop_the_others(make_video, untrained_run, tmp_path) -> None:
    good, bad = make_video("good.mp4", num=3), tmp_path / "bad.mp4"
    bad.write_text("no video")
    with pytest.raises(PartialError, match="bad.mp4") as caught:
        infer_video([bad, good], out=tmp_path / "o", checkpoint=untrained_run)
    assert len(look(tmp_path / "o" / "good_unienc.mp4")[1]) == 3
    assert caught.value.report["failures"][0]["input"] == str(bad)
    said: list[str] = []
    for both in (tmp_path, tmp_path / "*d.mp4"):
        with pytest.raises(PartialError, match="bad.mp4"):
            infer_video(
                [both],
                out=tmp_path / "o",
                checkpoint=untrained_run,
                force=True,
                reporter=Reporter(say=said.append),
            )
    assert sum(line.startswith("skipped: ") and "bad.mp4" in line for line in said) == 2
    with pytest.raises(DataError, match=r"bad\.mp4.*worse\.mp4"):
        infer_video([bad, tmp_path / "worse.mp4"], out=tmp_path / "o", checkpoint=untrained_run)


def test_ctrl_c_says_what_is_left(make_video, untrained_run, tmp_path, monkeypatch) -> None:
    write = VideoWriter.write

    def interrupt(self, image, pts) -> None:
        if self.num_frames == 5:
            raise KeyboardInterrupt
        write(self, image, pts)

    source, threads = make_video(num=30), threading.active_count()
    monkeypatch.setattr(VideoWriter, "write", interrupt)
    with pytest.raises(Interrupted, match=r"after 5 frames.*o\.part\.mp4") as caught:
        infer_video([source], out=tmp_path / "o.mp4", checkpoint=untrained_run)
    assert caught.value.exit_code == 130
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "o.part.mp4"}
    assert len(look(tmp_path / "o.part.mp4")[1]) == 5
    assert threading.active_count() <= threads


def write_store(folder: Path) -> Path:
    size = (32, 64)
    spec = StoreSpec.model_validate(
        {
            "source": "fake", "split": "test", "image_size": size, "fps": 17.0, "seed": 0,
            "keys": standard_keys("image", "K"),
        }
    )  # fmt: skip
    K = np.array([[50.0, 0, 31.5], [0, 50, 15.5], [0, 0, 1]])
    with StoreWriter(folder, spec) as writer:
        for name, num in (("first", 5), ("second", 7)):
            images = [np.full((*size, 3), 20 * i, np.uint8) for i in range(num)]
            writer.add_drive(name, ({"image": image, "K": K} for image in images))
    return folder


def test_a_drive_of_a_store_is_a_video_too(untrained_run, tmp_path) -> None:
    store = write_store(tmp_path / "city" / "test")
    report = infer_video([store], out=tmp_path / "a.mp4", checkpoint=untrained_run)
    info, frames = look(tmp_path / "a.mp4")
    assert (info.rate, len(frames)) == (17, 5)
    assert report["videos"][0]["K_origin"] == "store"
    assert report["videos"][0]["K"][0][0] == 50
    second = VideoRequest(drive="second")
    report = infer_video(
        [tmp_path / "city"], request=second, out=tmp_path, checkpoint=untrained_run
    )
    assert report["videos"][0]["frames_out"] == 7
    assert (tmp_path / "second_unienc.mp4").exists()
    with pytest.raises(UsageError, match="did you mean 'second'"):
        infer_video([store], request=VideoRequest(drive="secnd"), checkpoint=untrained_run)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rate", "width"),
    [("mu_driving", Fraction(24000, 1001), 640), ("solidWhiteRight", Fraction(25), 960)],
)
def test_real_clips(real_data, untrained_run, tmp_path, name, rate, width) -> None:
    with VideoReader(real_data / "video" / f"{name}.mp4") as whole:
        assert whole.info.rate == rate
        assert whole.info.has_audio
        first = ((frame.image, frame.pts) for frame in islice(whole, 12))
        clip = write_video(tmp_path / f"{name}.mp4", first, rate, whole.info.time_base)
    report = infer_video([clip], out=tmp_path / "out.mp4", checkpoint=untrained_run)
    info, frames = look(tmp_path / "out.mp4")
    assert len(frames) == report["videos"][0]["frames_in"] == 12
    assert info.rate == rate
    assert info.width == width
    assert [f.pts * info.time_base * rate for f in frames] == list(range(12))
    header = frames[0].image[:10]
    assert header.mean() < 60  # the strip is dark, the sky below it is not
    assert frames[0].image[60:120, :200].mean() > 60
