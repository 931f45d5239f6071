"""`infer-video` as a whole, on small videos with an untrained network."""

import json
import threading
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from unienc_core.checkpoint import save_checkpoint
from unienc_core.contracts import Progress, Reporter
from unienc_core.data.keys import standard_keys
from unienc_core.data.manifest import StoreSpec
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import (
    CheckpointError,
    DataError,
    PartialError,
    ResourceError,
    StoreError,
    UsageError,
    VideoError,
)
from unienc_core.inference.annotate import NUM_RANGE_FRAMES, Annotator
from unienc_core.inference.frames import MAX_GAPS, Frame, Losses, SourceInfo
from unienc_core.inference.overlays import DepthRange, draw_legend
from unienc_core.inference.predictor import FrameOutput
from unienc_core.inference.stream import ahead
from unienc_core.inference.video import VideoReader
from unienc_core.inference.video_writer import VideoWriter
from unienc_core.models.network import build_network
from unienc_core.presets import DepthSpec, load_preset
from unienc_core.workflows.infer import format_report, infer_video

PRESET = load_preset("unified-tiny")
K_TRAINED = [[200.0, 0, 159.5], [0, 200.0, 47.5], [0, 0, 1]]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save(folder / "checkpoints")
    return folder


def save(folder: Path, **state: object) -> Path:
    weights = build_network(PRESET).state_dict()
    return save_checkpoint(
        folder, preset=PRESET, model=weights, optimizer={}, state={"step": 3, **state}
    )


def look(path: Path | str) -> tuple[SourceInfo, list[Frame]]:
    with VideoReader(Path(path)) as reader:
        return reader.info, list(reader)


def test_every_frame_comes_out_at_its_time(make_video, run, tmp_path) -> None:
    source, target = make_video(num=20), tmp_path / "out.mp4"
    seen: list[Progress] = []
    said: list[str] = []
    report = infer_video(
        [source], out=target, checkpoint=run, reporter=Reporter(seen.append, said.append)
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
    assert str(target) in format_report(report)
    json.dumps(report, allow_nan=False)


def test_the_colour_scale_is_fixed_over_the_clip() -> None:
    """The same depth has the same colour in the first and last frame, whatever else changes."""
    info = SourceInfo(Path("x"), "x", 96, 320, Fraction(10), Fraction(1, 10), None)

    def results() -> Iterator[tuple[Frame, FrameOutput]]:
        for i in range(NUM_RANGE_FRAMES + 4):
            disparity = np.linspace(0.01, 0.2 + 0.02 * i, 48 * 160, dtype=np.float32)
            disparity = disparity.reshape(48, 160)
            disparity[20:28, :] = 0.1
            output = FrameOutput(disparity, DepthSpec(), (96, 320), None)
            yield Frame(np.zeros((96, 320, 3), np.uint8), i, i, i / 10), output

    annotator = Annotator(info, "t")
    drawn = [picture for picture, _ in annotator.draw(results())]
    assert len(drawn) == NUM_RANGE_FRAMES + 4
    legend = draw_legend(640, DepthRange(1, 2), "").shape[0]
    middle = drawn[0].shape[0] - legend - 192 // 2  # of the depth, which stands above it
    band = [picture[middle - 2 : middle + 2, 320] for picture in drawn]
    assert all((b == band[0]).all() for b in band)
    assert (drawn[0] != drawn[-1]).any()


def test_names_and_places_of_outputs(make_video, run, tmp_path, monkeypatch) -> None:
    a, b = make_video("a.mp4", num=2), make_video("b.mp4", num=2)
    monkeypatch.chdir(tmp_path)
    infer_video([Path("a.mp4")], checkpoint=run)
    assert (tmp_path / "a_unienc.mp4").exists()
    infer_video([a, b], out=Path("new/folder"), checkpoint=run)
    assert {p.name for p in (tmp_path / "new/folder").iterdir()} == {
        "a_unienc.mp4",
        "b_unienc.mp4",
    }


def test_requests_that_make_no_sense(make_video, run, tmp_path) -> None:
    a, b = make_video("a.mp4", num=2), make_video("b.mp4", num=2)
    taken = make_video("taken.mp4", num=2)
    for inputs, options, message in [
        ([], {}, "at least one"),
        ([a], {"out": taken}, "exists; --force"),
        ([a], {"out": a, "force": True}, "the input itself"),
        ([a], {"out": tmp_path / "x.avi"}, "written as .mp4"),
        ([a, b], {"out": tmp_path / "x.mp4"}, "need a folder"),
        ([a, a], {"out": tmp_path / "o"}, "would both become"),
        ([a], {"drive": "d"}, "--drive is for stores"),
        ([a], {"fov": 60.0, "intrinsics": "1,1,1,1"}, "not both"),
        ([a], {"intrinsics": "1,2,3"}, "FX,FY,CX,CY"),
        ([a], {"intrinsics": "0,1,3,3"}, "focal lengths"),
        ([a], {"intrinsics": "50,50,500,20"}, "outside the 64x48 image"),
        ([a], {"fov": 200.0}, "between 0 and 180"),
        ([a], {"out": tmp_path / "x.mp4", "device": "cuda:99"}, "cuda:99"),
    ]:
        with pytest.raises(UsageError, match=message):
            infer_video(inputs, **{"checkpoint": run, "device": "cpu", **options})
    assert not (tmp_path / "o").exists()
    infer_video([a], out=taken, checkpoint=run, force=True)
    assert look(taken)[0].width == 640


def test_inputs_come_before_the_checkpoint(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIENC_CHECKPOINT", raising=False)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "folder").mkdir()
    for name, error in [
        ("none.mp4", VideoError),
        ("text.mp4", VideoError),
        ("folder", StoreError),
        ("x" * 300 + ".mp4", DataError),
    ]:
        with pytest.raises(error, match=name) as caught:
            infer_video([Path(name)])
        assert caught.value.exit_code == 3


def test_no_checkpoint_and_a_broken_one(make_video, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIENC_CHECKPOINT", raising=False)
    source = make_video(num=2)
    with pytest.raises(UsageError, match="no checkpoint"):
        infer_video([source])
    path = save(tmp_path / "broken")
    (path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError):
        infer_video([source], checkpoint=path)
    assert not (tmp_path / "clip_unienc.mp4").exists()


def test_a_cut_video_is_annotated_as_far_as_it_goes(make_video, run, tmp_path) -> None:
    source = make_video(num=40)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(PartialError, match="frames lost, the file is cut") as caught:
        infer_video([source], out=tmp_path / "out.mp4", checkpoint=run)
    (video,) = caught.value.report["videos"]
    assert caught.value.exit_code == 4
    assert video["frames_out"] == len(look(tmp_path / "out.mp4")[1])
    assert video["frames_out"] + video["frames_lost"] == 40
    assert video["gaps"] == [
        {"before": video["frames_out"], "time": video["gaps"][0]["time"],
         "num_lost": video["frames_lost"]}
    ]  # fmt: skip
    json.dumps(caught.value.report, allow_nan=False)


def test_a_bad_video_does_not_stop_the_others(make_video, run, tmp_path) -> None:
    good, bad = make_video("good.mp4", num=3), tmp_path / "bad.mp4"
    bad.write_text("no video")
    with pytest.raises(PartialError, match="bad.mp4") as caught:
        infer_video([bad, good], out=tmp_path / "o", checkpoint=run)
    assert len(look(tmp_path / "o" / "good_unienc.mp4")[1]) == 3
    assert caught.value.report["failures"][0]["input"] == str(bad)
    with pytest.raises(DataError, match=r"bad\.mp4.*worse\.mp4"):
        infer_video([bad, tmp_path / "worse.mp4"], out=tmp_path / "o", checkpoint=run)


def test_an_unwritable_place_is_found_before_any_work(make_video, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written"):
        infer_video([make_video(num=2)], out=tmp_path / "file" / "o.mp4")


def test_a_dry_run_writes_nothing(make_video, run, tmp_path) -> None:
    source = make_video(num=2)
    before = set(tmp_path.iterdir())
    report = infer_video([source], out=tmp_path / "o", checkpoint=run, dry_run=True)
    assert report["videos"][0]["output"] == str(tmp_path / "o" / "clip_unienc.mp4")
    assert set(tmp_path.iterdir()) == before
    assert "would become" in format_report(report)


def test_an_error_in_the_middle_leaves_no_file_and_no_thread(
    make_video, run, tmp_path, monkeypatch
) -> None:
    def fail(self, image, pts) -> None:
        raise KeyboardInterrupt

    source = make_video(num=30)
    threads = threading.active_count()
    monkeypatch.setattr(VideoWriter, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        infer_video([source], out=tmp_path / "o.mp4", checkpoint=run)
    assert list(tmp_path.iterdir()) == [source]
    assert threading.active_count() <= threads


@pytest.mark.parametrize(
    ("options", "origin", "fx"),
    [
        ({"intrinsics": "70,71,31,23"}, "given", 70.0),
        ({"fov": 90.0}, "fov", 32.0),
        ({}, "checkpoint", 40.0),  # 200 px of 320 are 40 of 64
    ],
)
def test_intrinsics_say_where_they_come_from(make_video, tmp_path, options, origin, fx) -> None:
    trained = save(tmp_path / "ck", K=K_TRAINED)
    report = infer_video([make_video(num=1)], checkpoint=trained, dry_run=True, **options)
    video = report["videos"][0]
    assert video["K_origin"] == origin
    assert video["K"][0][0] == pytest.approx(fx)


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


def test_a_drive_of_a_store_is_a_video_too(run, tmp_path) -> None:
    store = write_store(tmp_path / "city" / "test")
    report = infer_video([store], out=tmp_path / "a.mp4", checkpoint=run)
    info, frames = look(tmp_path / "a.mp4")
    assert (info.rate, len(frames)) == (17, 5)
    assert report["videos"][0]["K_origin"] == "store"
    assert report["videos"][0]["K"][0][0] == 50
    report = infer_video([tmp_path / "city"], out=tmp_path, checkpoint=run, drive="second")
    assert report["videos"][0]["frames_out"] == 7
    assert (tmp_path / "second_unienc.mp4").exists()
    with pytest.raises(UsageError, match="did you mean 'second'"):
        infer_video([store], checkpoint=run, drive="seconds")


def test_memory_stays_flat(tmp_path) -> None:
    """Six times the frames take the same memory: decode, compute, draw and encode."""
    info = SourceInfo(Path("x"), "x", 96, 320, Fraction(25), Fraction(1, 25), None)

    def peak(num: int) -> int:
        def source() -> Iterator[Frame]:
            for i in range(num):
                yield Frame(np.full((96, 320, 3), i % 256, np.uint8), i, i, i / 25)

        def compute() -> Iterator[tuple[Frame, FrameOutput]]:
            for frame in ahead(source()):
                disparity = np.full((48, 160), 0.1 + 0.001 * (frame.index % 9), np.float32)
                disparity[:24] = 0.3
                motion = np.eye(4)
                motion[2, 3] = 1.0
                yield frame, FrameOutput(disparity, DepthSpec(), (96, 320), motion)

        tracemalloc.start()
        with VideoWriter(tmp_path / f"{num}.mp4", info.rate, info.time_base) as writer:
            for picture, pts in Annotator(info, "t").draw(ahead(compute())):
                writer.write(picture, pts)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert writer.num_frames == num
        return most

    peak(20)  # what is allocated once
    assert peak(360) < 1.15 * peak(60)


def test_countless_gaps_do_not_fill_the_memory() -> None:
    losses = Losses()
    for i in range(3 * MAX_GAPS):
        losses.add(2 * i, i / 25)
    assert losses.num_lost == 3 * MAX_GAPS
    assert len(losses.gaps) == MAX_GAPS
    losses = Losses()
    losses.add(5, 0.2)
    losses.add(5, 0.4, 3)
    assert [(g.before, g.time, g.num_lost) for g in losses.gaps] == [(5, 0.2, 4)]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rate", "width"),
    [("mu_driving", Fraction(24000, 1001), 640), ("solidWhiteRight", Fraction(25), 960)],
)
def test_real_clips(real_data, run, tmp_path, name, rate, width) -> None:
    clip = tmp_path / f"{name}.mp4"
    with VideoReader(real_data / "video" / f"{name}.mp4") as whole:
        assert whole.info.rate == rate
        with VideoWriter(clip, rate, whole.info.time_base) as part:
            for frame in islice(whole, 20):
                part.write(frame.image, frame.pts)
    report = infer_video([clip], out=tmp_path / "out.mp4", checkpoint=run)
    info, frames = look(tmp_path / "out.mp4")
    assert len(frames) == report["videos"][0]["frames_in"] == 20
    assert info.rate == rate
    assert info.width == width
    assert [f.pts * info.time_base * rate for f in frames] == list(range(20))
    header = frames[0].image[:10]
    assert header.mean() < 60  # the strip is dark, the sky below it is not
    assert frames[0].image[60:120, :200].mean() > 60
