"""`infer-video`: requests that make no sense, names of outputs, and dry runs."""

from pathlib import Path

import pytest
from untrained import save_untrained

from unienc_core.errors import (
    CheckpointError,
    DataError,
    PartialError,
    ResourceError,
    UsageError,
    VideoError,
)
from unienc_core.inference.video import VideoReader
from unienc_core.workflows.infer import VideoRequest, format_report, infer_video

K_TRAINED = [[200.0, 0, 159.5], [0, 200.0, 47.5], [0, 0, 1]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"fov": 60.0, "intrinsics": "1,1,1,1"}, "not both"),
        ({"intrinsics": "1,2,3"}, "FX,FY,CX,CY"),
        ({"intrinsics": "0,1,3,3"}, "focal lengths"),
        ({"intrinsics": "50,50,500,20"}, "outside the 64x48 image"),
        ({"fov": 200.0}, "between 0 and 180"),
        ({"drive": "d"}, "--drive is for stores"),
        ({"sinks": "mp4,jsnl"}, r"'jsnl': none of mp4, .*did you mean 'jsonl'"),
        ({"sinks": ""}, "--sink '': none of"),
        ({"start": "soon"}, "--start 'soon': expected a frame number"),
        ({"start": "9", "stop": "3"}, "--stop must lie after"),
        ({"stride": 0}, "--stride 0"),
        ({"scale": "median"}, "no ground truth in a video"),
        ({"scale": "camera_height=-1"}, "above 0"),
        ({"scale": "camera_height=store"}, "camera_height"),
        ({"fps": "10"}, "--fps is for pictures"),
    ],
)
def test_words_that_make_no_sense(make_video, tmp_path, words, message) -> None:
    source = make_video(num=2)
    with pytest.raises(UsageError, match=message):
        infer_video([source], request=VideoRequest(**words), out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_outputs_that_make_no_sense(make_video, untrained_run, tmp_path) -> None:
    a, b = make_video("a.mp4", num=2), make_video("b.mp4", num=2)
    taken = make_video("taken.mp4", num=2)
    (tmp_path / "x_depth").mkdir()
    (tmp_path / "x_depth" / "thesis.txt").write_text("mine")
    depth = VideoRequest(sinks="png16")
    for inputs, options, message in [
        ([a], {"out": taken}, "exists; --force"),
        ([a], {"out": a, "force": True}, "the input itself"),
        ([a], {"out": tmp_path / "x.avi"}, r"written as \.mp4"),
        ([a, b], {"out": tmp_path / "x.mp4"}, "need a folder"),
        ([a, a], {"out": tmp_path / "o"}, "would both become"),
        ([a], {"out": tmp_path / ("x" * 300)}, "too long"),
        ([a], {"out": tmp_path / ("x" * 300 + ".mp4")}, "too long"),
        ([a], {"out": tmp_path / "x.mp4", "force": True, "request": depth}, "did not make"),
        ([a], {"out": tmp_path / "x.mp4", "device": "cuda:99"}, "cuda:99"),
    ]:
        with pytest.raises(UsageError, match=message):
            infer_video(inputs, **{"checkpoint": untrained_run, "device": "cpu", **options})
    assert not (tmp_path / "o").exists()
    infer_video([a], out=taken, checkpoint=untrained_run, force=True)
    with VideoReader(taken) as reader:
        assert reader.info.width == 640


def test_names_and_places_of_outputs(make_video, untrained_run, tmp_path, monkeypatch) -> None:
    make_video("a.mp4", num=2)
    b = make_video("b.mp4", num=2)
    monkeypatch.chdir(tmp_path)
    infer_video(["a.mp4"], checkpoint=untrained_run)
    assert (tmp_path / "a_unienc.mp4").exists()
    everything = VideoRequest(sinks="jsonl,mp4,png16,npz,h5,jsonl,ply")
    report = infer_video(
        ["a.mp4", b], request=everything, out=Path("new/folder"), checkpoint=untrained_run
    )
    expected = {f"{n}_unienc{end}" for n in "ab" for end in (".mp4", ".jsonl", ".h5")}
    expected |= {f"{n}_unienc_{kind}" for n in "ab" for kind in ("depth", "npz", "ply")}
    assert {p.name for p in (tmp_path / "new/folder").iterdir()} == expected
    assert {Path(p) for v in report["videos"] for p in v["outputs"].values()} == {
        Path("new/folder") / name for name in expected
    }
    infer_video(["a.mp4"], request=everything, out=Path("c.mp4"), checkpoint=untrained_run)
    assert all((tmp_path / f"c{end}").exists() for end in (".mp4", ".h5", "_depth", "_npz"))


def test_inputs_come_before_the_checkpoint(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIENC_CHECKPOINT", raising=False)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "folder").mkdir()
    for name in ("none.mp4", "text.mp4", "folder"):
        with pytest.raises(VideoError, match=name) as caught:
            infer_video([name])
        assert caught.value.exit_code == 3


def test_no_checkpoint_and_a_broken_one(make_video, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNIENC_CHECKPOINT", raising=False)
    source = make_video(num=2)
    with pytest.raises(UsageError, match="no checkpoint"):
        infer_video([source])
    path = save_untrained(tmp_path / "broken")
    (path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError):
        infer_video([source], checkpoint=path)
    assert not (tmp_path / "clip_unienc.mp4").exists()


def test_an_unwritable_place_is_found_before_any_work(make_video, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written"):
        infer_video([make_video(num=2)], out=tmp_path / "file" / "o.mp4")


def test_a_dry_run_writes_nothing(make_video, untrained_run, tmp_path) -> None:
    source = make_video(num=2)
    before = set(tmp_path.iterdir())
    report = infer_video([source], out=tmp_path / "o", checkpoint=untrained_run, dry_run=True)
    assert report["videos"][0]["outputs"] == {"mp4": str(tmp_path / "o" / "clip_unienc.mp4")}
    assert set(tmp_path.iterdir()) == before
    assert "would become" in format_report(report)


def test_a_dry_run_fails_where_the_run_would(make_video, untrained_run, tmp_path) -> None:
    source = make_video(num=40)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(PartialError, match="cut before its end") as caught:
        infer_video([source], checkpoint=untrained_run, dry_run=True)
    (video,) = caught.value.report["videos"]
    assert video["is_cut"]
    assert 10 < video["frames_lost"] < 30
    early = VideoRequest(stop="5")  # which ends before the damage
    infer_video([source], request=early, checkpoint=untrained_run, dry_run=True)
    with pytest.raises(DataError):
        infer_video([tmp_path / "none.mp4"], checkpoint=untrained_run, dry_run=True)


@pytest.mark.parametrize(
    ("words", "origin", "fx", "fy"),
    [
        ({"intrinsics": "70,71,31,23"}, "given", 70.0, 71.0),
        ({"fov": 90.0}, "fov", 32.0, 32.0),
        ({}, "checkpoint", 40.0, 40.0),  # 200 px of 320 are 40 of 64, and pixels stay square
    ],
)
def test_intrinsics_say_where_they_come_from(make_video, tmp_path, words, origin, fx, fy) -> None:
    trained = save_untrained(tmp_path / "ck", K=K_TRAINED)
    request = VideoRequest(**words)
    report = infer_video([make_video(num=1)], request=request, checkpoint=trained, dry_run=True)
    video = report["videos"][0]
    assert video["K_origin"] == origin
    assert (video["K"][0][0], video["K"][1][1]) == pytest.approx((fx, fy))
