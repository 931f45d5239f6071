"""Frames a second of the synthetic city: one core, with cast shadows, and two workers.

Run: python benchmarks/render.py [--cities N] [--frames N]
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

# One thread per process, set before numpy and OpenCV are loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np

from unienc_core.data.synthcity import City, CityConfig

SIZES = ((96, 320), (192, 512))


def render_city(job: tuple[int, tuple[int, int], int, bool]) -> tuple[list[float], float]:
    """Render a city with all labels and the flow to one neighbour.

    Args:
        job: Seed, image size, frames, shadows.

    Returns:
        CPU seconds of each frame, and of building the city.
    """
    seed, size, frames, shadows = job
    cv2.setNumThreads(1)
    start = time.process_time()
    city = City(CityConfig(seed, size, num_frames=frames + 1, shadows=shadows))
    build, seconds = time.process_time() - start, []
    for index in range(frames):
        start = time.process_time()
        city.render(index, (1,))
        seconds.append(time.process_time() - start)
    return seconds, build


def one_core(size: tuple[int, int], cities: int, frames: int, shadows: bool) -> tuple[float, float]:
    """Return median CPU milliseconds per frame, and mean milliseconds of building a city."""
    runs = [render_city((seed, size, frames, shadows)) for seed in range(cities)]
    per_frame = np.median([s for seconds, _ in runs for s in seconds])
    return 1e3 * float(per_frame), 1e3 * float(np.mean([build for _, build in runs]))


def pool_rates(
    workers: int, size: tuple[int, int], cities: int, frames: int
) -> tuple[float, float]:
    """Return frames per second of wall time with a pool, and CPU milliseconds per frame in it."""
    jobs = [(seed, size, frames, False) for seed in range(cities)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(render_city, [(seed, size, 1, False) for seed in range(2 * workers)]))
        start = time.perf_counter()
        runs = list(pool.map(render_city, jobs))
        wall = time.perf_counter() - start
    cpu = float(np.median([s for seconds, _ in runs for s in seconds]))
    return cities * frames / wall, 1e3 * cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cities", type=int, default=6)
    parser.add_argument("--frames", type=int, default=12)
    args = parser.parse_args()
    print("2x2 supersampled, colour + all labels + flow to one neighbour; CPU time of one core")
    render_city((0, SIZES[0], 2, True))
    for size in SIZES:
        plain, build = one_core(size, args.cities, args.frames, False)
        shaded, _ = one_core(size, args.cities, args.frames, True)
        height, width = size
        print(
            f"{height}x{width}: {1e3 / plain:5.1f} frames/s ({plain:.1f} ms); with shadows "
            f"{1e3 / shaded:5.1f} ({shaded:.1f} ms, +{100 * (shaded / plain - 1):.0f}%); "
            f"building a city {build:.0f} ms"
        )
    for size in SIZES:
        (one, cpu_one), (two, cpu_two) = (
            pool_rates(workers, size, args.cities, args.frames) for workers in (1, 2)
        )
        print(
            f"{size[0]}x{size[1]}: wall time {one:.1f} frames/s with 1 worker, {two:.1f} with 2 "
            f"({two / one:.2f}x); CPU time of a frame {cpu_one:.1f} and {cpu_two:.1f} ms "
            f"({2 * cpu_one / cpu_two:.2f}x on two idle cores)"
        )


if __name__ == "__main__":
    main()
