"""The library's door: what the package's own page shows works as it stands."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from untrained import save_untrained

import unienc_core
from unienc_core.errors import DataError, UsageError
from unienc_core.inference.frame_output import FrameOutput
from unienc_core.inference.video import VideoReader
from unienc_core.workflows.infer import VideoRequest, infer_video


def test_the_examples_of_the_package_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_untrained(Path("runs/mine/checkpoints"))
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (50, 80, 3), dtype=np.uint8) for _ in range(3)]
    used: list[FrameOutput] = []
    names = {"image": frames[1], "previous": frames[0], "frames": frames, "use": used.append}
    result = doctest.testmod(unienc_core, extraglobs=names)
    assert result.failed == 0
    assert result.attempted >= 6
    assert [output.T_previous_current is None for output in used] == [True, False, False]


def test_the_library_says_what_the_command_line_says(make_video, untrained_run, tmp_path) -> None:
    clip = make_video(num=4)
    infer_video([clip], request=VideoRequest(sinks="npz"), out=tmp_path, checkpoint=untrained_run)
    with VideoReader(clip) as reader:
        images = [frame.image for frame in reader]
    outputs = unienc_core.load(str(untrained_run), "cpu").stream(images)
    for i, output in enumerate(outputs):
        with np.load(tmp_path / "clip_unienc_npz" / f"{i:06d}.npz") as arrays:
            np.testing.assert_array_equal(output.depth, arrays["depth"])
            motion = output.T_previous_current
            expected = np.full((4, 4), np.nan) if motion is None else motion
            np.testing.assert_array_equal(arrays["T_previous_current"], expected)


def test_the_door_s_errors_are_named(untrained_run) -> None:
    with pytest.raises(DataError, match="nowhere"):
        unienc_core.load("nowhere")
    with pytest.raises(UsageError, match="cuda:99"):
        unienc_core.load(untrained_run, "cuda:99")
