"""The annotated video, and the annotated picture."""

from __future__ import annotations

from pathlib import Path

import cv2

from unienc_core.files import fsync_path, write_synced
from unienc_core.inference.results import ClipFacts, FrameResult
from unienc_core.inference.sinks.base import Sink
from unienc_core.inference.video_writer import VideoWriter, make_whole


class VideoSink(Sink):
    """An mp4: in fragments while it is written, which a kill leaves playable; plain at the end."""

    suffix = ".mp4"
    needs_picture = True

    def __init__(self, target: Path, facts: ClipFacts) -> None:
        super().__init__(target, facts)
        self._whole = self.part.with_name(f"{target.stem}.whole.mp4")
        self._writer: VideoWriter | None = None

    def open(self) -> None:
        """Open the file."""
        info = self.facts.info
        self._writer = VideoWriter(self.part, info.rate, info.time_base)

    def write(self, result: FrameResult) -> None:
        """Encode the annotated picture."""
        assert self._writer is not None
        assert result.picture is not None
        self._writer.write(result.picture, result.frame.pts)

    def close(self) -> None:
        """Complete the file of fragments."""
        if self._writer is not None:
            self._writer.close()

    def finish(self) -> Path:
        """Copy the fragments into a plain mp4 with its index in front."""
        assert self._writer is not None
        make_whole(self.part, self._whole, self._writer.num_frames)
        fsync_path(self._whole)
        return self._whole

    def leftovers(self) -> list[Path]:
        """Return both forms of the video."""
        return [self.part, self._whole]


class StillSink(Sink):
    """The annotated picture of a single image, as a PNG."""

    suffix = ".png"
    needs_picture = True

    def open(self) -> None:
        """Nothing is open before the one frame."""

    def write(self, result: FrameResult) -> None:
        """Write the annotated picture."""
        assert result.picture is not None
        encoded = cv2.imencode(".png", cv2.cvtColor(result.picture, cv2.COLOR_RGB2BGR))[1]
        write_synced(self.part, encoded.tobytes())

    def close(self) -> None:
        """Nothing is open after the one frame."""
