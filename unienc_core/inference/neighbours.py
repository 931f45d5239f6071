"""Encoded frames, and what a network says of one beside those before and after it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from unienc_core.contracts import FeaturePyramid, Predictions, concat_pyramids
from unienc_core.data.resample import resize_image
from unienc_core.device import resource_errors
from unienc_core.errors import IntegrityError, ShapeError, UsageError
from unienc_core.geometry.camera import resize_K
from unienc_core.inference.frame_output import MOTION_KEYS
from unienc_core.inference.scene_motion import SceneMotion
from unienc_core.models.network import Network
from unienc_core.presets import DepthSpec


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


def keys_of_pair(
    network: Network, wanted: Collection[str], has_next: bool, has_K: bool = True
) -> dict[str, tuple[str, ...]]:
    """Return which predictions are behind what can be said of two frames.

    Args:
        network: Its heads decide what there is.
        wanted: Some of `OUTPUTS`.
        has_next: Whether the frame after the two is there: some heads look at three at once.
        has_K: Whether the camera is known: some heads align the two by its motion.

    Returns:
        Keys by output. Left out is what the network cannot say, or not without a next frame or K.
    """
    found: dict[str, tuple[str, ...]] = {}
    for output, keys in MOTION_KEYS.items():
        if output == "flow":  # it is masked, where there is a mask
            keys = (*keys, *(key for key in MOTION_KEYS["mask"] if key in network.produces))
        able = output in wanted and set(keys) <= set(network.produces)
        able = able and (has_next or not _see_next(network, keys))
        if able and (has_K or not _need_K(network, keys)):
            found[output] = keys
    return found


def check_without_K(network: Network, wanted: Collection[str], name: str) -> None:
    """Check that nothing of what was asked for needs the camera.

    Raises:
        UsageError: Naming the network and what it cannot say.
    """
    known, unknown = (keys_of_pair(network, wanted, True, has_K) for has_K in (True, False))
    if lost := [output for output in known if output not in unknown]:
        raise UsageError(
            f"the network of '{name}' sees {' and '.join(lost)} beside the camera's own motion, "
            "which needs its intrinsics: give K"
        )


def known_of_frame(
    frame: EncodedFrame, disparity: np.ndarray | None, K: np.ndarray | None
) -> dict[str, Tensor]:
    """Return what is known of a frame and heads may require: `K` at its size, `disparity`.

    Args:
        frame: The target.
        disparity: `h w`.
        K: `3 3`, px of the input image.
    """
    known: dict[str, Tensor] = {}
    if K is not None:
        own_size = (frame.image.shape[2], frame.image.shape[3])
        known["K"] = resize_K(torch.as_tensor(K).double(), frame.size, own_size).float()[None]
    if disparity is not None:
        known["disparity"] = torch.from_numpy(disparity)[None, None]
    return {key: value.to(frame.image.device) for key, value in known.items()}


def _need_K(network: Network, keys: Collection[str]) -> bool:
    return any("K" in network.wiring.producer[key].module.requires for key in keys)


def _see_next(network: Network, keys: Collection[str]) -> bool:
    return any(network.wiring.producer[key].view == "triple" for key in keys)


def decode_pair(
    network: Network,
    previous: EncodedFrame,
    current: EncodedFrame,
    following: EncodedFrame | None,
    asked: Mapping[str, Collection[str]],
    known: Mapping[str, Tensor],
) -> dict[str, np.ndarray]:
    """Run the heads that see several frames, once each.

    Args:
        network: In evaluation mode.
        previous: The source.
        current: The target.
        following: The frame after it, which heads of three frames need.
        asked: From `keys_of_pair`.
        known: From `known_of_frame` of the target.

    Returns:
        Predictions of the target with the previous frame as its source, without the first two
        axes; float32, poses float64.

    Raises:
        IntegrityError: If they are not finite.
        ResourceError: If memory runs out.
    """
    keys = {key for needed in asked.values() for key in needed}
    with resource_errors("inference"), torch.inference_mode():
        if following is not None and _see_next(network, keys):
            made = decode_triple(network, previous, current, following, keys, known)
        else:
            made = network.decode_pair(
                previous.pyramids,
                current.pyramids,
                torch.cat([previous.image, current.image], 1),
                values={
                    **known,
                    "source_offsets": torch.tensor([[-1]], device=current.image.device),
                },
                outputs=keys,
            )
        found = {key: cast(Tensor, made[key])[0, 0] for key in keys}
        check_finite(*found.values())
        return {
            key: (value.double() if key == "T_source_target" else value.float()).cpu().numpy()
            for key, value in found.items()
        }


def decode_triple(
    network: Network,
    previous: EncodedFrame,
    current: EncodedFrame,
    following: EncodedFrame,
    keys: Collection[str],
    known: Mapping[str, Tensor],
    gap: int = 1,
) -> Predictions:
    """Run the heads that see a frame and those before and after it, or pairs among the three.

    Args:
        network: In evaluation mode.
        previous: The earlier source.
        current: The target.
        following: The later source.
        keys: Predictions wanted.
        known: From `known_of_frame` of the target.
        gap: Frames from the target to either source.

    Returns:
        Predictions of the target with both as its sources, the earlier first: `1 2 ...`.
    """
    both = {
        name: concat_pyramids([pyramid, following.pyramids[name]], axis=0)
        for name, pyramid in previous.pyramids.items()
    }
    return network.decode_triple(
        both,
        current.pyramids,
        torch.cat([previous.image, current.image, following.image], 1),
        values={
            **known,
            "source_offsets": torch.tensor([[-gap, gap]], device=current.image.device),
        },
        outputs=keys,
    )


def read_motion(
    made: Mapping[str, np.ndarray],
    asked: Collection[str],
    disparity: np.ndarray | None,
    depth_spec: DepthSpec,
) -> SceneMotion | None:
    """Return what moves by itself, if that was asked for.

    Args:
        made: Predictions of the pair: `complete_flow` `3 h w`, `motion_logits` `1 h w`,
            `T_source_target` `4 4`.
        asked: Outputs.
        disparity: Of the current frame.
        depth_spec: How it becomes depth.
    """
    if not {"flow", "mask"} & set(asked):
        return None
    logits = made.get("motion_logits")
    mask = None if logits is None else torch.from_numpy(logits[0]).sigmoid().numpy()
    if "flow" not in asked:
        return SceneMotion(mask, None, None, None, depth_spec)
    flow, T_previous_current = made["complete_flow"], made["T_source_target"]
    return SceneMotion(mask, flow, disparity, T_previous_current, depth_spec)


def to_tensor(frame: np.ndarray, size: tuple[int, int], device: torch.device) -> Tensor:
    """Resize an image as training does; `1 3 h w`, 0..1.

    Raises:
        ShapeError: If it is none.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ShapeError(
            f"image is {frame.dtype} {frame.shape}, expected uint8 (height, width, 3) in RGB"
        )
    image = np.ascontiguousarray(resize_image(frame, size))
    tensor = torch.from_numpy(image).to(device)
    return tensor.permute(2, 0, 1).unsqueeze(0).float().div_(255.0)


def check_finite(*predictions: Tensor) -> None:
    """Check what a network says.

    Raises:
        IntegrityError: If some of it is NaN or infinite.
    """
    if not all(bool(prediction.isfinite().all()) for prediction in predictions):
        raise IntegrityError("the network predicts NaN or infinity; use another checkpoint")
