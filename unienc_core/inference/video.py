"""Video files, read frame by frame with exact times and counted losses (PyAV)."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame

from unienc_core.errors import VideoError
from unienc_core.inference.frames import Frame, Losses, SourceInfo

# In these, a packet is a picture: a packet that yields no frame is a lost frame even when the
# decoder keeps silent, as it does after a broken key frame.
_PACKET_IS_FRAME = {"h264", "hevc", "mjpeg", "vp9", "av1"}


class VideoReader:
    """The frames of a video file, RGB and upright, with their times and what was lost.

    Opening decodes the first frame, so a file that opens has one. Packets are demuxed and decoded
    one by one: a broken one is counted and decoding goes on.

    Args:
        path: The file. Never treated as an address: nothing is fetched.

    Raises:
        VideoError: Missing, not a video, without its index, or without a frame that decodes.
    """

    def __init__(self, path: Path) -> None:
        self.losses = Losses()
        self._path = path
        self._container: Any = _open_input(path)
        try:
            if not self._container.streams.video:
                raise VideoError(f"{path}: holds no video track; give a file with pictures")
            self._stream = self._container.streams.video[0]
            self._codec = self._stream.codec_context
            if self._codec is None:
                raise VideoError(f"{path}: its pictures are coded in a way that is not known")
            self._pending: list[int] = []  # pts of packets whose frame has not come yet
            self._num_packets = 0
            self._ends_short = False
            self._first_pts: int | None = None
            self._last_pts = 0
            self._index = 0
            self._decoded = self._decode()
            self._first = next(self._decoded, None)
            if self._first is None:
                raise VideoError(f"{path}: holds no frame that can be decoded")
            self.info = self._probe(*self._first.image.shape[:2])
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        """The reader is open already."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self._decoded.close()
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Deliver the frames in order of their time."""
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._decoded

    def _probe(self, height: int, width: int) -> SourceInfo:
        stream = self._stream
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        frames = stream.frames or None
        if frames is None and stream.duration:
            frames = round(stream.duration * stream.time_base * rate)
        return SourceInfo(
            self._path, self._path.stem, height, width, rate, stream.time_base, frames
        )

    def _decode(self) -> Generator[Frame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (FFmpegError, OSError):
                packet, self.losses.is_cut = None, True
            flush = packet is None or not packet.size
            for picture in self._pictures(None if flush else packet):
                yield self._deliver(picture)
            if flush:
                break
        self._count_missing_end()

    def _pictures(self, packet: Any) -> list[VideoFrame]:
        """Decode one packet (None: drain); a broken one gives no picture and is counted."""
        if packet is not None:
            self._num_packets += 1
            self._ends_short = packet.is_corrupt  # so FFmpeg calls fewer bytes than stated
            if packet.pts is not None and not packet.is_discard:
                heapq.heappush(self._pending, packet.pts)
        try:
            return self._codec.decode(packet)
        except FFmpegError:
            if self._codec.name not in _PACKET_IS_FRAME:
                self._lose(1)
            return []

    def _deliver(self, picture: VideoFrame) -> Frame:
        pts = picture.pts
        if pts is not None:
            passed = 0
            while self._pending and self._pending[0] <= pts:
                passed += heapq.heappop(self._pending) < pts
            # A pair of fields is two packets and one frame, so there nothing can be said.
            if self._codec.name in _PACKET_IS_FRAME and not picture.interlaced_frame:
                self._lose(passed)
        tick = 1 / ((self._stream.average_rate or 25) * self._stream.time_base)
        if self._first_pts is None:
            self._first_pts = self._last_pts = pts if pts is not None else 0
        else:
            guess = self._last_pts + max(1, round(tick))
            self._last_pts = max(self._last_pts + 1, guess if pts is None else pts)
        self.losses.num_damaged += picture.is_corrupt
        frame = Frame(self._to_rgb(picture), self._index, self._last_pts, self._time())
        self._index += 1
        return frame

    def _time(self) -> float:
        first = self._last_pts if self._first_pts is None else self._first_pts
        return float((self._last_pts - first) * self._stream.time_base)

    def _to_rgb(self, picture: VideoFrame) -> np.ndarray:
        # Naming the size keeps it constant where a stream changes its resolution on the way.
        size = (picture.width, picture.height)
        if self._index:
            size = self._coded_size
        else:
            self._coded_size = size
        image = picture.to_ndarray(format="rgb24", width=size[0], height=size[1])
        turns = round(picture.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def _lose(self, num_lost: int) -> None:
        if num_lost:
            self.losses.add(self._index, self._time(), num_lost)

    def _count_missing_end(self) -> None:
        """Count what the decoder never gave back and what the file announces but does not hold."""
        if self._codec.name in _PACKET_IS_FRAME:
            self._lose(len(self._pending))
        self.losses.is_cut |= self._ends_short
        stream = self._stream
        missing = stream.frames - self._num_packets
        # An edit list shortens the track on purpose: then the last frame still reaches its end.
        if missing > 0 and stream.duration and stream.average_rate:
            end = (stream.start_time or 0) + stream.duration
            reached = self._last_pts + 1.5 / (stream.average_rate * stream.time_base)
            if reached < end:
                self.losses.is_cut = True
                self._lose(missing)


def _open_input(path: Path) -> Any:
    if not path.is_file():
        what = "is a folder, not a video" if path.is_dir() else "no such file"
        raise VideoError(f"{path}: {what}")
    try:
        # An explicit protocol: neither the name nor a playlist inside can reach the network.
        container = av.open(
            f"file:{path.absolute()}", container_options={"protocol_whitelist": "file"}
        )
    except (FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path}: {_why_unreadable(path, error)}") from None
    if container.format.name == "tty":  # FFmpeg would film a text file
        container.close()
        raise VideoError(f"{path}: is text, not a video")
    return container


def _why_unreadable(path: Path, error: Exception) -> str:
    """Say what is wrong with a file that FFmpeg refuses."""
    if isinstance(error, PermissionError):
        return "cannot be read: permission denied"
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as unreadable:
        return f"cannot be read: {unreadable.strerror}"
    if not head:
        return "is empty (0 bytes)"
    if head[4:8] == b"ftyp":
        return (
            "an mp4 without a readable index ('moov'): the recording was cut before its end; "
            "repair it with a recovery tool and a whole file of the same camera"
        )
    return "is not a video that can be decoded (mp4, mov, mkv, avi, ... expected)"
