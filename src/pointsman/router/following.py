"""Event streams on their way through: which bytes are whole frames, and after which event to go on elsewhere.

Must not know connections, nor what an event says: only how server-sent events are framed, and that a frame of the
type `end` or `problem` is the last.
"""

from __future__ import annotations

from typing import Final

MEDIA_TYPE: Final = b"text/event-stream"
LAST_EVENT_ID: Final = b"last-event-id"
_FRAME_END: Final = b"\n\n"
_LAST_FRAMES: Final = (b"event: end\n", b"event: problem\n")


class Following:
    """One stream. A coordinator that leaves or dies in the middle of a frame must not leave half of it with the
    client, so only whole frames are passed on.

    Args:
        bytes_max: a longer frame flows as it comes: then the stream can't go on elsewhere until its end came.

    Attributes:
        last_id: of the last frame that had one; empty before it.
        has_ended: the last frame was passed on.
        is_whole: nothing of an unfinished frame was.
    """

    __slots__ = ("_bytes_max", "_rest", "has_ended", "is_whole", "last_id")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._rest = b""
        self.last_id = b""
        self.has_ended = False
        self.is_whole = True

    @property
    def can_resume(self) -> bool:
        return self.is_whole and not self.has_ended

    def feed(self, data: bytes) -> bytes:
        """What may be passed on now."""
        data = self._rest + data
        end = data.rfind(_FRAME_END)
        whole, rest = (data[: end + 2], data[end + 2 :]) if end >= 0 else (b"", data)
        if whole:
            self.is_whole = True
            self._read(whole)
        if rest and (not self.is_whole or len(rest) > self._bytes_max):
            if self.is_whole:
                self._read_id(rest)  # its end comes by itself, and does not say it
            self.is_whole = False
            whole, rest = data, b""
        self._rest = rest
        return whole

    def begin_again(self) -> None:
        """What comes next is of another coordinator."""
        self._rest = b""

    def _read(self, frames: bytes) -> None:
        self.has_ended = frames[:-2].rpartition(_FRAME_END)[2].lstrip(b"\n").startswith(_LAST_FRAMES)
        self._read_id(frames)

    def _read_id(self, frames: bytes) -> None:
        at = frames.rfind(b"\nid: ") + 1
        end = frames.find(b"\n", at)
        if (at or frames.startswith(b"id: ")) and end >= 0:
            self.last_id = frames[at + 4 : end]
