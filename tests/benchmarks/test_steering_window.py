"""The benchmark of cached grids times the same windows and the same answers on both sides."""

import sys
from pathlib import Path

import torch
from sequence_toys import steering_network, steering_preset, write_drives

from unienc_core.workflows.grid_cache import build_cache
from unienc_core.workflows.steering_scoring import windows

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from steering_window import compare, reader, table  # noqa: E402

CPU = torch.device("cpu")


def test_both_sides_read_the_same_windows_and_answer_the_same(tmp_path) -> None:
    preset = steering_preset()
    store, network = write_drives(tmp_path / "s", (9, 5, 6)), steering_network(preset)
    cache = build_cache(store, network.eval(), preset, tmp_path / "grids")
    live = reader(network, preset, windows(preset, [store]), CPU)
    cached = reader(network, preset, windows(preset, [store], caches=[cache]), CPU)
    answers = [(live(), cached()) for _ in range(6)]
    for one, other in answers:
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)
    assert len({float(one) for one, _ in answers}) == len(windows(preset, [store])) > 1


def test_it_tells_seconds_their_ratio_and_the_size_of_a_grid(tmp_path) -> None:
    preset = steering_preset()
    store = write_drives(tmp_path / "s", (9, 5))
    found = compare(preset, store, CPU, 3, tmp_path / "grids")
    assert found["live"]["rounds"] == found["cached"]["rounds"] == found["ratio"]["rounds"] == 3
    rows, cells = 2, 4
    network = steering_network(preset)
    channels = sum(network.wiring.specs["main"].channels)
    assert found["frame_bytes"] == 2 * channels * rows * cells
    assert f"{found['frame_bytes']:,} bytes a frame" in table(found)
