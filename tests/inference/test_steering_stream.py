"""Steering along a stream: what evaluation says, one encoder pass a frame, anew at cuts."""

import json
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from clip_toys import ListSource
from sequence_toys import FRAMES, steering_network, steering_preset, write_drives

import unienc_core
from unienc_core.checkpoint import save_checkpoint
from unienc_core.data.store import Store
from unienc_core.errors import IntegrityError, UsageError
from unienc_core.inference.clip import ClipSummary, process_clip
from unienc_core.inference.frames import Frame
from unienc_core.inference.metric import RunningScale
from unienc_core.inference.outputs import Outputs
from unienc_core.inference.predictor import Predictor
from unienc_core.inference.results import ClipFacts
from unienc_core.inference.sinks import SINKS
from unienc_core.presets import load_preset
from unienc_core.workflows.infer import VideoRequest, format_report, infer_video
from unienc_core.workflows.steering_scoring import drive_places, predict, windows

NUM = 14
MISSING = FRAMES - 1


def save(folder: Path, preset, seed: int = 3, **state: object) -> Path:
    network = steering_network(preset, seed=seed)
    return save_checkpoint(
        folder / "checkpoints",
        preset=preset, model=network.state_dict(), optimizer={}, state={"step": 1, **state},
    )  # fmt: skip


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    """A store of one drive, as smooth as a drive is: no cut is seen in it."""
    with closing(write_drives(tmp_path_factory.mktemp("drive") / "store", (NUM,))) as store:
        return store.path


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("run"), steering_preset()).parent.parent


def images_of(drive: Path) -> list[np.ndarray]:
    with closing(Store(drive)) as store:
        return [store.frame(0, i, ("image",))["image"] for i in range(NUM)]


def scored(network, preset, drive: Path) -> np.ndarray:
    """What evaluation predicts of every frame that has enough of them before it."""
    with closing(Store(drive)) as store:
        dataset = windows(preset, [store], stride=1)
        key = preset.network.heads["steering"].options.get("predicts", "curvature")
        made = predict(network, dataset, key, drive_places([store]))
    newest = made.frames.reshape(len(dataset), -1)[:, -1]
    np.testing.assert_array_equal(newest, np.arange(MISSING, NUM))
    return made.values.reshape(len(dataset), -1)[:, -1]


@pytest.mark.parametrize(
    "options", [{}, {"target": "all"}, {"time": "gru"}, {"time": "last"}, {"levels": "last"}]
)
def test_a_stream_says_what_evaluation_says_of_every_frame(drive, options) -> None:
    preset = steering_preset(**options)
    network = steering_network(preset, seed=3)
    with torch.no_grad():  # what it says must differ from frame to frame
        network.heads["steering"].read_off.weight.mul_(100)
    expected = scored(network, preset, drive)
    assert np.ptp(expected) > 1e-3
    found = [output.steering for output in Predictor(network, preset).stream(images_of(drive))]
    assert [one.num_missing for one in found] == [3, 2, 1, *[0] * (NUM - MISSING)]
    assert [one.value for one in found[:MISSING]] == [None] * MISSING
    np.testing.assert_allclose([one.value for one in found[MISSING:]], expected, atol=1e-5)


def test_infer_video_says_it_too_in_every_output(drive, run, tmp_path) -> None:
    report = infer_video(
        [drive], request=VideoRequest(sinks="mp4,npz,h5,jsonl"), out=tmp_path, checkpoint=run
    )
    assert report["predictions"] == ["steering"]
    expected = scored(steering_network(steering_preset(), seed=3), steering_preset(), drive)
    lines = [json.loads(x) for x in next(tmp_path.glob("*.jsonl")).read_text().splitlines()]
    told = [line["steering"] for line in lines]
    assert {one["key"] for one in told} == {"curvature"}
    assert {one["unit"] for one in told} == {"1/km"}
    assert [one["missing"] for one in told[:MISSING]] == [3, 2, 1]
    assert [one["value"] for one in told[:MISSING]] == [None] * MISSING
    values = np.array([one["value"] for one in told[MISSING:]])
    np.testing.assert_allclose(values, expected, atol=1e-5)
    with h5py.File(next(tmp_path.glob("*.h5"))) as file:
        stored = file["steering"]
        assert dict(stored.attrs) == {"key": "curvature", "unit": "1/km"}
        assert np.isnan(stored[:MISSING]).all()
        np.testing.assert_array_equal(stored[MISSING:], values)
    (folder,) = tmp_path.glob("*_npz")
    about = json.loads((folder / "unienc.json").read_text())
    assert about["steering"] == {"key": "curvature", "unit": "1/km"}
    for i, value in enumerate(values):
        with np.load(folder / f"{i + MISSING:06d}.npz") as arrays:
            assert set(arrays) == {"T_previous_current", "steering"}
            assert arrays["steering"] == value
    (video,) = report["videos"]
    summary = video["steering"]
    assert (summary["frames_warming_up"], summary["frames_predicted"]) == (MISSING, len(values))
    assert summary["mean"] == pytest.approx(values.mean())
    assert (summary["lowest"], summary["highest"]) == (values.min(), values.max())
    assert f"curvature in 1/km of {len(values)} frames" in format_report(report)


def count_passes(predictor: Predictor) -> dict[str, int]:
    calls = dict.fromkeys(predictor.network.heads, 0) | {"main": 0}

    def counter(name: str):
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    for name in predictor.network.heads:
        predictor.network.heads[name].register_forward_hook(counter(name))
    predictor.network.encoders["main"].register_forward_hook(counter("main"))
    return calls


def shared_preset():
    """Depth, motion and steering on one encoder."""
    head = "{type: steering, reads: [main], view: sequence, options: {frames: 4, width: 8}}"
    return load_preset("unified-tiny", ["image_size=[64, 96]", f"network.heads.steering={head}"])


def test_one_encoder_serves_all_heads_in_one_pass_and_only_what_is_asked_runs() -> None:
    preset = shared_preset()
    predictor = Predictor(steering_network(preset), preset)
    assert predictor.outputs == predictor.usual == ("depth", "motion", "steering")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(6)]
    calls = count_passes(predictor)
    found = list(predictor.stream(images))
    assert calls == {"main": 6, "depth": 6, "pose": 5, "steering": 3}
    assert found[5].T_previous_current is not None
    alone = list(predictor.stream(images, ["steering"]))
    assert calls == {"main": 12, "depth": 6, "pose": 5, "steering": 6}
    assert [one.steering for one in alone] == [one.steering for one in found]
    assert all(one.steering is None for one in predictor.stream(images, ["depth", "motion"]))
    assert calls["steering"] == 6


def test_steps_and_streams_say_the_same_and_begin_anew(drive, run) -> None:
    predictor, images = unienc_core.load(run, "cpu"), images_of(drive)
    streamed = [one.steering for one in predictor.stream(images)]
    for _ in range(2):
        assert [predictor.step(image).steering for image in images] == streamed
        predictor.reset()
    assert predictor.predict(images[0]).steering.num_missing == MISSING


class Drive(ListSource):
    """Frames at times of one's own; where one is lost, the next says so."""

    def __init__(self, images, times=None, lost: frozenset[int] = frozenset()) -> None:
        super().__init__(iter(images), images[0].shape[:2])
        self._times, self._lost = times, lost

    def frames(self, span=None):
        for frame in super().frames(*([] if span is None else [span])):
            i = frame.index
            time = frame.time if self._times is None else self._times[i]
            yield Frame(frame.image, i, i, time, num_lost=int(i in self._lost))


def missing_along(tmp_path: Path, run: Path, source: ListSource) -> tuple[list[int], ClipSummary]:
    predictor, size = unienc_core.load(run, "cpu"), (source.info.height, source.info.width)
    facts = ClipFacts(
        source.info, np.eye(3), "up to scale", "x", ("steering",), steering=predictor.steering
    )
    with Outputs([SINKS["jsonl"](tmp_path / "x.jsonl", facts)]) as outputs:
        summary = process_clip(
            source, predictor, outputs,
            metric=RunningScale(None, np.eye(3), size), wanted=("steering",),
        )  # fmt: skip
    lines = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
    return [line["steering"]["missing"] for line in lines], summary


def scene(seed: int, num: int) -> list[np.ndarray]:
    street = np.random.default_rng(seed).integers(30, 255, (48, 130, 3), dtype=np.uint8)
    return [np.ascontiguousarray(street[:, i : i + 96]) for i in range(num)]


FULL, ANEW = [0] * 5, [3, 2, 1]


def test_a_window_never_crosses_a_cut_a_gap_or_black(tmp_path, run) -> None:
    two = [*scene(1, 8), *scene(2, 8)]
    found, summary = missing_along(tmp_path, run, Drive(two))
    assert summary.num_cuts == 1
    assert found == [*ANEW, *FULL, *ANEW, *FULL]
    one = scene(1, 16)
    assert missing_along(tmp_path, run, Drive(one))[0] == [*ANEW, *FULL, *[0] * 8]
    assert missing_along(tmp_path, run, Drive(one, lost=frozenset({8})))[0] == found
    times = [i / 25 + (0.6 if i >= 8 else 0) for i in range(16)]
    assert missing_along(tmp_path, run, Drive(one, times))[0] == found
    slow = [0.4 * i for i in range(16)]  # behind 25 a second, but never more than half a second
    assert missing_along(tmp_path, run, Drive(one, slow))[0] == [*ANEW, *FULL, *[0] * 8]
    dark = [*one[:8], np.zeros_like(one[0]), *one[8:15]]
    assert missing_along(tmp_path, run, Drive(dark))[0] == [*ANEW, *FULL, 3, *ANEW, *[0] * 4]
    assert summary.steering.num_values == len(FULL) * 2


def test_what_is_seen_after_a_cut_does_not_depend_on_what_was_before(tmp_path, run) -> None:
    after = scene(2, 8)
    missing_along(tmp_path, run, Drive([*scene(1, 8), *after]))
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    missing_along(tmp_path, run, Drive(after))
    alone = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [line["steering"] for line in lines[8:]] == [line["steering"] for line in alone]


def test_a_window_keeps_small_grids_alone(run, drive) -> None:
    predictor = unienc_core.load(run, "cpu")
    window = predictor.window()
    for image in images_of(drive):
        predictor.decode(predictor.encode(image), None, ["steering"], window=window)
    grids, channels = window.joined(), sum(predictor.network.wiring.specs["main"].channels)
    assert (tuple(grids.shape), grids.dtype) == ((1, FRAMES, channels, 2, 4), torch.float16)


def test_a_head_that_says_nan_is_an_integrity_error(drive) -> None:
    preset = steering_preset()
    network = steering_network(preset)
    with torch.no_grad():
        network.heads["steering"].read_off.bias.fill_(float("nan"))
    with pytest.raises(IntegrityError, match="NaN or infinity"):
        list(Predictor(network, preset).stream(images_of(drive)))


def test_a_label_that_is_no_steering_is_no_output(drive) -> None:
    preset = steering_preset(predicts="speed")
    predictor = Predictor(steering_network(preset), preset)
    assert predictor.outputs == ()
    with pytest.raises(UsageError, match="has no steering; it has nothing of the kind"):
        predictor.step(images_of(drive)[0], ["steering"])
