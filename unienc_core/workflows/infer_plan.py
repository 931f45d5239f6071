"""What is asked of `infer-video`, and what was understood of it."""

from __future__ import annotations

from dataclasses import dataclass

from unienc_core.data.steering import Vehicle
from unienc_core.inference.frame_output import Output
from unienc_core.inference.metric import refuse_ground_truth
from unienc_core.inference.span import Span, parse_moment
from unienc_core.metrics.scale import Scale, parse_scale
from unienc_core.workflows.infer_inputs import Reading, parse_fps
from unienc_core.workflows.infer_jobs import check_max_depth, parse_outputs, parse_sinks
from unienc_core.workflows.infer_steering import check_camera_height


@dataclass(frozen=True)
class VideoRequest:
    """What is wanted of the inputs, in the words of the command line.

    Attributes:
        sinks: ``mp4,png16,npz,h5,jsonl,ply`` or some of them; None for ``mp4``.
        outputs: ``depth,motion,flow,mask,semantic,instance,panoptic,steering`` or some of them,
            which alone are computed; None for all that the network can say.
        start: First moment: a frame number, or a time (``12.5s``, ``1:30``); None for the start.
        stop: The moment before which to stop; None for the end.
        stride: Every how many frames one is taken; motion is between frames that are taken.
        fps: Pictures a second of rows of pictures; None for 25.
        scale: ``camera_height=M`` (m), ``factor=F`` or ``none`` for depth in metres; None leaves it
            up to scale.
        intrinsics: ``FX,FY,CX,CY`` in pixels of the video; default: from the store, from the
            checkpoint, or 60 degrees.
        fov: Horizontal field of view in degrees, in place of `intrinsics`.
        drive: Drive of a store; default: its first.
        max_depth: Farthest point of ``ply``, in the unit of depth; None for 80 m, or without
            metres for 8 median depths of the first frame.
        camera_height: Of the camera above the road, m, for the path that steering draws; default:
            that of `scale`, of the store, or `USUAL_CAMERA_HEIGHT`.
        horizon: Row of the pictures, px, at which a flat road would end, for that path; default:
            that of the principal point, since the camera is level.
        steering_ratio: Angle of the steering wheel over that of the front wheels, which makes a
            path of a predicted wheel angle, with `wheelbase`.
        wheelbase: Between the axles, m.
    """

    sinks: str | None = None
    outputs: str | None = None
    start: str | None = None
    stop: str | None = None
    stride: int = 1
    fps: str | None = None
    scale: str | None = None
    intrinsics: str | None = None
    fov: float | None = None
    drive: str | None = None
    max_depth: float | None = None
    camera_height: float | None = None
    horizon: float | None = None
    steering_ratio: float | None = None
    wheelbase: float | None = None


@dataclass(frozen=True)
class Plan:
    """A request that was understood."""

    request: VideoRequest
    sinks: list[str]
    outputs: list[Output] | None
    reading: Reading
    span: Span
    scale: Scale | None
    vehicle: Vehicle

    @property
    def needs_camera(self) -> bool:
        """Whether metres come from the intrinsics."""
        return self.scale is not None and self.scale.mode == "camera_height"

    @property
    def path_options(self) -> list[str]:
        """Options that were given of the path on the road."""
        given = {
            "--camera-height": self.request.camera_height,
            "--horizon": self.request.horizon,
            "--steering-ratio": self.vehicle.steering_ratio,
            "--wheelbase": self.vehicle.wheelbase,
        }
        return [name for name, value in given.items() if value is not None]

    @property
    def camera_height(self) -> float | None:
        """Height of the camera above the road, m, if it is given in one way or another."""
        of_scale = self.scale.value if self.needs_camera and self.scale else None
        return self.request.camera_height or of_scale

    @classmethod
    def make(cls, request: VideoRequest) -> Plan:
        """Read a request.

        Raises:
            UsageError: If something in it makes no sense.
        """
        start, stop = request.start, request.stop
        span = Span(
            0 if start is None else parse_moment(start, "--start"),
            None if stop is None else parse_moment(stop, "--stop"),
            request.stride,
        )
        scale = None if request.scale is None else parse_scale(request.scale)
        refuse_ground_truth(scale)
        reading = Reading(request.drive, parse_fps(request.fps))
        sinks, outputs = parse_sinks(request.sinks), parse_outputs(request.outputs)
        check_max_depth(request.max_depth, sinks)
        check_camera_height(request.camera_height)
        vehicle = Vehicle(request.steering_ratio, request.wheelbase)
        return cls(request, sinks, outputs, reading, span, scale, vehicle)
