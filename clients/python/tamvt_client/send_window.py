"""Which frame a streaming client sends next, and what it sends again: no socket, no clock.

`Window` keeps frames until they are answered (`lossless`), `Newest` only the newest that is not
sent yet (`latest`). Both outlive a connection: `ready` begins the next one.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from tamvt_client.errors import UnexpectedResponse
from tamvt_client.wire import ImageMessage

CREDITS = 8  # until the service says how many


class Sending(Protocol):
    """Frames on their way from a source to the service."""

    @property
    def is_writable(self) -> bool:
        """Whether the source is asked for another frame."""
        ...

    @property
    def is_sent(self) -> bool:
        """Whether nothing is left to send on this connection."""
        ...

    def add(self, frame: ImageMessage) -> None:
        """Takes a frame from the source; one that is committed already is left out."""
        ...

    def take(self) -> ImageMessage | None:
        """Return the frame to send now, None if there is none or no credit."""
        ...

    def ready(self, *, next_frame: int, credits: int | None) -> None:
        """Expect this frame next, on a new connection."""
        ...

    def answered(self, frame: int) -> None:
        """This frame has its masks, or was passed over."""
        ...


class Window:
    """Every frame until it is answered: nothing is lost with a connection."""

    def __init__(self) -> None:
        self._frames: deque[ImageMessage] = deque()  # unanswered, the sent ones first
        self._sent = 0
        self._credits = CREDITS
        self._next_frame = 0

    @property
    def is_writable(self) -> bool:
        """See `Sending.is_writable`."""
        return len(self._frames) < self._credits

    @property
    def is_sent(self) -> bool:
        """See `Sending.is_sent`."""
        return self._sent == len(self._frames)

    def add(self, frame: ImageMessage) -> None:
        """See `Sending.add`."""
        if frame.number >= self._next_frame:
            self._frames.append(frame)

    def take(self) -> ImageMessage | None:
        """See `Sending.take`."""
        if self.is_sent or self._sent >= self._credits:
            return None
        self._sent += 1
        return self._frames[self._sent - 1]

    def ready(self, *, next_frame: int, credits: int | None) -> None:
        """See `Sending.ready`; UnexpectedResponse if the service has lost what it had answered."""
        if next_frame < self._next_frame:
            raise UnexpectedResponse(
                f"the service expects frame {next_frame}, which it had committed before"
            )
        self._credits = CREDITS if credits is None else credits
        self._next_frame = next_frame
        self._sent = 0
        while self._frames and self._frames[0].number < next_frame:
            self._frames.popleft()

    def answered(self, frame: int) -> None:
        """See `Sending.answered`. Replayed frames are below all that is kept here."""
        self._next_frame = max(self._next_frame, frame + 1)
        while self._frames and self._frames[0].number <= frame:
            self._frames.popleft()
            self._sent = max(0, self._sent - 1)


class Newest:
    """The newest frame only: what could not be sent in time is passed over."""

    is_writable = True

    def __init__(self) -> None:
        self._frame: ImageMessage | None = None
        self._next_frame = 0

    @property
    def is_sent(self) -> bool:
        """See `Sending.is_sent`."""
        return self._frame is None

    def add(self, frame: ImageMessage) -> None:
        """See `Sending.add`."""
        if frame.number >= self._next_frame:
            self._frame = frame

    def take(self) -> ImageMessage | None:
        """See `Sending.take`."""
        frame, self._frame = self._frame, None
        return frame

    def ready(self, *, next_frame: int, credits: int | None) -> None:
        """See `Sending.ready`."""
        self._next_frame = next_frame
        if self._frame is not None and self._frame.number < next_frame:
            self._frame = None

    def answered(self, frame: int) -> None:
        """See `Sending.answered`."""
