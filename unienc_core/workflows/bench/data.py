"""Where training data comes from, under the clock: renderer, store, loader."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

import cv2
import numpy as np

from unienc_core.data.codecs import IMAGE_FLAGS
from unienc_core.data.synthcity import City, CityConfig
from unienc_core.training.run_dir import RunIdentity, open_run_folder
from unienc_core.training.trainer import Trainer
from unienc_core.workflows.bench.clock import Samples
from unienc_core.workflows.bench.setting import Setting
from unienc_core.workflows.training_data import TrainingData, spare_workers

STORE_TARGET = 0.8
"""Store reads shall be at least this fast against decoding the same bytes from memory."""
IDLE_TARGET = 0.05
"""Training shall wait for data for less than this share of its time."""

_READS_A_ROUND = 16


def bench_render(setting: Setting) -> dict[str, Any]:
    """Measure the synthetic city on one core: colour, all labels, flow to one neighbour.

    CPU time, which other programs touch less than the clock on the wall.

    Returns:
        ``{image_size, supersample, frame_ms, frames_per_second, shadows_ms, city_ms}``.
    """
    cities, frames = (1, 2) if setting.quick else (4, 8)
    size, supersample = setting.preset.image_size, 2
    with _one_thread():
        render_seconds(CityConfig(99, size, num_frames=3, supersample=supersample))  # warm
        plain: list[float] = []
        shaded: list[float] = []
        built: list[float] = []
        for seed in range(cities):
            for shadows, into in ((False, plain), (True, shaded)):
                seconds, build = render_seconds(
                    CityConfig(
                        seed, size, num_frames=frames + 1, supersample=supersample, shadows=shadows
                    )
                )
                into += seconds
                built.append(build)
    frame = Samples(tuple(plain))
    return {
        "image_size": list(size),
        "supersample": supersample,
        "frame_ms": frame.record(1e3),
        "frames_per_second": round(1.0 / frame.median, 2),
        "shadows_ms": Samples(tuple(shaded)).record(1e3),
        "city_ms": Samples(tuple(built)).record(1e3),
    }


def render_seconds(config: CityConfig) -> tuple[list[float], float]:
    """Render all but the last frame of a city.

    Returns:
        CPU seconds of each frame, and of building the city.
    """
    began = time.process_time()
    city = City(config)
    build, seconds = time.process_time() - began, []
    for index in range(config.num_frames - 1):
        began = time.process_time()
        city.render(index, (1,))
        seconds.append(time.process_time() - began)
    return seconds, build


def bench_store(setting: Setting) -> dict[str, Any]:
    """Measure reading images from the store against decoding the same bytes from memory.

    Returns:
        ``{image_size, encoding, read_ms, decode_ms, ratio, target}``: the ratio is that of the
        rates, round by round; 1 would mean that a store costs nothing.
    """
    store = setting.opened_store
    places = [(d, i) for d, drive in enumerate(store.drives) for i in range(drive.num_frames)]
    rng = np.random.default_rng(0)
    chosen = [places[n] for n in rng.choice(len(places), _READS_A_ROUND)]
    encoded = [store.encoded(drive, index, "image") for drive, index in chosen]

    def read() -> None:
        for drive, index in chosen:
            store.frame(drive, index, ("image",))

    def decode() -> None:
        for data in encoded:
            cv2.imdecode(data, IMAGE_FLAGS)

    with _one_thread():
        taken = setting.take_turns({"read": read, "decode": decode}, "store")
    a_frame = 1e3 / _READS_A_ROUND
    return {
        "image_size": list(store.image_size),
        "encoding": store.keys["image"].encoding,
        "read_ms": taken["read"].record(a_frame),
        "decode_ms": taken["decode"].record(a_frame),
        "ratio": taken["decode"].over(taken["read"]).record(),
        "target": STORE_TARGET,
    }


def bench_loader(setting: Setting) -> dict[str, Any]:
    """Train for a little while and see how long training waits for data.

    Returns:
        ``{workers, steps, step_ms, wait_ms, idle_share, target}``: the share of the time of all
        steps together; the first, in which everything starts, is left out.
    """
    workers = spare_workers(setting.device)
    totals, waits = [0.0], [0.0]
    with _training(setting, workers) as trainer, closing(trainer.steps()) as running:
        began, clock = time.perf_counter(), trainer.logbook.clock
        for _ in islice(running, 10 * setting.pace.max_rounds):
            totals.append(clock.total)
            waits.append(clock.waiting)
            enough = len(totals) > 2 + setting.pace.min_rounds
            if enough and time.perf_counter() - began > 2 * setting.pace.seconds:
                break
    steps = Samples(tuple(np.diff(totals)[1:].tolist()))
    waited = Samples(tuple(np.diff(waits)[1:].tolist()))
    return {
        "workers": workers,
        "steps": len(steps.values),
        "step_ms": steps.record(1e3),
        "wait_ms": waited.record(1e3),
        "idle_share": round(sum(waited.values) / sum(steps.values), 4),
        "target": IDLE_TARGET,
    }


@contextmanager
def _training(setting: Setting, workers: int) -> Iterator[Trainer]:
    """Yield a trainer that stands before its first step, in a run folder of its own."""
    preset = setting.preset
    data = TrainingData(preset, [setting.store_path], seed=0, workers=workers)
    environment = {"torch": "", "device": "", "cpu": "", "threads": 0}
    with open_run_folder(
        setting.folder / "run",
        RunIdentity(preset, 0, data.digests),
        command="bench",
        environment=environment,
    ) as run:
        yield Trainer(setting.train_module(), preset, data.draws, run, seed=0)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let OpenCV use one core, as workers do."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
