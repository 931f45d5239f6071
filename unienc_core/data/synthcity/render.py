"""The public face of the synthetic city: a seed in, frames with exact ground truth out.

Labels, depth and flow belong to the ray through a pixel's centre (centres are integers), cast at
the parts that at least one colour ray of the frame sees; the colour is the mean of rays spread
evenly over the pixel.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from unienc_core.data.synthcity.config import CityConfig, stream
from unienc_core.data.synthcity.flow import displacements
from unienc_core.data.synthcity.geometry import perspective_boxes, perspective_forms
from unienc_core.data.synthcity.ground import (
    GROUND_LABELS,
    Eye,
    GroundHits,
    fill_ground,
    lay_ground,
)
from unienc_core.data.synthcity.paint_ground import paint_ground
from unienc_core.data.synthcity.parts import view_frames
from unienc_core.data.synthcity.raster import Raster
from unienc_core.data.synthcity.shading import light_up, paint_sky, shade_parts
from unienc_core.data.synthcity.shadows import Shadows
from unienc_core.data.synthcity.shapes import FACES
from unienc_core.data.synthcity.surfaces import make_table
from unienc_core.data.synthcity.world import World, build_world
from unienc_core.errors import UsageError

_FAR_CLIP = 260.0

_FILTER = 1.15
"""Width in pixels of the area that a texture is averaged over, before supersampling."""


class City:
    """A driving world that renders any of its frames, in any order and any process alike.

    Attributes:
        config: What it was made from.
        world: What it consists of.
        K: `3 3` float64 intrinsics in pixels, pixel centres at integers.
        num_frames: Frames of the drive.
    """

    def __init__(self, config: CityConfig) -> None:
        self.config = config
        self.num_frames = config.num_frames
        self.world: World = build_world(config)
        height, width = config.image_size
        rng = stream(config, 7)
        focal = 0.8 * width
        shift = 1.0 if rng.random() < 0.5 else -1.0
        cx = (width - 1) / 2 + shift * float(rng.uniform(0.008, 0.03)) * width
        cy = 0.45 * height - 0.5 + float(rng.uniform(-0.01, 0.01)) * height
        self.K = np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])

    def render(self, index: int, flow_to: tuple[int, ...] = ()) -> dict[str, Any]:
        """Render one frame with all its labels.

        Args:
            index: Frame, 0 .. num_frames - 1.
            flow_to: Neighbours as offsets, such as (-1, 1); their flow is added as
                ``complete_flow_prev`` / ``complete_flow_next`` (or ``complete_flow_<offset>``).

        Returns:
            ``image`` `H W 3` uint8 RGB; ``depth`` `H W` float32 z-depth in m, 0 = sky;
            ``semantic`` `H W` uint8 label ids; ``instance_ids`` `H W` int32; ``motion_mask``
            `H W` uint8, 1 = faster than 0.2 m/s; with `shadows`, ``shadow`` `H W` uint8, the
            share of a pixel that lies in cast shadow, 255 = all; ``K`` `3 3`;
            ``T_world_camera`` `4 4`; ``speed`` m/s; ``curvature`` 1/km, left positive;
            ``timestamp`` s.

        Raises:
            UsageError: If a frame does not exist.
        """
        self._check(index)
        view = _View(self, index)
        frame: dict[str, Any] = {**view.colours(), **view.labels()}
        drive = self.world.drive
        frame["K"] = self.K.copy()
        frame["T_world_camera"] = drive.T_world_camera[index].copy()
        frame["speed"] = float(drive.speed[index])
        frame["curvature"] = float(drive.curvature[index])
        frame["timestamp"] = float(drive.timestamp[index])
        for offset in flow_to:
            name = {1: "next", -1: "prev"}.get(offset, str(offset))
            self._check(index + offset)
            frame[f"complete_flow_{name}"] = view.complete_flow(index + offset)
        return frame

    def complete_flow(self, index: int, neighbour: int) -> np.ndarray:
        """Return X_source - X_target `H W 3` float32 in m, each point in its own camera's frame.

        Args:
            index: The target frame.
            neighbour: The source frame.

        Raises:
            UsageError: If a frame does not exist.
        """
        self._check(index)
        self._check(neighbour)
        return _View(self, index).complete_flow(neighbour)

    def _check(self, index: int) -> None:
        if not 0 <= index < self.num_frames:
            raise UsageError(f"city: frame {index} asked for, there are {self.num_frames}")


class _View:
    """One frame in the making."""

    def __init__(self, city: City, index: int) -> None:
        self._city, self._index = city, index
        self._world, self._config = city.world, city.config
        pose = self._world.drive.T_world_camera[index]
        self._eye = Eye(pose[:3, :3], pose[:3, 3], _FILTER / float(city.K[0, 0]))
        parts = self._world.parts
        center, sin, cos = parts.place(self._world.poses[:, index])
        numbers = self._candidates(center)
        self._numbers = numbers
        self._heading = (sin[numbers], cos[numbers])
        self._frames = view_frames(
            center[numbers],
            sin[numbers],
            cos[numbers],
            parts.half[numbers],
            parts.shape[numbers],
            self._eye.rotation,
            self._eye.position,
        )
        self._forms = perspective_forms(self._frames)
        self._boxes, nearest = perspective_boxes(self._frames)
        self._highest = 1.0 / nearest
        everything = np.arange(len(numbers))
        self._fine, self._fine_ground = self._draw(self._config.supersample, everything)
        seen = np.bincount(self._fine.surface.reshape(-1) // FACES, minlength=len(numbers) + 1)
        self._sharp, _ = self._draw(1, np.flatnonzero(seen[1:]))
        nearness = self._sharp.nearness
        self._depth = np.zeros_like(nearness)
        np.divide(np.float32(1.0), nearness, out=self._depth, where=nearness > 0.0)

    def _candidates(self, center: np.ndarray) -> np.ndarray:
        """Return the numbers of the parts whose bounding sphere touches the view."""
        parts, r = self._world.parts, self._eye.rotation
        offset = center - self._eye.position
        radius = np.sqrt((parts.half * parts.half).sum(axis=1))
        ahead = offset[:, 0] * r[0, 2] + offset[:, 1] * r[1, 2] + offset[:, 2] * r[2, 2]
        aside = offset[:, 0] * r[0, 0] + offset[:, 1] * r[1, 0] + offset[:, 2] * r[2, 0]
        # The widest ray leaves at 0.663 to the side of straight ahead.
        seen = (ahead > -radius) & (ahead < _FAR_CLIP + radius)
        seen &= np.abs(aside) < 0.67 * ahead + 1.2 * radius + 0.2
        seen[0] = False
        return np.flatnonzero(seen)

    def _draw(self, samples: int, chosen: np.ndarray) -> tuple[Raster, GroundHits]:
        """Settle what each ray sees, with `samples` rays along each side of a pixel."""
        height, width = self._config.image_size
        K = self._city.K
        u = (np.arange(width * samples) + 0.5) / samples - 0.5
        v = (np.arange(height * samples) + 0.5) / samples - 0.5
        raster = Raster((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1])
        lay_ground(raster, self._eye)
        forms, shapes = self._forms.take(chosen), self._frames.shape[chosen]
        raster.draw(forms, self._boxes[chosen], self._highest[chosen], shapes, chosen + 1)
        return raster, fill_ground(raster, self._eye, self._world)

    def colours(self) -> dict[str, np.ndarray]:
        """Return the image and, where shadows are cast, their share of each pixel."""
        config, street = self._config, self._world.street
        raster, ground = self._fine, self._fine_ground
        table = make_table(
            self._world.parts, self._numbers, self._frames, self._forms, self._heading, street.sun
        )
        count = raster.nearness.size
        albedo = np.zeros((3, count), np.float32)
        light = np.zeros(count, np.float32)
        shade_parts(raster, table, self._eye, config.texture_contrast, albedo, light)
        paint_ground(ground, self._eye, self._world, config.texture_contrast, albedo)
        light[ground.index] = np.float32(-street.sun[1])
        out: dict[str, np.ndarray] = {}
        if config.shadows:
            dark = Shadows(self._world, self._index, self._eye).cast_on(raster, light)
            light *= ~dark
            out["shadow"] = self._share(dark)
        radiance = light_up(albedo, light, raster.nearness.reshape(-1), street)
        paint_sky(raster, self._eye, street, radiance)
        out["image"] = self._expose(radiance)
        return out

    def _share(self, samples: np.ndarray) -> np.ndarray:
        """Return the share of each pixel's samples that are set, `H W` uint8, 255 = all."""
        height, width = self._config.image_size
        side = self._config.supersample
        counts = samples.reshape(height, side, width, side).sum(axis=(1, 3))
        return (counts * 255 // side**2).astype(np.uint8)

    def _expose(self, radiance: np.ndarray) -> np.ndarray:
        """Average the samples of each pixel, add sensor noise, and quantise."""
        height, width = self._config.image_size
        samples = self._config.supersample
        total = np.empty((3, height, width), np.float32)
        for c in range(3):
            plane = radiance[c].reshape(height * samples, width * samples)
            # By an integer factor this is the plain mean of each block.
            cv2.resize(plane, (width, height), dst=total[c], interpolation=cv2.INTER_AREA)
        total *= np.float32(255.0)
        if self._config.noise > 0.0:
            rng = stream(self._config, 8, self._index)
            grain = rng.standard_normal(total.shape, dtype=np.float32)
            grain *= np.float32(255.0 * self._config.noise)
            total += grain
        np.clip(total, 0.0, 255.0, out=total)
        total += np.float32(0.5)
        return cv2.merge(list(total.astype(np.uint8)))

    def _part_numbers(self) -> np.ndarray:
        """Return the part number at each pixel, 0 for ground and sky."""
        numbers = np.concatenate([[0], self._numbers])
        return numbers[self._sharp.surface // FACES]

    def labels(self) -> dict[str, np.ndarray]:
        """Return depth, classes, instances and motion mask."""
        parts, surface = self._world.parts, self._sharp.surface
        numbers = self._part_numbers()
        ground = surface < FACES
        ground_label = GROUND_LABELS[np.where(ground, surface, 0)]
        semantic = np.where(ground, ground_label, parts.label[numbers])
        instances = np.where(ground, ground_label.astype(np.int32), parts.instance[numbers])
        moving = self._world.moving[parts.actor[numbers]].astype(np.uint8)
        return {
            "depth": self._depth,
            "semantic": semantic,
            "instance_ids": instances,
            "motion_mask": moving,
        }

    def complete_flow(self, neighbour: int) -> np.ndarray:
        """Return X_source - X_target `H W 3` float32, m; 0 where there is no depth."""
        world = self._world
        actors = displacements(world, self._index, neighbour)
        actor = world.parts.actor[self._part_numbers()]
        depth = self._depth
        x, y = self._sharp.x, self._sharp.y[:, None]
        out = np.empty((*depth.shape, 3), np.float32)
        # Displacement = (A - 1) X + b, with A and b of the actor that carries the point.
        still = actors[0].astype(np.float32)
        valid = depth > 0.0
        for k in range(3):
            out[..., k] = depth * (still[k, 0] * x + still[k, 1] * y + still[k, 2])
            out[..., k] += still[k, 3] * valid
        moving = np.nonzero(world.moving[actor])
        own = actors[actor[moving]].astype(np.float32)
        mx, my, mz = self._sharp.x[moving[1]], self._sharp.y[moving[0]], depth[moving]
        for k in range(3):
            out[..., k][moving] = (
                mz * (own[:, k, 0] * mx + own[:, k, 1] * my + own[:, k, 2]) + own[:, k, 3]
            )
        return out
