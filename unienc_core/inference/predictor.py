"""One network, any image: what a frame shows, and the camera's motion since the one before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from unienc_core.checkpoint import Checkpoint, load_checkpoint, load_tensors
from unienc_core.contracts import FeaturePyramid
from unienc_core.data.resample import resize_image
from unienc_core.device import resolve_device, resource_errors
from unienc_core.errors import IntegrityError, ShapeError
from unienc_core.inference.frame_output import (
    DEPTH_AND_MOTION,
    FrameOutput,
    Output,
    check_able,
    outputs_of,
)
from unienc_core.inference.segmenting import INSTANCES_TO_SHOW, segment_pixels
from unienc_core.models.network import Network, build_network
from unienc_core.presets import Preset
from unienc_core.segmentation import Segmentation
from unienc_core.sentences import TASKS, Task


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

    Attributes:
        outputs: What the network can say.
        has_pose: Whether motion is among it.
        classes: What label ids mean.
    """

    def __init__(
        self, network: Network, preset: Preset, device: torch.device | str = "cpu"
    ) -> None:
        self.preset = preset
        self.device = torch.device(device)
        with resource_errors(f"moving the network to {self.device}"):
            self.network = network.to(self.device).eval()
        self.outputs = outputs_of(network.produces)
        self.has_pose = "motion" in self.outputs
        self.classes = preset.classes
        self._previous: EncodedFrame | None = None

    def step(
        self, frame: np.ndarray, outputs: Collection[Output] = DEPTH_AND_MOTION
    ) -> FrameOutput:
        """Take the next frame of a stream; each frame is encoded once.

        Args:
            frame: `H W 3`, uint8, RGB, any size.
            outputs: What to say of it; nothing else is computed.

        Raises:
            ShapeError: If it is not such an image.
            UsageError: If the network cannot say it.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        current = self.encode(frame)
        output = self.decode(current, self._previous, outputs)
        self._previous = current
        return output

    def reset(self) -> None:
        """Forget the previous frame: the next one starts a new stream."""
        self._previous = None

    def predict(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        outputs: Collection[Output] = DEPTH_AND_MOTION,
    ) -> FrameOutput:
        """Predict for one image, or for the second of a pair (previous, current).

        A stream that `step` or `stream` is in the middle of is not disturbed.

        Args:
            images: `H W 3`, uint8, RGB, any size; one, or two.
            outputs: What to say of it; nothing else is computed.

        Raises:
            ShapeError: If it is not such an image, or not one or two of them.
            UsageError: If the network cannot say it.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        row = [images] if isinstance(images, np.ndarray) else list(images)
        if not 1 <= len(row) <= 2:
            raise ShapeError(f"found {len(row)} images, expected one or (previous, current)")
        encoded = [self.encode(image) for image in row]
        return self.decode(encoded[-1], encoded[0] if len(encoded) == 2 else None, outputs)

    def stream(
        self, frames: Iterable[np.ndarray], outputs: Collection[Output] = DEPTH_AND_MOTION
    ) -> Iterator[FrameOutput]:
        """Predict for consecutive frames of a camera, as they come; each is encoded once.

        Any number of streams may run side by side.

        Args:
            frames: `H W 3`, uint8, RGB, any size.
            outputs: What to say of each; nothing else is computed.

        Yields:
            One output per frame, with the motion since the frame before.

        Raises:
            ShapeError: If a frame is not such an image.
            UsageError: If the network cannot say it.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        previous = None
        for frame in frames:
            current = self.encode(frame)
            yield self.decode(current, previous, outputs)
            previous = current

    def segment(self, image: np.ndarray, tasks: Collection[Task] = TASKS) -> Segmentation:
        """Segment one image as benchmarks want it: at `eval_size`, with all instances, ranked.

        Args:
            image: `H W 3`, uint8, RGB, any size.
            tasks: What to find. All of them share the encoder and the pixel decoder.

        Returns:
            The tasks, at the size of the image, in label ids of `classes`.

        Raises:
            ShapeError: If it is not such an image.
            UsageError: If the network does not segment.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        check_able(tasks, self.outputs, self.preset.name)
        encoded = self._encode(image, self.preset.eval_size or self.preset.image_size)
        return self._decode_frame(encoded, tasks, instance_threshold=0.0)[1]

    def encode(self, frame: np.ndarray) -> EncodedFrame:
        """Do what depends on one frame alone, once, for any number of `decode` and `motion`.

        Args:
            frame: `H W 3`, uint8, RGB, any size.

        Raises:
            ShapeError: If it is not such an image.
            ResourceError: If memory runs out.
        """
        return self._encode(frame, self.preset.image_size)

    def decode(
        self,
        current: EncodedFrame,
        previous: EncodedFrame | None = None,
        outputs: Collection[Output] = DEPTH_AND_MOTION,
    ) -> FrameOutput:
        """Predict for an encoded frame, and the motion since `previous` if there is one.

        Args:
            current: The frame.
            previous: The one before it.
            outputs: What to say of it; nothing else is computed. A network without a pose head
                says nothing of motion.

        Raises:
            UsageError: If the network cannot say it.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        check_able(set(outputs) - {"motion"}, self.outputs, self.preset.name)
        disparity, segmentation = self._decode_frame(current, outputs, INSTANCES_TO_SHOW)
        T_previous_current = None
        if previous is not None and "motion" in outputs and self.has_pose:
            T_previous_current = self.motion(previous, current)
        return FrameOutput(
            disparity, self.preset.depth, current.size, T_previous_current, segmentation
        )

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
        _check_finite(T_source_target)
        return T_source_target.reshape(4, 4).double().cpu().numpy()

    def _encode(self, frame: np.ndarray, size: tuple[int, int]) -> EncodedFrame:
        with resource_errors("inference"), torch.inference_mode():
            image = self._to_tensor(frame, size)
            pyramids = self.network.encode(image)
        return EncodedFrame(image, pyramids, (frame.shape[0], frame.shape[1]))

    def _decode_frame(
        self, frame: EncodedFrame, outputs: Collection[str], instance_threshold: float
    ) -> tuple[np.ndarray | None, Segmentation]:
        """Run the heads that see one frame, as far as somebody wants what they make."""
        tasks: list[Task] = [task for task in TASKS if task in outputs]
        keys = ("disparity",) if "depth" in outputs else ()
        keys += ("class_logits", "mask_logits") if tasks else ()
        if not keys:
            return None, Segmentation()
        with resource_errors("inference"), torch.inference_mode():
            image = frame.image
            numbers = torch.tensor([[TASKS.index(task) for task in tasks]], device=image.device)
            made = self.network.decode_frame(frame.pyramids, image, {"task": numbers}, keys)
            values = [cast(Tensor, made[key])[0].float() for key in keys]
            _check_finite(*values)
            disparity = values.pop(0)[0].cpu().numpy() if "depth" in outputs else None
            if not tasks:
                return disparity, Segmentation()
            seen = (image.shape[2], image.shape[3])
            classes, masks = values
            return disparity, segment_pixels(
                classes, masks, tasks, seen, frame.size, self.classes, instance_threshold
            )

    def _to_tensor(self, frame: np.ndarray, size: tuple[int, int]) -> Tensor:
        """Resize as training does; `1 3 h w`, 0..1."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ShapeError(
                f"image is {frame.dtype} {frame.shape}, expected uint8 (height, width, 3) in RGB"
            )
        image = resize_image(frame, size)
        tensor = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        return tensor.permute(2, 0, 1).unsqueeze(0).float().div_(255.0)


def _check_finite(*predictions: Tensor) -> None:
    if not all(bool(prediction.isfinite().all()) for prediction in predictions):
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
    """Build the network of an opened checkpoint, without what only training runs, and fill it."""
    target = resolve_device(device)
    network = build_network(checkpoint.preset, load_pretrained=False)
    dropped = network.drop_training_parts()
    kept = {k: v for k, v in checkpoint.model_tensors().items() if not k.startswith(dropped)}
    load_tensors(network, kept, str(checkpoint.path))
    return Predictor(network, checkpoint.preset, target)
