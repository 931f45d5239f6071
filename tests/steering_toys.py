"""Toy recordings of the steering sets, in the layouts their programs leave."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import av
import cv2
import h5py
import numpy as np

from unienc_core.data.sets.listing import Listing
from unienc_core.data.store import Store
from unienc_core.data.store_writer import StoreWriter


@contextmanager
def stored(listing: Listing, folder: Path) -> Iterator[Store]:
    """Write the one store of a listing, and open it."""
    (plan,) = listing.stores
    with StoreWriter(folder, plan.spec) as writer:
        writer.add_shards([[drive] for drive in plan.drives], plan.source)
    with closing(Store(folder)) as store:
        yield store


def labels_of(store: Store, key: str) -> list[list[float]]:
    """Return a label of every drive."""
    return [store.column(drive, key).tolist() for drive in range(len(store.drives))]


def picture(number: int, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """Return a picture, RGB, that no other number has."""
    return np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)


def write_pictures(folder: Path, names: Iterable[str]) -> None:
    """Write different pictures under these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), picture(number)[..., ::-1])


def write_tub(root: Path, angles: Sequence[float], *, deleted: Sequence[int] = (), **more) -> Path:
    """Write a tub of version 4 at 20 Hz; `more` overrides values of single records by number."""
    records = []
    for index, angle in enumerate(angles):
        record = {
            "_index": index,
            "_session_id": "22-11-29_0",
            "_timestamp_ms": 1669759744666 + 50 * index,
            "cam/image_array": f"{index}_cam_image_array_.jpg",
            "user/angle": angle,
            "user/mode": "user",
            "user/throttle": 0.4,
        }
        records.append({**record, **more.get(f"record_{index}", {})})
    write_pictures(root / "images", [f"{n}_cam_image_array_.jpg" for n in range(len(angles))])
    half = len(records) // 2
    for number, part in enumerate((records[:half], records[half:])):
        lines = [json.dumps(record) for record in part]
        (root / f"catalog_{number}.catalog").write_text("\n".join(lines) + "\n")
    last = {"paths": ["catalog_0.catalog", "catalog_1.catalog"], "current_index": len(records)}
    last |= {"max_len": 1000, "deleted_indexes": list(deleted)}
    lines = ['["cam/image_array"]', '["image_array"]', "{}", "{}", json.dumps(last)]
    (root / "manifest.json").write_text("\n".join(lines) + "\n")
    return root


def write_hevc(path: Path, count: int, size: tuple[int, int] = (64, 96)) -> None:
    """Write a raw HEVC stream whose picture n is of the grey value 4 n."""
    with av.open(str(path), "w", format="hevc") as container:
        stream = container.add_stream("libx265", rate=20)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"x265-params": "log-level=none:keyint=10", "preset": "ultrafast"}
        for number in range(count):
            image = np.full((*size, 3), 4 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_mit_drive(path: Path, count: int = 6, **changes: object) -> Path:
    """Write a drive of the MIT protocol at 30 Hz that turns to the left, further and further."""
    content: dict[str, object] = {
        "camera_front": np.stack([picture(n) for n in range(count)]),
        "timestamp": 1500000000.0 + np.arange(count) / 30,
        "inverse_r": np.arange(count) / 1000.0,
    }
    with h5py.File(path, "w") as file:
        for name, values in (content | changes).items():
            if values is not None:
                file[name] = values
    return path


def write_segment(folder: Path, count: int = 6) -> Path:
    """Write a segment of comma2k19 that drives straight at 10 m/s, its wheel at 3 degrees."""
    times = 1000.0 + np.arange(count) / 20
    sensor = times[0] - 0.01 + np.arange(5 * count) / 83
    content = {
        "global_pose/frame_times": times,
        "global_pose/frame_positions": np.arange(count)[:, None] * [0.5, 0, 0] + [6.4e6, 0, 0],
        "global_pose/frame_orientations": np.tile([1.0, 0, 0, 0], (count, 1)),
        "processed_log/CAN/steering_angle/t": sensor,
        "processed_log/CAN/steering_angle/value": np.full(len(sensor), 3.0),
        "processed_log/CAN/speed/t": sensor,
        "processed_log/CAN/speed/value": np.full((len(sensor), 1), 10.0),
    }
    for name, values in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:  # these have no suffix
            np.save(file, values)
    write_hevc(folder / "video.hevc", count)
    return folder


def write_small_steering(folder: Path) -> None:
    """Write one recording of each set of the README's commands."""
    write_tub(folder / "my_tub", [0.1] * 6)
    write_pictures(folder / "my_frames", [f"{n}.png" for n in range(6)])
    (folder / "my_frames.csv").write_text("\n".join(["frame,angle", *(f"{n},5" for n in range(6))]))
    write_pictures(folder / "udacity" / "IMG", [f"center_{n}.jpg" for n in range(6)])
    rows = [f"C:\\u\\IMG\\center_{n}.jpg,l.jpg,r.jpg,0.1,0,0,20" for n in range(6)]
    (folder / "udacity" / "driving_log.csv").write_text("\n".join(rows))
    write_pictures(folder / "driving_dataset", [f"{n}.jpg" for n in range(6)])
    rows = [f"{n}.jpg 2.5" for n in range(6)]
    (folder / "driving_dataset" / "data.txt").write_text("\n".join(rows))
    write_segment(folder / "comma2k19" / "a_route" / "3")
    (folder / "mit").mkdir()
    write_mit_drive(folder / "mit" / "drive.h5")


def moves_right(before: np.ndarray, after: np.ndarray) -> float:
    """Return how far the upper half of a picture moves to the right, px."""
    height, width = before.shape
    window = cv2.createHanningWindow((width, height // 2), cv2.CV_32F)
    halves = (np.float32(image[: height // 2]) for image in (before, after))
    return float(np.clip(cv2.phaseCorrelate(*halves, window)[0][0], -15, 15))  # some slip far
