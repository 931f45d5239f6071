"""One network, any image: depth of a frame and the camera's motion since the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from torch import Tensor

from unienc_core.checkpoint import Checkpoint, load_checkpoint, load_tensors
from unienc_core.contracts import FeaturePyramid
from unienc_core.data.resample import resize_image
from unienc_core.device import resolve_device, resource_errors
from unienc_core.errors import IntegrityError, ShapeError
from unienc_core.geometry.camera import disparity_to_depth
from unienc_core.models.network import Network, build_network
from unienc_core.presets import DepthSpec, Preset


@dataclass(frozen=True)
class FrameOutput:
    """What the network says about one frame.

    Attributes:
        disparity: `h w`, float32, 0..1, at the size the head works in.
        depth_spec: How disparity becomes depth.
        size: (H, W) of the input image.
        T_previous_current: `4 4`, float64, X_previous = T X_current, translation in the unit of
            `depth`; None where there is no previous frame.
    """

    disparity: np.ndarray
    depth_spec: DepthSpec
    size: tuple[int, int]
    T_previous_current: np.ndarray | None

    @cached_property
    def depth(self) -> np.ndarray:
        """Depth at the size of the input, `H W`, float32, up to scale."""
        return self.depth_at(self.size)

    def depth_at(self, size: tuple[int, int]) -> np.ndarray:
        """Return depth at another size (height, width), float32, up to scale.

        Disparity is what is interpolated: between a car and the sky lies no surface half way.
        """
        height, width = size
        full = cv2.resize(self.disparity, (width, height), interpolation=cv2.INTER_LINEAR)
        spec = self.depth_spec
        return disparity_to_depth(
            torch.from_numpy(full), spec.min, spec.max, spec.convention
        ).numpy()


@dataclass(frozen=True)
class EncodedFrame:
    """All that depends on one frame alone, from `Predictor.encode`.

    Attributes:
        image: `1 3 h w`, 0..1, at the network's size.
        pyramids: What the encoders and necks made of it, by name.
        size: (H, W) of the input image.
    """

    image: Tensor
    pyramids: dict[str, FeaturePyramid]
    size: tuple[int, int]


class Predictor:
    """Run a network on images of any size, alone, in pairs, or as a stream.

    Args:
        network: Built from `preset`; moved to `device` and put in evaluation mode.
        preset: Gives the working size and the depth range.
        device: Where to compute.
    """

    def __init__(
        self, network: Network, preset: Preset, device: torch.device | str = "cpu"
    ) -> None:
        self.preset = preset
        self.device = torch.device(device)
        with resource_errors(f"moving the network to {self.device}"):
            self.network = network.to(self.device).eval()
        self.has_pose = "T_source_target" in network.produces
        self._previous: EncodedFrame | None = None

    def step(self, frame: np.ndarray) -> FrameOutput:
        """Take the next frame of a stream; each frame is encoded once.

        Args:
            frame: `H W 3`, uint8, RGB, any size.

        Raises:
            ShapeError: If it is not such an image.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        current = self.encode(frame)
        output = self.decode(current, self._previous)
        self._previous = current
        return output

    def reset(self) -> None:
        """Forget the previous frame: the next one starts a new stream."""
        self._previous = None

    def predict(self, images: np.ndarray | Sequence[np.ndarray]) -> FrameOutput:
        """Predict for one image, or for the second of a pair (previous, current).

        A stream that `step` or `stream` is in the middle of is not disturbed.

        Args:
            images: `H W 3`, uint8, RGB, any size; one, or two.

        Raises:
            ShapeError: If it is not such an image, or not one or two of them.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        row = [images] if isinstance(images, np.ndarray) else list(images)
        if not 1 <= len(row) <= 2:
            raise ShapeError(f"found {len(row)} images, expected one or (previous, current)")
        encoded = [self.encode(image) for image in row]
        return self.decode(encoded[-1], encoded[0] if len(encoded) == 2 else None)

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[FrameOutput]:
        """Predict for consecutive frames of a camera, as they come; each is encoded once.

        Any number of streams may run side by side.

        Args:
            frames: `H W 3`, uint8, RGB, any size.

        Yields:
            One output per frame, with the motion since the frame before.

        Raises:
            ShapeError: If a frame is not such an image.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        previous = None
        for frame in frames:
            current = self.encode(frame)
            yield self.decode(current, previous)
            previous = current

    def encode(self, frame: np.ndarray) -> EncodedFrame:
        """Do what depends on one frame alone, once, for any number of `decode` and `motion`.

        Args:
            frame: `H W 3`, uint8, RGB, any size.

        Raises:
            ShapeError: If it is not such an image.
            ResourceError: If memory runs out.
        """
        with resource_errors("inference"), torch.inference_mode():
            image = self._to_tensor(frame)
            pyramids = self.network.encode(image)
        return EncodedFrame(image, pyramids, (frame.shape[0], frame.shape[1]))

    def decode(self, current: EncodedFrame, previous: EncodedFrame | None = None) -> FrameOutput:
        """Predict for an encoded frame, and the motion since `previous` if there is one.

        Raises:
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        with resource_errors("inference"), torch.inference_mode():
            values = self.network.decode_frame(
                current.pyramids, current.image, outputs=("disparity",)
            )
        disparity = cast(Tensor, values["disparity"])[0, 0].float().cpu().numpy()
        _check_finite(disparity)
        T_previous_current = None
        if previous is not None and self.has_pose:
            T_previous_current = self.motion(previous, current)
        return FrameOutput(disparity, self.preset.depth, current.size, T_previous_current)

    def motion(self, previous: EncodedFrame, current: EncodedFrame) -> np.ndarray:
        """Predict the camera's motion between two encoded frames, said to be in order of time.

        Returns:
            T_previous_current, `4 4`, float64, see `FrameOutput`.

        Raises:
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        with resource_errors("inference"), torch.inference_mode():
            images = torch.cat([previous.image, current.image], 1)
            pair = self.network.decode_pair(
                previous.pyramids,
                current.pyramids,
                images,
                values={"source_offsets": torch.tensor([[-1]], device=images.device)},
                outputs=("T_source_target",),
            )
        T_source_target = cast(Tensor, pair["T_source_target"])
        T_previous_current = T_source_target.reshape(4, 4).double().cpu().numpy()
        _check_finite(T_previous_current)
        return T_previous_current

    def _to_tensor(self, frame: np.ndarray) -> Tensor:
        """Resize to the preset's size as training does; `1 3 h w`, 0..1."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ShapeError(
                f"image is {frame.dtype} {frame.shape}, expected uint8 (height, width, 3) in RGB"
            )
        image = resize_image(frame, self.preset.image_size)
        tensor = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        return tensor.permute(2, 0, 1).unsqueeze(0).float().div_(255.0)


def _check_finite(prediction: np.ndarray) -> None:
    if not np.isfinite(prediction).all():
        raise IntegrityError("the network predicts NaN or infinity; use another checkpoint")


def load_predictor(path: Path | str, device: str = "auto") -> Predictor:
    """Load a checkpoint as a predictor.

    Args:
        path: Checkpoint folder, its model file, or a run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DataError: If there is nothing at `path`.
        CheckpointError: If the checkpoint is damaged or of other shapes.
        UsageError: If there is no such device.
    """
    return predictor_from(load_checkpoint(Path(path)), device)


def predictor_from(checkpoint: Checkpoint, device: str = "auto") -> Predictor:
    """Build the network of an opened checkpoint and fill in its weights."""
    target = resolve_device(device)
    network = build_network(checkpoint.preset, load_pretrained=False)
    load_tensors(network, checkpoint.model_tensors(), str(checkpoint.path))
    return Predictor(network, checkpoint.preset, target)
