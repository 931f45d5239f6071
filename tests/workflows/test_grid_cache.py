"""The cache of grids: equal to what the encoder gives, never stale, resumable, flat in memory."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sequence_toys import FRAMES, steering_network, steering_preset, write_drives

from unienc_core.contracts import Reporter
from unienc_core.data import grid_cache
from unienc_core.data.grid_cache import GridCache
from unienc_core.data.loader import StepLoader
from unienc_core.data.sequence_dataset import SequenceDataset
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter
from unienc_core.errors import StoreError, WiringError
from unienc_core.models.pooling import join_grid, pool_to_grid
from unienc_core.presets import AugmentSpec
from unienc_core.workflows import prepare_sets
from unienc_core.workflows.grid_cache import build_cache, grid_key
from unienc_core.workflows.inspect_data import describe_store, format_description
from unienc_core.workflows.steering_scoring import truth_of

LENGTHS = (9, 5, 6)
PRESET = steering_preset()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return write_drives(tmp_path_factory.mktemp("drives") / "s", LENGTHS)


@pytest.fixture
def small_parts(store, monkeypatch):
    """Parts and shards of four frames."""
    four = 4 * grid_key(steering_network(PRESET), PRESET, store).frame_bytes
    monkeypatch.setattr(grid_cache, "PART_BYTES", four)
    monkeypatch.setattr(prepare_sets, "SHARD_BYTES", four)


def build(store: Store, root: Path, network=None, preset=PRESET, **options) -> GridCache:
    return build_cache(store, network or steering_network(preset), preset, root, **options)


def sequences(store: Store, preset=PRESET, **options) -> SequenceDataset:
    stream = options.pop("stream", preset.streams["drives"])
    return SequenceDataset(store, stream, preset.image_size, seed=3, name="drives", **options)


def test_cached_and_live_give_the_same_steering(store, tmp_path, small_parts):
    network = steering_network(PRESET).train()
    cache = build(store, tmp_path, network)
    assert all(module.training for module in network.modules())  # left as it was
    network.eval()
    live, cached = sequences(store), sequences(store, caches=[cache])
    assert len(live) == len(cached)
    for step in range(2):
        batches = [next(iter(StepLoader(d).steps(step, step + 1)))[1] for d in (live, cached)]
        assert set(batches[1]) == {"sequence_grids/main", "curvature_gt"}
        assert torch.equal(batches[0]["curvature_gt"], batches[1]["curvature_gt"])
        with torch.no_grad():
            one, other = (network({"drives": b})["drives"]["curvature"] for b in batches)
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


def test_every_frame_lies_where_it_belongs(store, tmp_path, small_parts):
    network = steering_network(PRESET)
    cache, whole = build(store, tmp_path / "a", network), None
    for drive, length in enumerate(LENGTHS):
        every = cache.window(drive, 0, length)
        assert every.shape == (length, *cache.key.shape) and cache.key.grid == (2, 4)
        for first in range(length - FRAMES + 1):
            assert np.array_equal(cache.window(drive, first, FRAMES), every[first : first + FRAMES])
        assert len({grid.tobytes() for grid in every}) == length
        whole = every if whole is None else np.concatenate([whole, every])
    assert whole is not None and len({grid.tobytes() for grid in whole}) == sum(LENGTHS)


def test_data_show_reads_it(store, tmp_path):
    cache = build(store, tmp_path)
    found = describe_store(cache.path, verify=True)
    (described,) = found["stores"]
    assert described["kind"] == "grids" and described["num_frames"] == sum(LENGTHS)
    assert described["num_triplets"] == described["num_triplets_dropped"] == 0
    assert "float16" in format_description(found)
    assert cache.num_bytes == described["num_bytes"]


def test_another_encoder_or_crop_makes_another_cache(store, tmp_path):
    first = build(store, tmp_path)
    assert build(store, tmp_path).path == first.path
    network = steering_network(PRESET)
    with torch.no_grad():  # one number of the running statistics, which are no parameters
        next(b for n, b in network.named_buffers() if n.endswith("running_mean"))[0] += 0.5
    cropped = write_drives(tmp_path / "cropped", (4,), config={"crop": [0, 8, 0, 0]})
    wider = PRESET.model_copy(update={"image_size": (64, 160)})
    grey = steering_preset(encoder={"normalisation": "grey"})
    others = [
        build(store, tmp_path, network),
        build(store, tmp_path, steering_network(PRESET, seed=1)),
        build(cropped, tmp_path),
        build(store, tmp_path, preset=wider),
        build(store, tmp_path, preset=grey),
    ]
    assert len({cache.path for cache in (first, *others)}) == 6
    for other in others:
        with pytest.raises(StoreError, match="holds other grids: .*make them anew"):
            GridCache(first.path, other.key)
    head_alone = steering_network(PRESET)
    torch.nn.init.zeros_(head_alone.heads["steering"].read_off.weight)
    assert grid_key(head_alone, PRESET, store) == first.key
    with pytest.raises(WiringError, match="holds no grids of .*cropped at 64x128"):
        sequences(cropped, caches=[first])
    with pytest.raises(WiringError, match="holds no grids of .* at 64x160"):
        sequences(store, preset=wider, caches=[first])


def test_a_program_that_computes_otherwise_is_noticed(store, tmp_path, monkeypatch):
    network = steering_network(PRESET)
    path = build(store, tmp_path, network).path
    encoder = network.encoders["main"]
    monkeypatch.setattr(type(encoder), "forward", _darker(type(encoder).forward))
    with pytest.raises(StoreError, match=f"{path}: its grids are not what the encoder gives now"):
        build(store, tmp_path, network)


def _darker(forward):
    return lambda self, image: forward(self, 0.5 * image)


def stream_with(**augment: float):
    augmented = AugmentSpec(**({"flip": 0, "jitter": 0} | augment))
    return PRESET.streams["drives"].model_copy(update={"augment": augmented})


@pytest.mark.parametrize("change", ["jitter", "shadow"])
def test_grids_are_not_augmented(store, tmp_path, change):
    cache = build(store, tmp_path, flipped=True)
    stream = stream_with(**{change: 0.5})
    with pytest.raises(WiringError, match="grids of a cache cannot be augmented but by mirroring"):
        sequences(store, stream=stream, caches=[cache])
    assert len(sequences(store, stream=stream, caches=[cache], train=False)) > 0


def test_mirrored_windows_come_out_of_a_cache_as_they_do_live(store, tmp_path, small_parts):
    network, stream = steering_network(PRESET).eval(), stream_with(flip=0.5)
    plain, both = build(store, tmp_path, network), build(store, tmp_path, network, flipped=True)
    assert both.path == plain.path and both.flipped and both.flipped.path != plain.path
    live, cached = (sequences(store, stream=stream, caches=c) for c in ([], [both]))
    flips = 0
    for step in range(8):
        one, other = live.item(step, 0), cached.item(step, 0)
        assert torch.equal(one["curvature_gt"], other["curvature_gt"])
        drive, last = live.find(live._index(step, 0))[1:]
        stored = store.column(drive, "curvature")[last + 1 - FRAMES : last + 1]
        flips += not np.array_equal(one["curvature_gt"].numpy(), stored)
        with torch.no_grad():
            made = pool_to_grid(network.encode(one["sequence_images"])["main"])
        torch.testing.assert_close(other["sequence_grids/main"], join_grid(made))
    assert 0 < flips < 8
    with pytest.raises(WiringError, match="holds no grids of mirrored frames"):
        sequences(store, stream=stream, caches=[plain])
    with pytest.raises(WiringError, match="holds no grids of"):
        sequences(store, caches=[both.flipped])
    with pytest.raises(StoreError, match="holds no grids of the mirrored frames of"):
        GridCache(plain.path, plain.key, plain)
    ordered = sequences(store, stream=stream, caches=[plain], train=False)
    assert torch.equal(
        ordered.item(0, 0)["sequence_grids/main"],
        sequences(store, caches=[plain], train=False).item(0, 0)["sequence_grids/main"],
    )


def test_labels_are_read_once_a_drive(store, tmp_path, monkeypatch):
    """To open the file of every drive anew takes longer than the head."""
    asked, read = list[tuple[int, str]](), Store.column
    monkeypatch.setattr(
        Store,
        "column",
        lambda self, drive, key: asked.append((drive, key)) or read(self, drive, key),
    )
    dataset = sequences(store, caches=[build(store, tmp_path)])
    for step in range(20):
        dataset.item(step, 0)
    assert sorted(asked) == [(drive, "curvature") for drive in range(len(LENGTHS))]
    asked.clear()
    truths = [truth_of([Store(store.path)], "curvature") for _ in range(2)]
    assert [drive for drive, key in asked if key == "curvature"] == [0, 1, 2]
    for truth in truths:
        for drive, labels in enumerate(truth.labels):
            assert np.array_equal(labels, read(store, drive, "curvature"), equal_nan=True)


def test_a_stopped_cache_is_not_read_and_goes_on(store, tmp_path, small_parts):
    network = steering_network(PRESET)
    whole = build(store, tmp_path / "whole", network)
    seen: list[int] = []

    def stop(progress):
        seen.append(progress.done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(store, tmp_path / "torn", network, reporter=Reporter(progress=stop))
    torn = whole.key.folder(tmp_path / "torn")
    with pytest.raises(StoreError, match="unfinished store"):
        GridCache(torn, whole.key)
    again: list[int] = []
    build(
        store,
        tmp_path / "torn",
        network,
        reporter=Reporter(progress=lambda p: again.append(p.done)),
    )
    assert again[0] > seen[0] and again[-1] == sum(LENGTHS)  # what was finished is not made again
    assert files_of(torn) == files_of(whole.path)


def test_grids_that_another_process_makes_are_waited_for(store, tmp_path, monkeypatch):
    network, said = steering_network(PRESET), list[str]()
    key = grid_key(network, PRESET, store)
    other = StoreWriter(key.folder(tmp_path), key.spec(store))  # holds the lock, writes nothing

    def release(seconds: float) -> None:
        other.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    monkeypatch.setattr("unienc_core.workflows.grid_cache.time.sleep", release)
    cache = build(store, tmp_path, network, reporter=Reporter(say=said.append))
    assert said == [f"{cache.path}: waiting for another process that makes these grids"]
    assert cache.window(0, 0, 1).any()


KILLED = """
import os, signal, sys
from pathlib import Path
from sequence_toys import steering_network, steering_preset
from unienc_core.contracts import Reporter
from unienc_core.data import grid_cache, store_writer
from unienc_core.data.store import Store
from unienc_core.workflows import prepare_sets
from unienc_core.workflows.grid_cache import build_cache

store_writer._QUICK = 1e9  # each shard is recorded at once, however slow the machine
grid_cache.PART_BYTES = prepare_sets.SHARD_BYTES = int(sys.argv[3])
preset = steering_preset()

def kill(progress):
    if progress.done > 8:
        os.kill(os.getpid(), signal.SIGKILL)

build_cache(Store(sys.argv[1]), steering_network(preset), preset, Path(sys.argv[2]),
            reporter=Reporter(progress=kill))
"""


def test_a_kill_costs_one_shard(store, tmp_path, small_parts):
    whole = build(store, tmp_path / "whole")
    arguments = [str(store.path), str(tmp_path / "killed"), str(grid_cache.PART_BYTES)]
    toys = str(Path(__file__).resolve().parents[1])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        env={**os.environ, "PYTHONPATH": toys},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    done: list[int] = []
    build(store, tmp_path / "killed", reporter=Reporter(progress=lambda p: done.append(p.done)))
    assert done[0] > 4
    assert files_of(whole.key.folder(tmp_path / "killed")) == files_of(whole.path)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
