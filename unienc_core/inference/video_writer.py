"""Video out: H.264 with exact times, in a file that a kill leaves playable (PyAV)."""

from __future__ import annotations

import errno
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

# Every frame is a fragment of its own and goes to the disk at once. Without the index of all
# fragments at the end, for which FFmpeg would remember each of them.
_FRAGMENTED = {
    "movflags": "frag_every_frame+empty_moov+default_base_moof+skip_trailer",
    "flush_packets": "1",
}


class VideoWriter:
    """Write a fragmented mp4 (H.264, yuv420p); `make_whole` turns it into a plain one.

    Args:
        path: The file; replaced when it exists.
        rate: Mean frames a second, exact.
        time_base: Unit of the frames' `pts` in seconds, exact.

    Attributes:
        num_frames: Frames written.

    Raises:
        OSError: From any method: the folder cannot be written, or the disk is full.
    """

    def __init__(self, path: Path, rate: Fraction, time_base: Fraction) -> None:
        self._path, self._rate, self._time_base = path, rate, time_base
        self._container: Any = None
        self._stream: Any = None
        self._first_pts: int | None = None
        self.num_frames = 0
        path.touch()

    def write(self, image: np.ndarray, pts: int) -> None:
        """Add one frame.

        Args:
            image: `H W 3`, uint8, RGB; every frame of one size, odd sizes are padded by a pixel.
            pts: Its time in units of the time base, greater than that of the frame before.
        """
        height, width = image.shape[:2]
        if height % 2 or width % 2:  # yuv420p stores colour for 2x2 pixels
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
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
        self.num_frames += 1

    def close(self) -> None:
        """Write what the encoder still holds and close the file."""
        container, self._container = self._container, None
        if container is None:
            return
        try:
            container.mux(self._stream.encode(None))
        finally:
            container.close()

    def _open(self, height: int, width: int) -> Any:
        self._container = av.open(
            f"file:{self._path.absolute()}", "w", format="mp4", options=_FRAGMENTED
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


def make_whole(fragments: Path, whole: Path, num_frames: int) -> None:
    """Copy the packets of a fragmented mp4 into one whose index stands in front.

    Raises:
        OSError: If not all frames arrive: FFmpeg keeps silent when its last bytes find no room.
    """
    with suppress(FFmpegError):
        _remux(fragments, whole)
    arrived = _count_frames(whole)
    if arrived != num_frames:
        raise OSError(errno.ENOSPC, f"{arrived} of {num_frames} frames were stored")


def _remux(source: Path, target: Path) -> None:
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
