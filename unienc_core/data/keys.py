"""Declarations of the keys that several sources share, so that a name always means one thing."""

from __future__ import annotations

from typing import Literal

from unienc_core.data.manifest import KeySpec

LABEL_ID, TRAIN_ID = "label id", "train id"
"""Units of a map of classes; see `unienc_core.classes`."""

_MAP = ("H", "W")


def _flow(source: str) -> KeySpec:
    return KeySpec(
        dtype="float32",
        shape=(3, "H", "W"),
        unit="m",
        encoding="gzip",
        role="lateral_map",
        description=f"Own motion of actors to the {source} frame of the triplet, in that camera's "
        "frame; the camera's own motion follows from depth and poses.",
    )


def _wheel(unit: str) -> KeySpec:
    text = "Angle of the steering wheel, left positive."
    return KeySpec(dtype="float32", unit=unit, role="lateral", description=text)


STANDARD_KEYS: dict[str, KeySpec] = {
    "image": KeySpec(
        dtype="uint8",
        shape=("H", "W", 3),
        unit="sRGB",
        encoding="png",
        role="image",
        description="Colour image, RGB.",
    ),
    "K": KeySpec(
        dtype="float64",
        shape=(3, 3),
        unit="px",
        role="intrinsics",
        description="Intrinsics of the image as stored, pixel centres at integers.",
    ),
    "T_world_camera": KeySpec(
        dtype="float64",
        shape=(4, 4),
        unit="m",
        role="pose",
        description="Camera to world; x right, y down, z forward.",
    ),
    "timestamp": KeySpec(dtype="float64", unit="s", description="Time since the first frame."),
    "speed": KeySpec(dtype="float32", unit="m/s", description="Speed along the path."),
    "yaw_rate": KeySpec(
        dtype="float32", unit="rad/s", role="lateral", description="Turning rate, left positive."
    ),
    "curvature": KeySpec(
        dtype="float32", unit="1/km", role="lateral", description="Path curvature, left positive."
    ),
    "steering_wheel_deg": _wheel("deg"),
    "steering_wheel_rad": _wheel("rad"),
    "steering_unit": KeySpec(
        dtype="float32",
        unit="-1..1",
        role="lateral",
        description="Steering command, left positive.",
    ),
    "depth": KeySpec(
        dtype="float32",
        shape=_MAP,
        unit="m",
        encoding="gzip",
        role="map",
        invalid=0.0,
        description="Distance along the optical axis; 0 where there is none (sky).",
    ),
    "motion_mask": KeySpec(
        dtype="uint8",
        shape=_MAP,
        unit="bool",
        encoding="gzip",
        role="map",
        description="1 where an actor moves faster than 0.2 m/s.",
    ),
    "semantic": KeySpec(
        dtype="uint8",
        shape=_MAP,
        unit=LABEL_ID,
        encoding="gzip",
        role="map",
        invalid=0.0,
        description="Cityscapes label id; batches hold training ids.",
    ),
    "instance": KeySpec(
        dtype="int32",
        shape=_MAP,
        unit="id",
        encoding="gzip",
        role="map",
        description="Cityscapes instance id: label id x 1000 + number, or the label id alone.",
    ),
    "independent_flow_prev": _flow("previous"),
    "independent_flow_next": _flow("next"),
}


def standard_keys(
    *names: str, image_encoding: Literal["png", "jpeg"] = "png"
) -> dict[str, KeySpec]:
    """Return the declarations of `names`, the image encoded as asked."""
    keys = {name: STANDARD_KEYS[name] for name in names}
    if "image" in keys:
        keys["image"] = keys["image"].model_copy(update={"encoding": image_encoding})
    return keys
