"""The path that `infer-video` lays on the road: whether there can be one, and where it lies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from unienc_core.contracts import Say
from unienc_core.data.steering import COMMAND, CURVATURE, Vehicle, check_conversion
from unienc_core.errors import UsageError
from unienc_core.inference.frames import SourceInfo
from unienc_core.inference.road_path import USUAL_CAMERA_HEIGHT, RoadPath
from unienc_core.inference.steering import SteeringHead
from unienc_core.workflows.intrinsics import Intrinsics

HIGHEST = 20.0


def check_camera_height(height: float | None) -> None:
    """Check the height of a camera above the road, m.

    Raises:
        UsageError: If no camera on a vehicle is there.
    """
    if height is not None and not (math.isfinite(height) and 0 < height <= HIGHEST):
        raise UsageError(f"--camera-height {height:g}: expected metres, above 0 to {HIGHEST:g}")


def check_horizon(horizon: float | None, infos: Iterable[SourceInfo]) -> None:
    """Check that a horizon is in the pictures of all clips.

    Raises:
        UsageError: Naming the first clip where it is not.
    """
    for info in infos:
        if horizon is not None and not 0 <= horizon < info.height:
            raise UsageError(
                f"--horizon {horizon:g}: expected a row of {info.path}, 0 to {info.height - 1}"
            )


def check_path_options(
    given: Sequence[str], head: SteeringHead | None, vehicle: Vehicle, is_drawn: bool
) -> None:
    """Refuse options of the path where they change nothing.

    Args:
        given: Options of the path that were given.
        head: Of the network.
        vehicle: What was said of the car.
        is_drawn: Whether steering is predicted, and pictures are wanted.

    Raises:
        UsageError: Naming the options.
    """
    if given and (head is None or not is_drawn):
        raise UsageError(
            f"{' and '.join(given)}: for the path of steering in pictures, so --outputs must have "
            "steering and --sink mp4"
        )
    if given and head is not None and head.kind.name == COMMAND:
        raise UsageError(
            f"{' and '.join(given)}: for the path of steering on the road, but the network "
            f"predicts {head.key}, and what a command of -1..1 does is not known"
        )
    if head is not None and is_drawn and head.kind.name == CURVATURE and vehicle != Vehicle():
        raise UsageError(
            f"--steering-ratio and --wheelbase: for wheel angles, but the network predicts "
            f"{head.key}"
        )


def means_a_path(head: SteeringHead, vehicle: Vehicle, say: Say) -> bool:
    """Tell whether what a head predicts can be a path; if not, that is said.

    Raises:
        UsageError: If what was given of the car does not make one of it.
    """
    try:
        check_conversion(head.kind.name, CURVATURE, vehicle)
    except UsageError as error:
        if vehicle != Vehicle():
            raise
        say(f"no path is drawn on the road: {error}")
        return False
    return True


def lay_path(
    head: SteeringHead,
    vehicle: Vehicle,
    height: float | None,
    horizon: float | None,
    info: SourceInfo,
    camera: Intrinsics,
    say: Say,
) -> RoadPath | None:
    """Return how the path of a clip lies on the road; None, and said, if its camera is not known.

    Args:
        head: What is predicted.
        vehicle: What was said of the car.
        height: Of the camera above the road, m, if given; else the clip's own, or the usual one.
        horizon: Row at which a flat road would end, px, if given, see `check_horizon`; else the
            camera is level.
        info: The clip.
        camera: Its intrinsics.
        say: Told why there is none.
    """
    if camera.origin == "assumed":
        say(
            f"{info.path}: no path is drawn on the road, since the camera's intrinsics are not "
            "known (--K or --fov give them)"
        )
        return None
    pitch = 0.0 if horizon is None else math.atan((horizon - camera.K[1, 2]) / camera.K[1, 1])
    return RoadPath(head.key, height or info.camera_height or USUAL_CAMERA_HEIGHT, vehicle, pitch)
