"""Sanity of what a store holds beside its images: intrinsics, poses, times, depth and labels.

This module runs in worker processes and imports no torch.
"""

from __future__ import annotations

import math

import numpy as np

from unienc_core.classes import IGNORE_TRAIN_ID, INSTANCE_FACTOR, LABELS, NUM_TRAIN_CLASSES
from unienc_core.data.findings import Notes
from unienc_core.data.keys import LABEL_ID, TRAIN_ID
from unienc_core.data.manifest import KeySpec
from unienc_core.data.steering import kind_of

LEAST_FOV, GREATEST_FOV = 5.0, 170.0
MAX_SPEED = 100.0
MAX_TURN = 45.0
_ROTATION_ERROR = 1e-3
_JUMP_FACTOR, _JUMP_LEAST = 10.0, 1.0
_ZOOM = 1e-3
_SHIFT = 0.1
_FEW_VALID = 0.005

_PREPARE = "correct the source and prepare the store again"
_CALIBRATE = "give the camera's own calibration, in pixels of the stored image"
_KNOWN_IDS = np.array([label.id for label in LABELS if label.id >= 0])


def check_intrinsics(K: np.ndarray, image_size: tuple[int, int], notes: Notes) -> None:
    """Check the intrinsics of a drive.

    Args:
        K: `n 3 3`, px.
        image_size: (h, w).
        notes: Takes what is wrong.
    """
    height, width = image_size
    fx, fy, cx, cy = K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2]
    proper = np.isfinite(K).all((1, 2)) & (fx > 0) & (fy > 0)
    proper &= np.all(K[:, 2] == np.eye(3)[2], axis=1) & (K[:, 1, 0] == 0)
    bad = np.flatnonzero(~proper)
    notes.add("intrinsics", bad, "K is no camera matrix [fx s cx; 0 fy cy; 0 0 1]", _CALIBRATE)
    outside = proper & ~((cx > -0.5) & (cx < width - 0.5) & (cy > -0.5) & (cy < height - 0.5))
    if outside.any():
        i = int(np.argmax(outside))
        what = f"principal point ({cx[i]:.1f}, {cy[i]:.1f}) lies outside the {height}x{width} image"
        notes.add("intrinsics", np.flatnonzero(outside), what, _CALIBRATE)
    least, greatest = (math.tan(math.radians(angle) / 2) for angle in (LEAST_FOV, GREATEST_FOV))
    safe = np.where(proper[:, None], np.stack((fx, fy), 1), 1.0)
    halves = np.array([width, height]) / 2 / safe
    odd = proper & ((halves < least) | (halves > greatest)).any(1)
    if odd.any():
        i = int(np.argmax(odd))
        angles = 2 * np.degrees(np.arctan(halves[i]))
        what = (
            f"focal lengths ({fx[i]:.1f}, {fy[i]:.1f}) px mean a field of view of "
            f"{angles[0]:.1f} x {angles[1]:.1f} degrees, expected {LEAST_FOV:g} to {GREATEST_FOV:g}"
        )
        notes.add("intrinsics", np.flatnonzero(odd), what, _CALIBRATE)
    if proper.all():
        moved = np.abs(K - K[0])
        zoom = (moved[:, (0, 1), (0, 1)] / K[0, (0, 1), (0, 1)]).max(1) > _ZOOM
        varies = zoom | (moved[:, :2, 2].max(1) > _SHIFT)
        notes.add(
            "intrinsics-vary",
            np.flatnonzero(varies),
            "K differs from that of the first frame",
            "one drive is one camera: cut it where the camera changes",
        )


def check_poses(poses: np.ndarray, times: np.ndarray, notes: Notes) -> None:
    """Check camera poses of a drive: rigid, and without leaps.

    Args:
        poses: T_world_camera, `n 4 4`, m.
        times: `n`, s, increasing.
        notes: Takes what is wrong.
    """
    finite = np.all(np.isfinite(poses), axis=(1, 2))
    notes.add("poses", np.flatnonzero(~finite), "pose is not finite", _PREPARE)
    R = np.where(finite[:, None, None], poses[:, :3, :3], np.eye(3))
    off = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max((1, 2)) > _ROTATION_ERROR
    off |= np.linalg.det(R) < 0
    off |= finite & np.any(poses[:, 3] != np.eye(4)[3], axis=1)
    notes.add("poses", np.flatnonzero(off), "pose is no rotation and translation", _PREPARE)
    if len(poses) < 2 or not finite.all() or off.any():
        return
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    moving = steps[steps > 0.01]
    usual = float(np.median(moving)) if len(moving) else 0.0
    too_far = steps > max(_JUMP_LEAST, _JUMP_FACTOR * usual)
    too_fast = steps > MAX_SPEED * np.maximum(np.diff(times), 1e-6)
    trace = np.einsum("nij,nij->n", R[:-1], R[1:])
    turns = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    leaps = too_far | too_fast | (turns > MAX_TURN)
    if leaps.any():
        i = int(np.argmax(leaps))
        what = f"camera leaps by {steps[i]:.1f} m and {turns[i]:.0f} degrees from the frame before"
        notes.add("pose-leaps", np.flatnonzero(leaps) + 1, what, "cut the drive there")


def check_times(times: np.ndarray, notes: Notes) -> bool:
    """Check that the times of a drive, `n` in s, increase; say whether they do."""
    late = np.flatnonzero(~(np.diff(times) > 0)) + 1
    notes.add("timestamps", late, "time does not increase", _PREPARE)
    return not len(late)


def check_scalars(name: str, values: np.ndarray, notes: Notes) -> None:
    """Check that a column of numbers, `n ...`, is finite."""
    rows = values.reshape(len(values), -1)
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    notes.add("not-finite", bad, f"{name} is not finite", _PREPARE)


def check_steering(name: str, values: np.ndarray, notes: Notes) -> None:
    """Check steering labels, `n`, NaN where unknown: some known, none beyond a car's."""
    kind = kind_of(name)
    assert kind is not None
    size = np.abs(values.reshape(-1))
    if np.isnan(size).all():
        what = f"{name} is known of no frame"
        notes.add("coverage", range(len(size)), what, "look at the source", "warning")
    beyond = np.flatnonzero(size > kind.bound * (1 + 1e-6))
    if len(beyond):
        largest = size[beyond].max()
        what = f"{name} up to {largest:.4g}, expected +-{kind.bound:.4g} {kind.unit}"
        notes.add("labels", beyond, what, "give the unit that the source counts in")


def check_map(name: str, key: KeySpec, value: np.ndarray, frame: int, notes: Notes) -> float:
    """Check one map of one frame, by its unit.

    Returns:
        Share of its pixels that are valid.
    """
    if value.dtype.kind == "f":
        finite = np.isfinite(value)
        if not finite.all():
            notes.add("not-finite", frame, f"{name} holds NaN or infinity", _PREPARE)
        if key.role == "map" and key.unit == "m" and (value[finite] < 0).any():
            notes.add("negative", frame, f"{name} holds distances below 0", _PREPARE)
    elif key.unit in (LABEL_ID, TRAIN_ID, "id"):
        _check_labels(name, key.unit, value, frame, notes)
    elif key.unit == "bool" and ((value > 1) & (value != key.invalid)).any():
        notes.add("labels", frame, f"{name} holds more than 0 and 1", _PREPARE)
    return 1.0 if key.invalid is None else float((value != key.invalid).mean())


def check_coverage(name: str, shares: list[float], notes: Notes) -> None:
    """Check how much of a map with a mark for `unknown` is known.

    Args:
        name: The key.
        shares: Of each frame.
        notes: Takes what is wrong.
    """
    empty = [frame for frame, share in enumerate(shares) if share == 0]
    if len(empty) == len(shares):
        notes.add("coverage", empty, f"{name} holds no valid value", _PREPARE)
        return
    notes.add("coverage", empty, f"{name} holds no valid value", "look at the source", "warning")
    if not empty and np.mean(shares) < _FEW_VALID:
        what = f"{name} is valid on {np.mean(shares):.2%} of the pixels only"
        notes.add("coverage", range(len(shares)), what, "look at the source", "warning")


def _check_labels(name: str, unit: str, value: np.ndarray, frame: int, notes: Notes) -> None:
    found = np.unique(value).astype(np.int64)
    if unit == TRAIN_ID:
        unknown = found[(found >= NUM_TRAIN_CLASSES) & (found != IGNORE_TRAIN_ID)]
    else:
        ids = np.where(found >= INSTANCE_FACTOR, found // INSTANCE_FACTOR, found)
        unknown = found[~np.isin(ids if unit == "id" else found, _KNOWN_IDS)]
    if len(unknown):
        first = ", ".join(str(n) for n in unknown[:3])
        what = f"{name} holds {unit} {first}, which the class table does not have"
        notes.add("labels", frame, what, "map the labels to Cityscapes ids and prepare again")
