"""`prepare-data video`: where drives end, what is stored of them, kills, refusals, bad clips."""

import json

import numpy as np
import pytest
from wall_clips import SIZE, slide, write_clip

from unienc_cli.main import run
from unienc_core.contracts import Reporter
from unienc_core.data.store import Store
from unienc_core.errors import DataError, PartialError, StoreError, UsageError
from unienc_core.geometry.camera import K_from_fov
from unienc_core.workflows import prepare_video as module
from unienc_core.workflows.inspect_data import describe_store, format_description
from unienc_core.workflows.intrinsics import CameraRequest
from unienc_core.workflows.prepare_video import prepare_video
from unienc_core.workflows.video_report import format_report
from unienc_core.workflows.video_request import VideoRequest, parse_crop, parse_shares

GAP = VideoRequest(gap=1)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def drives(out, split):
    store = Store(out / split)
    return [
        (drive.attrs["first_frame"], drive.num_frames, store.column(i, "timestamp"))
        for i, drive in enumerate(store.drives)
    ]


@pytest.fixture
def film(tmp_path):
    """Two scenes of 30 and 50 frames; in the second the camera stands for 20 frames."""
    second = slide(1, 30)
    return write_clip(
        tmp_path / "film.mp4", slide(0, 30) + second[:10] + [second[9]] * 20 + second[10:]
    )


def test_drives_end_at_cuts_and_stops_and_the_tail_is_held_out(film, tmp_path):
    said = []
    out = tmp_path / "out"
    report = prepare_video([film], out, GAP, reporter=Reporter(say=said.append))
    clip = report["clips"][0]
    assert (clip["num_frames"], clip["num_cuts"], clip["num_gaps"]) == (80, 1, 0)
    assert clip["num_standing"] == 19
    # 30 + 10 + 21 frames move; four fifths of them, in order of time, are for training.
    train, val = drives(out, "train"), drives(out, "val")
    assert [(first, count) for first, count, _ in train] == [(0, 30), (30, 10), (59, 9)]
    assert [(first, count) for first, count, _ in val] == [(68, 12)]
    for first, count, times in (*train, *val):
        assert times == pytest.approx(np.arange(first, first + count) / 25)
    assert any("assumed" in line for line in said)
    assert any("1 scene cuts, 19 frames of a standing camera" in line for line in said)


def test_what_is_stored_can_be_shown_and_is_the_clip(film, tmp_path):
    out = tmp_path / "out"
    pictures = slide(0, 30)
    report = prepare_video([film], out, VideoRequest(camera=CameraRequest(fov=70.0), gap=2))
    store = Store(out / "train")
    frame = store.frame(0, 7, ("image", "K"))
    assert np.abs(frame["image"].astype(int) - pictures[7]).mean() < 6
    assert frame["K"] == pytest.approx(K_from_fov(70, *SIZE).double().numpy(), abs=1e-4)
    assert (store.gap, store.fps, store.image_size) == (2, 25.0, SIZE)
    assert all(2 <= frame < 28 for drive, frame in store.triplets() if drive == 0)
    described = describe_store(out)
    assert "2 drives" in format_description(described) or described["stores"]
    assert "gap 2 at 25 Hz, 0.08 s" in format_report(report)


def test_bars_and_crop_move_the_intrinsics(tmp_path):
    pictures = [np.pad(p, ((16, 16), (0, 0), (0, 0))) for p in slide(0, 20)]
    clip = write_clip(tmp_path / "bars.mp4", pictures)
    camera = CameraRequest(K=(130.0, 130.0, 80.0, 64.0))
    request = VideoRequest(camera=camera, crop=(10, 0, 0, 40), image_size=(70, 150), gap=1)
    report = prepare_video([clip], tmp_path / "out", request)
    found = report["clips"][0]
    assert found["bars"] == [0, 18, 0, 18]
    assert found["window"] == [10, 18, 160, 88]
    assert found["K"] == [[130, 0, 70], [0, 130, 46], [0, 0, 1]]
    assert Store(tmp_path / "out" / "train").image_size == (70, 150)


def test_faster_clips_are_thinned_and_times_are_kept(tmp_path):
    slow = write_clip(tmp_path / "slow.mp4", slide(0, 24), rate=20)
    fast = write_clip(tmp_path / "fast.mp4", slide(1, 50, 1.0), rate=60)
    report = prepare_video([slow, fast], tmp_path / "out", VideoRequest())
    assert (report["fps"], report["gap"]) == (20.0, 2)
    assert [clip["stride"] for clip in report["clips"]] == [1, 3]
    times = drives(tmp_path / "out", "train")[1][2]
    assert times == pytest.approx(np.arange(len(times)) / 20)


def test_a_variable_rate_keeps_its_times_and_a_pause_ends_the_drive(tmp_path):
    steps = [40, 33, 47, 40, 40, 80, 33, 40, 40, 40] * 3
    times = np.cumsum([0, *steps])[:30]
    times[20:] += 2000
    clip = write_clip(tmp_path / "phone.mp4", slide(0, 30), milliseconds=times.tolist())
    request = VideoRequest(gap=1, shares={"train": 1.0})
    report = prepare_video([clip], tmp_path / "out", request)
    assert report["clips"][0]["num_gaps"] == 1
    found = drives(tmp_path / "out", "train")
    assert [(first, count) for first, count, _ in found] == [(0, 20), (20, 10)]
    assert np.concatenate([t for _, _, t in found]) == pytest.approx(times / 1000)


def test_damage_in_the_middle_cuts_the_drive_there(film, tmp_path):
    whole = film.read_bytes()
    middle = len(whole) // 3
    film.write_bytes(whole[:middle] + bytes(3000) + whole[middle + 3000 :])
    report = prepare_video([film], tmp_path / "out", GAP)
    clip = report["clips"][0]
    assert clip["num_gaps"] > 0
    assert clip["num_lost"] > 0
    for split in ("train", "val"):
        for _, _, times in drives(tmp_path / "out", split):
            assert np.diff(times).max() < 0.09  # no triplet bridges what was lost


def test_a_repeated_call_does_nothing_and_an_interrupted_one_goes_on(film, tmp_path, monkeypatch):
    out, other = tmp_path / "out", tmp_path / "other"
    prepare_video([film], out, GAP)
    whole = contents(out)
    assert prepare_video([film], out, GAP)["written"] == 0
    assert contents(out) == whole

    real, calls = module.drive_frames, []

    def killed_at_the_third(clip, run_, view):
        calls.append(run_)
        if len(calls) == 3:
            raise MemoryError
        return real(clip, run_, view)

    monkeypatch.setattr(module, "drive_frames", killed_at_the_third)
    with pytest.raises(MemoryError):
        prepare_video([film], other, GAP)
    with pytest.raises(StoreError, match="unfinished"):
        Store(other / "train")
    monkeypatch.undo()
    report = prepare_video([film], other, GAP)
    assert report["written"] == 9 + 12  # two drives were there already
    assert contents(other) == whole


def test_other_settings_are_refused_unless_forced(film, tmp_path):
    prepare_video([film], tmp_path / "out", GAP)
    other = VideoRequest(gap=1, image_size=(48, 80))
    for dry_run in (True, False):
        with pytest.raises(UsageError, match="holds another store.*--force"):
            prepare_video([film], tmp_path / "out", other, dry_run=dry_run)
    prepare_video([film], tmp_path / "out", other, force=True)
    assert Store(tmp_path / "out" / "train").image_size == (48, 80)


def test_a_dry_run_writes_nothing(film, tmp_path):
    report = prepare_video([film], tmp_path / "out", GAP, dry_run=True)
    assert report["dry_run"]
    assert report["clips"][0]["fps"] == 25.0
    assert not (tmp_path / "out").exists()


def test_a_bad_clip_does_not_stop_the_others(film, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all")
    still = write_clip(tmp_path / "still.mp4", slide(0, 1) * 20)
    tiny = write_clip(tmp_path / "tiny.mp4", [p[:16, :16] for p in slide(0, 20)])
    out = tmp_path / "out"
    with pytest.raises(PartialError, match="3 of 4 clips") as caught:
        prepare_video([broken, tiny, film, still], out, GAP)
    assert caught.value.report is not None
    failed = {entry["path"]: entry["error"] for entry in caught.value.report["failed"]}
    assert "20 of them standing" in failed[str(still)]
    assert "is 16x16 px, at least 32 are needed" in failed[str(tiny)]
    assert str(broken) in failed
    assert len(Store(out / "train").drives) == 3
    with pytest.raises(DataError, match="none of 2 clips"):
        prepare_video([broken, still], tmp_path / "none", GAP)

    command = ["prepare-data", "video", str(broken), str(film), "--out", str(out), "--json"]
    assert run([*command, "--gap", "1", "--quiet", "--force"]) == 4
    document = json.loads(capsys.readouterr().out)
    assert [entry["path"] for entry in document["failed"]] == [str(broken)]


def test_a_clip_given_twice_is_refused(film, tmp_path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(film.read_bytes())
    with pytest.raises(UsageError, match="are the same video"):
        prepare_video([film, copy], tmp_path / "out", GAP)


def test_clips_of_one_name_become_drives_of_two(film, tmp_path):
    (tmp_path / "b").mkdir()
    twin = write_clip(tmp_path / "b" / "film.mp4", slide(5, 20))
    prepare_video([film, twin], tmp_path / "out", VideoRequest(gap=1, shares={"train": 1.0}))
    names = [drive.name for drive in Store(tmp_path / "out" / "train").drives]
    assert names[0] == "film-0000"
    assert names[-1] == "film-2-0000"


def test_a_split_without_a_triplet_is_said(tmp_path):
    clip = write_clip(tmp_path / "short.mp4", slide(0, 10))
    with pytest.raises(DataError, match="no triplet is left for the split 'val'"):
        prepare_video([clip], tmp_path / "out", VideoRequest(gap=3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "train=0.5"], "add up to 0.5"),
        (["--split", "train=0.5,nope=0.5"], "expected shares"),
        (["--crop", "1,2,3"], "LEFT,TOP,RIGHT,BOTTOM"),
        (["--crop", "0,0,0,90"], "leaves 6x160"),
        (["--K", "1,2"], "FX,FY,CX,CY"),
        (["--K", "100,100,500,50"], "principal point"),
        (["--gap", "100000"], "--gap"),
        (["--size", "8x8"], "expected 32 to 16384"),
        (["--size", "32x99999"], "expected 32 to 16384"),
        (["--min-motion", "200"], "--min-motion"),
    ],
)
def test_nonsense_is_one_line_and_nothing_is_written(options, message, film, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["prepare-data", "video", str(film), "--out", str(out), *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not out.exists()


def test_shares_and_crops_are_parsed():
    assert parse_shares("train=0.7, val=0.2,test=0.1") == {"train": 0.7, "val": 0.2, "test": 0.1}
    assert parse_crop("0, 10,0,60") == (0, 10, 0, 60)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "count"),
    [("mu_driving", 296), pytest.param("solidWhiteRight", 221, marks=pytest.mark.slow)],
)
def test_a_real_drive_is_kept_whole(name, count, real_data, tmp_path):
    """A single shot of a moving camera: no cut is found in it, no frame stands, no bar is seen."""
    clip = real_data / "video" / f"{name}.mp4"
    report = prepare_video([clip], tmp_path / "out", VideoRequest(image_size=(96, 320)))
    found = report["clips"][0]
    assert (found["num_frames"], found["num_stored"]) == (count, count)
    assert (found["num_cuts"], found["num_gaps"], found["num_standing"]) == (0, 0, 0)
    assert found["bars"] is None
    assert report["gap"] == 3
    assert [store["num_frames"] for store in report["stores"]] == [
        round(0.8 * count),
        count - round(0.8 * count),
    ]
