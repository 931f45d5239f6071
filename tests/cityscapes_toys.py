"""A small Cityscapes on disk: true names and bits, tiny pictures, numbers that can be followed."""

import json
from pathlib import Path

import cv2
import numpy as np

SIZE = (16, 32)
FX, BASELINE, HEIGHT = 40.0, 0.25, 1.3


def camera(fx: float = FX) -> dict:
    return {
        "extrinsic": {"baseline": BASELINE, "pitch": 0.03, "x": 1.7, "z": HEIGHT},
        "intrinsic": {"fx": fx, "fy": fx + 1, "u0": 17.0, "v0": 7.0},
    }


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)


def write_small_cityscapes(root: Path, split: str, snippets: int = 2) -> list[str]:
    """Write snippets of 8 frames whose fifth is annotated; return the names of these."""
    stems = [f"ulm_{number:06d}_000004" for number in range(snippets)]
    for number, stem in enumerate(stems):
        write_sequence(root, split, "ulm", range(8), sequence=number)
        write_labels(root, split, stem, label_parts(number) | {"image": picture(1000 * number + 4)})
        write_camera(root, split, stem)
    return stems


def write_camera(root: Path, split: str, stem: str, fx: float = FX) -> None:
    write_json(root / "camera" / split / city(stem) / f"{stem}_camera.json", camera(fx))


def write_vehicle(
    root: Path, split: str, stem: str, speed: float, yaw_rate: float, part: str = "vehicle_sequence"
) -> None:
    record = {"gpsHeading": 281.0, "outsideTemperature": 15.5, "speed": speed, "yawRate": yaw_rate}
    write_json(root / part / split / city(stem) / f"{stem}_vehicle.json", record)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_sequence(root: Path, split: str, name: str, frames: range, sequence: int = 0) -> None:
    for frame in frames:
        stem = f"{name}_{sequence:06d}_{frame:06d}"
        path = root / "leftImg8bit_sequence" / split / name / f"{stem}_leftImg8bit.png"
        write_png(path, picture(1000 * sequence + frame)[..., ::-1])


def write_labels(root: Path, split: str, stem: str, parts: dict[str, np.ndarray]) -> None:
    """Write parts of a frame: image, labelIds, instanceIds, disparity, disparity_sequence."""
    places = {
        "image": ("leftImg8bit", "leftImg8bit"),
        "labelIds": ("gtFine", "gtFine_labelIds"),
        "instanceIds": ("gtFine", "gtFine_instanceIds"),
        "disparity": ("disparity", "disparity"),
        "disparity_sequence": ("disparity_sequence", "disparity"),
    }
    for part, values in parts.items():
        folder, suffix = places[part]
        path = root / folder / split / city(stem) / f"{stem}_{suffix}.png"
        write_png(path, values[..., ::-1] if part == "image" else values)


def label_parts(number: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    ids = rng.integers(0, 34, SIZE, np.uint8)
    ids[1:11, 3:16] = 26  # a car of 130 px: smaller ones are not scored
    codes = rng.integers(2, 20000, SIZE).astype(np.uint16)
    codes[0, :4] = [0, 1, 2, 257]
    instances = np.where(ids == 26, 26000 + number, ids.astype(np.uint16)).astype(np.uint16)
    return {
        "image": picture(number),
        "labelIds": ids,
        "instanceIds": instances,
        "disparity": codes,
    }


def write_png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def city(stem: str) -> str:
    return stem.rsplit("_", 2)[0]
