"""One network, any image: what a frame shows, and what has moved since the one before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from unienc_core.checkpoint import Checkpoint, load_checkpoint
from unienc_core.device import resolve_device, resource_errors
from unienc_core.errors import ShapeError
from unienc_core.inference.frame_output import (
    MOTION_KEYS,
    FrameOutput,
    Output,
    check_able,
    outputs_of,
    usual_of,
)
from unienc_core.inference.neighbours import (
    EncodedFrame,
    check_finite,
    check_without_K,
    decode_pair,
    keys_of_pair,
    known_of_frame,
    read_motion,
    to_tensor,
)
from unienc_core.inference.segmenting import INSTANCES_TO_SHOW
from unienc_core.inference.single import decode_single
from unienc_core.inference.steering import GridWindow, Steering, SteeringHead
from unienc_core.inference.stream import with_next
from unienc_core.models.network import Network
from unienc_core.presets import Preset
from unienc_core.segmentation import Segmentation
from unienc_core.sentences import TASKS, Task
from unienc_core.trained import trained_network


class Predictor:
    """Run a network on images of any size, alone, in pairs, or as a stream.

    Args:
        network: Built from `preset`; moved to `device` and put in evaluation mode.
        preset: Gives the working size and the depth range.
        device: Where to compute.

    Attributes:
        outputs: What the network can say.
        usual: What it says if not asked for anything else, see `usual_of`.
        has_pose: Whether motion is among it.
        steering: What its steering head predicts, and of how many frames; None without one.
        classes: What label ids mean.
    """

    def __init__(
        self, network: Network, preset: Preset, device: torch.device | str = "cpu"
    ) -> None:
        self.preset = preset
        self.device = torch.device(device)
        with resource_errors(f"moving the network to {self.device}"):
            self.network = network.to(self.device).eval()
        self.steering = SteeringHead.of(network)
        steers: tuple[Output, ...] = ("steering",) if self.steering else ()
        self.outputs = (*outputs_of(network.produces), *steers)
        self.has_pose = "motion" in self.outputs
        self.usual = usual_of(self.outputs)
        self.classes = preset.classes
        self._previous: EncodedFrame | None = None
        self._window = self.window()

    def step(
        self,
        frame: np.ndarray,
        outputs: Collection[Output] | None = None,
        K: np.ndarray | None = None,
    ) -> FrameOutput:
        """Take the next frame of a stream; each frame is encoded once.

        What needs the frame after it (`looks_ahead`) is not said; `stream` says it.

        Args:
            frame: `H W 3`, uint8, RGB, any size.
            outputs: What to say of it; nothing else is computed. Default: the `usual`.
            K: `3 3`, px of the image; see `decode`.

        Raises:
            ShapeError: If it is not such an image.
            UsageError: If the network cannot say it.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        current = self.encode(frame)
        output = self.decode(current, self._previous, outputs, K=K, window=self._window)
        self._previous = current
        return output

    def reset(self) -> None:
        """Forget the previous frames: the next one starts a new stream."""
        self._previous, self._window = None, self.window()

    def predict(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        outputs: Collection[Output] | None = None,
        K: np.ndarray | None = None,
    ) -> FrameOutput:
        """Predict for one image, or for the second of (previous, current) or (.., .., next).

        A stream that `step` or `stream` is in the middle of is not disturbed.

        Args:
            images: `H W 3`, uint8, RGB, any size; one, two, or three, of which only networks that
                look at three frames at once (`looks_ahead`) take notice. Steering needs more frames
                and so comes from `stream` or `step`.
            outputs: What to say of it; nothing else is computed. Default: the `usual`.
            K: `3 3`, px of the images; see `decode`.

        Raises:
            ShapeError: If it is not such an image, or not one to three of them.
            UsageError: If the network cannot say it.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        row = [images] if isinstance(images, np.ndarray) else list(images)
        if not 1 <= len(row) <= 3:
            raise ShapeError(
                f"found {len(row)} images, expected one, (previous, current), or these and the next"
            )
        first, *others = [self.encode(image) for image in row]
        if not others:
            return self.decode(first, None, outputs)
        return self.decode(others[0], first, outputs, *others[1:], K=K)

    def window(self) -> GridWindow:
        """Return what `decode` keeps of the frames of one stream for steering, still empty."""
        return GridWindow(self.steering.num_frames if self.steering else 1)

    def stream(
        self,
        frames: Iterable[np.ndarray],
        outputs: Collection[Output] | None = None,
        K: np.ndarray | None = None,
    ) -> Iterator[FrameOutput]:
        """Predict for consecutive frames of a camera, as they come; each is encoded once.

        Any number of streams may run side by side. With a network that `looks_ahead` an output
        comes when the frame after it is there, and the last one is without what needs a next frame.

        Args:
            frames: `H W 3`, uint8, RGB, any size.
            outputs: What to say of each; nothing else is computed. Default: the `usual`.
            K: `3 3`, px of the frames; see `decode`.

        Yields:
            One output per frame, with the motion since the frame before; the first N - 1 have no
            steering where its head sees N frames.

        Raises:
            ShapeError: If a frame is not such an image.
            UsageError: If the network cannot say it.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        previous, window = None, self.window()
        for current, following in with_next(map(self.encode, frames), self.looks_ahead(outputs)):
            yield self.decode(current, previous, outputs, following, K, window)
            previous = current

    def looks_ahead(self, outputs: Collection[Output] | None = None) -> bool:
        """Tell whether something of these (default: the `usual`) needs the frame after it, too."""
        wanted = self._wanted(outputs)
        return keys_of_pair(self.network, wanted, False) != keys_of_pair(self.network, wanted, True)

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
        return decode_single(self.network, encoded, tasks, self.classes, 0.0)[1]

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
        outputs: Collection[Output] | None = None,
        following: EncodedFrame | None = None,
        K: np.ndarray | None = None,
        window: GridWindow | None = None,
    ) -> FrameOutput:
        """Predict for an encoded frame, and what has moved since `previous` if there is one.

        Args:
            current: The frame.
            previous: The one before it.
            outputs: What to say of it; nothing else is computed. Default: the `usual`. A network
                without a pose head says nothing of motion.
            following: The one after it, for a network that `looks_ahead`.
            K: `3 3`, px of the image, for a network whose motion heads are `aligned`; without it
                there is no flow and no mask.
            window: Of the frames before it, see `window`; where steering is wanted, the frame is
                added to it. Without one, the frame is the first of its stream.

        Raises:
            UsageError: If the network cannot say it, or not without K.
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        wanted = self._wanted(outputs)
        check_able(wanted - {"motion"}, self.outputs, self.preset.name)
        asked: dict[str, tuple[str, ...]] = {}
        if previous is not None:
            asked = keys_of_pair(self.network, wanted, following is not None, K is not None)
            if outputs is not None and K is None:
                check_without_K(self.network, wanted, self.preset.name)
        needed = wanted | ({"depth"} if "flow" in asked else set())
        disparity, segmentation = decode_single(
            self.network, current, needed, self.classes, INSTANCES_TO_SHOW
        )
        T_previous_current, scene_motion = None, None
        if previous is not None and asked:
            known = known_of_frame(current, disparity, K)
            made = decode_pair(self.network, previous, current, following, asked, known)
            T_previous_current = made.get("T_source_target")
            scene_motion = read_motion(made, asked, disparity, self.preset.depth)
        return FrameOutput(
            disparity if "depth" in wanted else None,
            self.preset.depth,
            current.size,
            T_previous_current if "motion" in wanted else None,
            segmentation,
            scene_motion,
            self._steer(current, window or self.window()) if "steering" in wanted else None,
        )

    def motion(self, previous: EncodedFrame, current: EncodedFrame) -> np.ndarray:
        """Predict the camera's motion between two encoded frames, said to be in order of time.

        Returns:
            T_previous_current, `4 4`, float64, see `FrameOutput`.

        Raises:
            IntegrityError: If the network's answer is not finite.
            ResourceError: If memory runs out.
        """
        asked = {"motion": MOTION_KEYS["motion"]}
        return decode_pair(self.network, previous, current, None, asked, {})["T_source_target"]

    def _steer(self, frame: EncodedFrame, window: GridWindow) -> Steering:
        assert self.steering is not None  # else the network cannot say it
        with resource_errors("inference"), torch.inference_mode():
            window.add(self.steering.grid(frame.pyramids))
            if window.num_missing:
                return Steering(None, window.num_missing)
            value = self.steering.read(self.network, window)
            check_finite(value)
            return Steering(float(value), 0)

    def _wanted(self, outputs: Collection[Output] | None) -> set[Output]:
        return set(self.usual if outputs is None else outputs)

    def _encode(self, frame: np.ndarray, size: tuple[int, int]) -> EncodedFrame:
        with resource_errors("inference"), torch.inference_mode():
            image = to_tensor(frame, size, self.device)
            pyramids = self.network.encode(image)
        return EncodedFrame(image, pyramids, (frame.shape[0], frame.shape[1]))


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
    return Predictor(trained_network(checkpoint), checkpoint.preset, target)
