"""Annotated video out: frame by frame, with exact times, whole or not at all (PyAV)."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from unienc_core.errors import ResourceError
from unienc_core.files import fsync_path


class VideoWriter:
    """Write an mp4 (H.264, yuv420p) that appears whole or not at all.

    Frames go into a fragmented file beside the target, which even a killed process leaves
    playable; leaving the context without an error turns it into a plain mp4 under its own name.

    Args:
        path: The target; replaced when it exists.
        rate: Mean frames a second, exact.
        time_base: Unit of the frames' `pts` in seconds, exact.

    Raises:
        ResourceError: The folder cannot be written, or the disk is full.
    """

    def __init__(self, path: Path, rate: Fraction, time_base: Fraction) -> None:
        self._path, self._rate, self._time_base = path, rate, time_base
        stem = f"{path.stem}.{os.getpid()}"
        self._fragments = path.with_name(f"{stem}.part.mp4")
        self._whole = path.with_name(f"{stem}.whole.mp4")
        self._container: Any = None
        self._stream: Any = None
        self._first_pts: int | None = None
        self.num_frames = 0

    def __enter__(self) -> Self:
        """Claim the place on the disk, so that an unwritable folder fails before any work."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fragments.touch()
        except OSError as error:
            raise _cannot_write(self._path, error) from None
        return self

    def write(self, image: np.ndarray, pts: int) -> None:
        """Add one frame.

        Args:
            image: `H W 3`, uint8, RGB; every frame of one size, odd sizes are padded by a pixel.
            pts: Its time in units of the time base, greater than that of the frame before.
        """
        height, width = image.shape[:2]
        if height % 2 or width % 2:  # yuv420p stores colour for 2x2 pixels
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        try:
            container = self._container or self._open(*image.shape[:2])
            if self._first_pts is None:
                self._first_pts = pts
            rgb = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = rgb.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts, frame.time_base = pts - self._first_pts, self._time_base
            container.mux(self._stream.encode(frame))
        except OSError as error:
            raise _cannot_write(self._path, error) from None
        self.num_frames += 1

    def _open(self, height: int, width: int) -> Any:
        flags = "frag_keyframe+empty_moov+default_base_moof"
        self._container = av.open(
            f"file:{self._fragments.absolute()}", "w", format="mp4", options={"movflags": flags}
        )
        # Without B-frames decoding order is display order: the times need no edit list.
        options = {"preset": "veryfast", "crf": "20", "bf": "0", "g": str(round(4 * self._rate))}
        stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = self._time_base
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream = stream
        return self._container

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Publish the video, or remove every trace of it after an error."""
        try:
            if kind is None and self._container is not None:
                self._publish()
        except (OSError, FFmpegError) as fault:
            raise _cannot_write(self._path, fault) from None
        finally:
            if self._container is not None:
                with suppress(OSError):  # after an error the end cannot be written either
                    self._container.close()
            for leftover in (self._fragments, self._whole):
                with suppress(OSError):
                    leftover.unlink(missing_ok=True)

    def _publish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._container = None
        _remux(self._fragments, self._whole)
        arrived = _count_frames(self._whole)
        if arrived != self.num_frames:  # FFmpeg keeps silent when its last bytes find no room
            raise OSError(errno.ENOSPC, f"{arrived} of {self.num_frames} frames were stored")
        fsync_path(self._whole)
        self._whole.replace(self._path)
        fsync_path(self._path.parent)


def _remux(source: Path, target: Path) -> None:
    """Copy the packets of a fragmented mp4 into one whose index stands in front."""
    with (
        av.open(f"file:{source.absolute()}") as fragments,
        av.open(
            f"file:{target.absolute()}", "w", format="mp4", options={"movflags": "faststart"}
        ) as whole,
    ):
        stream = fragments.streams.video[0]
        copy = whole.add_stream_from_template(stream)
        for packet in fragments.demux(stream):
            if packet.size:
                packet.stream = copy
                whole.mux(packet)


def _count_frames(path: Path) -> int:
    """Count the frames of a video whose bytes are all there; 0 if it has no index."""
    try:
        with av.open(f"file:{path.absolute()}") as container:
            packets = container.demux(container.streams.video[0])
            return sum(1 for packet in packets if packet.size and not packet.is_corrupt)
    except FFmpegError:
        return 0


def _cannot_write(path: Path, error: OSError | FFmpegError) -> ResourceError:
    unreadable = not isinstance(error, OSError)  # our own file, just written: it is not whole
    if unreadable or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ResourceError(f"{path}: the disk is full; free space or write elsewhere with --out")
    why = error.strerror or str(error)
    return ResourceError(f"{path}: cannot be written ({why}); write elsewhere with --out")
