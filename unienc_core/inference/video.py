"""Video files, read frame by frame with exact times and counted losses (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from unienc_core.errors import VideoError
from unienc_core.inference.containers import PipeReader, open_container, why_unreadable
from unienc_core.inference.frames import Frame, FrameSource, Losses, SourceInfo
from unienc_core.inference.reorder import Arrival, Reorder
from unienc_core.inference.span import WHOLE, Picker, Span

# In these, a packet is a picture: a packet that yields no frame is a lost frame even when the
# decoder keeps silent, as it does after a broken key frame.
_PACKET_IS_FRAME = {"h264", "hevc", "mjpeg", "vp9", "av1"}


@dataclass
class _Packets:
    """What was demuxed so far.

    Attributes:
        num: Packets.
        last_pts: The latest time among them.
        ends_short: Whether FFmpeg called the last one shorter than stated.
    """

    num: int = 0
    last_pts: int = 0
    ends_short: bool = False


class VideoReader(FrameSource):
    """The frames of a video, RGB and upright, with their times and what was lost.

    Opening decodes the first frame, so a video that opens has one. Packets are demuxed and decoded
    one by one: a broken one is counted and decoding goes on. Frames outside a span are decoded,
    too, which makes every span exact, but not turned into pictures.

    Args:
        source: A file, never treated as an address: nothing is fetched. Or a pipe.

    Raises:
        VideoError: Missing, not a video, without its index, or without a frame that decodes.
    """

    def __init__(self, source: Path | PipeReader) -> None:
        self.losses = Losses()
        self._source = source
        self._path = Path(source.name) if isinstance(source, PipeReader) else source
        with source.interruptible() if isinstance(source, PipeReader) else nullcontext():
            self._open(source)

    def _open(self, source: Path | PipeReader) -> None:
        self._container: Any = open_container(source)
        try:
            if not self._container.streams.video:
                raise VideoError(f"{self._path}: holds no video track; give a file with pictures")
            self._stream = self._container.streams.video[0]
            self._codec = self._stream.codec_context
            if self._codec is None:
                raise VideoError(f"{self._path}: its pictures are coded in a way that is not known")
            self._counts = self._codec.name in _PACKET_IS_FRAME
            self._demuxed = self._container.demux(self._stream)
            self._packets = _Packets()
            self._order: Reorder[VideoFrame] = Reorder()
            self._num_undecoded = 0
            self._arrivals = self._decode()
            self._first = next(self._arrivals, None)
            if self._first is None:
                raise VideoError(f"{self._path}: {self._why_empty()}")
            picture = self._first.picture
            self._coded_size = (picture.width, picture.height)
            self._turn = _Turn.of(picture)
            self.info = self._probe(*self._to_rgb(picture).shape[:2])
        except BaseException:
            self._container.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def stop(self) -> None:
        """End a wait for a pipe."""
        if isinstance(self._source, PipeReader):
            self._source.stop()

    def frames(self, span: Span = WHOLE) -> Iterator[Frame]:
        """Deliver the frames of a span, in order of their time."""
        if self._first is None:
            return
        first, self._first = self._first, None
        picker, clock = Picker(span), _Clock(self._stream)
        index, num_lost, is_broken = 0, 0, False
        for index, arrival in enumerate(chain([first], self._arrivals)):
            counts = picker.started or span.from_start  # what is lost before a span is not missed
            gap_begins, pts = clock.seconds, clock.tick(arrival.pts)
            is_taken = picker.takes(index, clock.time)
            # What refers to a lost picture is patched up by the decoder, which does not say so.
            is_broken = (is_broken or arrival.num_lost > 0) and not arrival.picture.key_frame
            if arrival.num_lost and counts:
                num_lost += arrival.num_lost
                self.losses.add(index, gap_begins, arrival.num_lost)
            if picker.ended:
                return
            if is_taken:
                damaged = is_broken or bool(arrival.picture.is_corrupt)
                self.losses.num_damaged += damaged
                image = self._to_rgb(arrival.picture)
                yield Frame(image, index, pts, clock.seconds, num_lost, damaged)
                num_lost = 0
        self._lose(self._num_undecoded + self._order.num_outstanding, index + 1, clock.seconds)
        self._miss_end(clock.pts, index + 1, clock.seconds)

    def check(self) -> None:
        """Compare what the file announces with what it holds; nothing is decoded."""
        while self._next_packet() is not None:
            pass
        end = float(self._packets.last_pts * self._stream.time_base)
        self._miss_end(self._packets.last_pts, self._packets.num, end)

    def _probe(self, height: int, width: int) -> SourceInfo:
        stream = self._stream
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        frames = stream.frames or None
        if frames is None and stream.duration:
            frames = round(stream.duration * stream.time_base * rate)
        name = self._path.stem or self._path.name
        return SourceInfo(
            self._path,
            name,
            height,
            width,
            rate,
            stream.time_base,
            frames,
            has_audio=bool(self._container.streams.audio),
        )

    def _decode(self) -> Iterator[Arrival[VideoFrame]]:
        """Decode to the end, pictures in order."""
        packet = self._next_packet()
        while packet is not None:
            yield from self._sort(self._pictures(packet))
            packet = self._next_packet()
        yield from self._sort(self._pictures(None))
        yield from map(self._with_undecoded, self._order.drain())

    def _next_packet(self) -> Any | None:
        try:
            packet = next(self._demuxed, None)
        except (FFmpegError, OSError):
            self.losses.is_cut = True
            return None
        if packet is None or not packet.size:
            return None
        seen = self._packets
        seen.num += 1
        seen.ends_short = packet.is_corrupt  # so FFmpeg calls fewer bytes than stated
        if packet.pts is not None:
            seen.last_pts = max(seen.last_pts, packet.pts)
        return packet

    def _pictures(self, packet: Any | None) -> list[VideoFrame]:
        """Decode one packet (None: drain); a broken one gives no picture and is counted."""
        if packet is not None and packet.pts is not None and self._counts and not packet.is_discard:
            self._order.expect(packet.pts)
        try:
            return self._codec.decode(packet)
        except FFmpegError:
            self._num_undecoded += not self._counts
            return []

    def _sort(self, pictures: list[VideoFrame]) -> Iterator[Arrival[VideoFrame]]:
        for picture in pictures:
            if self._counts and picture.interlaced_frame:
                # A pair of fields may be two packets and one frame: there nothing can be told.
                yield from self._order.drain()
                self._counts, self._order = False, Reorder()
            if picture.pts is None or not self._counts:
                yield self._with_undecoded(Arrival(picture, picture.pts, 0))
            else:
                yield from map(self._with_undecoded, self._order.take(picture, picture.pts))

    def _with_undecoded(self, arrival: Arrival[VideoFrame]) -> Arrival[VideoFrame]:
        """Count the packets that gave an error as lost before this picture."""
        lost, self._num_undecoded = arrival.num_lost + self._num_undecoded, 0
        return arrival._replace(num_lost=lost)

    def _to_rgb(self, picture: VideoFrame) -> np.ndarray:
        """Return a picture as `H W 3`, uint8, RGB, upright."""
        width, height = self._coded_size  # naming it keeps it where a stream changes on the way
        return self._turn.apply(picture.to_ndarray(format="rgb24", width=width, height=height))

    def _lose(self, num_lost: int, before: int, seconds: float) -> None:
        if num_lost:
            self.losses.add(before, seconds, num_lost)

    def _miss_end(self, last_pts: int, before: int, seconds: float) -> None:
        """Count what the file announces but does not hold."""
        self.losses.is_cut |= self._packets.ends_short
        stream = self._stream
        missing = stream.frames - self._packets.num
        # An edit list shortens the track on purpose: then the last frame still reaches its end.
        if missing > 0 and stream.duration and stream.average_rate:
            end = (stream.start_time or 0) + stream.duration
            if last_pts + 1.5 / (stream.average_rate * stream.time_base) < end:
                self.losses.is_cut = True
                self._lose(missing, before, seconds)

    def _why_empty(self) -> str:
        if isinstance(self._source, PipeReader) and self._source.head[4:8] == b"ftyp":
            return why_unreadable(self._source.head, True)
        return "holds no frame that can be decoded"


class _Clock:
    """Times of the frames of a stream, strictly increasing even where the stream's are not.

    Attributes:
        pts: Time of the newest frame, in the stream's units.
    """

    def __init__(self, stream: Any) -> None:
        self._base: Fraction = stream.time_base
        self._tick = max(1, round(1 / ((stream.average_rate or 25) * self._base)))
        self._first: int | None = None
        self.pts = 0

    def tick(self, pts: int | None) -> int:
        """Go on to the next frame, whose time may be unknown, and return its time."""
        if self._first is None:
            self._first = self.pts = pts if pts is not None else 0
        else:
            self.pts = max(self.pts + 1, self.pts + self._tick if pts is None else pts)
        return self.pts

    @property
    def time(self) -> Fraction:
        """Seconds after the first frame."""
        return (self.pts - (self.pts if self._first is None else self._first)) * self._base

    @property
    def seconds(self) -> float:
        """The same, rounded."""
        return float(self.time)


@dataclass(frozen=True)
class _Turn:
    """How pictures are shown: perhaps mirrored along the diagonal, then along either axis."""

    diagonal: bool = False
    left_right: bool = False
    up_down: bool = False

    @classmethod
    def of(cls, picture: VideoFrame) -> _Turn:
        """Read the display matrix [[a, b, u], [c, d, v], [x, y, w]] of a picture, if it has one.

        The place that (x, y) is shown at is (a x + c y, b x + d y), shifted to begin at 0.
        """
        side = cast(Any, picture.side_data).get(Type.DISPLAYMATRIX)
        if side is None:
            return cls()
        a, b, _, c, d = (int(n) for n in np.frombuffer(bytes(side), np.int32)[:5])
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Turn an image `H W 3` as it is shown."""
        image = image.swapaxes(0, 1) if self.diagonal else image
        image = image[:, ::-1] if self.left_right else image
        return np.ascontiguousarray(image[::-1] if self.up_down else image)
