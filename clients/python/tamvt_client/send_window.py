"""Which frame a streaming client sends next, and what it sends again: no socket, no clock.

`Window` keeps frames until they are answered (`lossless`), `Newest` only the newest that is not
sent yet (`latest`). Where the service commits at intervals, both keep what is answered until it is
committed: a service that is killed forgets the rest. What was answered is sent again in the clips
in which it was answered, since other clips have other masks. Both outlive a connection: `ready`
begins the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from tamvt_client.errors import UnexpectedResponse
from tamvt_client.wire import CLIP_END, RESENT, ImageMessage

CREDITS: Final = 8  # until the service says how many
# Of frames that are kept until they are committed; beyond it the source, or the newest, waits.
MOST_KEPT: Final = 1000
MOST_KEPT_BYTES: Final = 64_000_000


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

    def answered(self, frame: int, clip: tuple[int, int] | None = None) -> None:
        """This frame has its masks, tracked in a clip (its first and its last frame)."""
        ...

    def dropped(self, frame: int) -> None:
        """This frame was passed over."""
        ...

    def committed(self, frame: int) -> None:
        """The frames up to this one survive a failure."""
        ...


class KeptFrames:
    """Frames by number, in order, each until it is answered or committed."""

    def __init__(self) -> None:
        self._frames: dict[int, ImageMessage] = {}
        self._bytes = 0

    def __iter__(self) -> Iterator[ImageMessage]:
        return iter(tuple(self._frames.values()))

    def __getitem__(self, number: int) -> ImageMessage:
        return self._frames[number]

    @property
    def is_full(self) -> bool:
        """Whether no other frame is to be sent before some are committed."""
        return len(self._frames) >= MOST_KEPT or self._bytes >= MOST_KEPT_BYTES

    def add(self, frame: ImageMessage) -> None:
        """Keep a frame, which is newer than the others."""
        self._frames[frame.number] = frame
        self._bytes += len(frame.image)

    def mark_clip(self, first: int, last: int) -> None:
        """Let the frames of a clip be sent again as this clip."""
        for number in range(first, last + 1):
            if number in self._frames:
                flags = RESENT | (CLIP_END if number == last else 0)
                self._frames[number] = self._frames[number]._replace(flags=flags)

    def remove(self, number: int) -> None:
        """Keep this frame no longer, if it is kept."""
        frame = self._frames.pop(number, None)
        self._bytes -= len(frame.image) if frame else 0

    def release(self, last: int, *, unsent: Sequence[int] = ()) -> None:
        """Keep the frames up to this one no longer, but for those that are to be sent yet."""
        last = min(last, unsent[0] - 1) if unsent else last
        while self._frames and (number := next(iter(self._frames))) <= last:
            self.remove(number)


class Window:
    """Every frame until it is answered, or committed: nothing is lost with a connection."""

    def __init__(self, *, until_committed: bool = False) -> None:
        self._until_committed = until_committed
        self._kept = KeptFrames()
        self._unsent: deque[int] = deque()  # of these, on this connection
        self._unanswered: deque[int] = deque()  # and sent
        self._credits = CREDITS
        self._next_frame = 0  # the first that is not answered
        self._uncommitted = 0  # the first that is not committed

    @property
    def is_writable(self) -> bool:
        """See `Sending.is_writable`."""
        waiting = len(self._unsent) + len(self._unanswered)
        return waiting < self._credits and not (self._until_committed and self._kept.is_full)

    @property
    def is_sent(self) -> bool:
        """See `Sending.is_sent`."""
        return not self._unsent

    def add(self, frame: ImageMessage) -> None:
        """See `Sending.add`."""
        if frame.number >= self._next_frame:
            self._kept.add(frame)
            self._unsent.append(frame.number)

    def take(self) -> ImageMessage | None:
        """See `Sending.take`."""
        if self.is_sent or len(self._unanswered) >= self._credits:
            return None
        self._unanswered.append(self._unsent.popleft())
        return self._kept[self._unanswered[-1]]

    def ready(self, *, next_frame: int, credits: int | None) -> None:
        """See `Sending.ready`; UnexpectedResponse if the service has lost what it had committed."""
        if next_frame < (self._uncommitted if self._until_committed else self._next_frame):
            raise UnexpectedResponse(
                f"the service expects frame {next_frame}, which it had committed before"
            )
        self._credits = CREDITS if credits is None else credits
        self._next_frame = max(self._next_frame, next_frame)
        self._kept.release(next_frame - 1)
        self._unanswered.clear()
        self._unsent = deque(frame.number for frame in self._kept)

    def answered(self, frame: int, clip: tuple[int, int] | None = None) -> None:
        """See `Sending.answered`. Replayed frames are below all that is kept here."""
        self._next_frame = max(self._next_frame, frame + 1)
        while self._unanswered and self._unanswered[0] <= frame:
            self._unanswered.popleft()
        if not self._until_committed:
            self._kept.release(frame)
        elif clip is not None:
            self._kept.mark_clip(*clip)

    def dropped(self, frame: int) -> None:
        """See `Sending.dropped`."""
        self.answered(frame)

    def committed(self, frame: int) -> None:
        """See `Sending.committed`."""
        self._uncommitted = max(self._uncommitted, frame + 1)
        self._kept.release(frame, unsent=self._unsent)


class Newest:
    """The newest frame only: what could not be sent in time is passed over."""

    is_writable = True

    def __init__(self, *, until_committed: bool = False) -> None:
        self._until_committed = until_committed
        self._kept = KeptFrames()  # and sent
        self._again: deque[int] = deque()  # of these, to be sent on this connection
        self._frame: ImageMessage | None = None
        self._next_frame = 0

    @property
    def is_sent(self) -> bool:
        """See `Sending.is_sent`."""
        return self._frame is None and not self._again

    def add(self, frame: ImageMessage) -> None:
        """See `Sending.add`."""
        if frame.number >= self._next_frame:
            self._frame = frame

    def take(self) -> ImageMessage | None:
        """See `Sending.take`."""
        if self._again:
            return self._kept[self._again.popleft()]
        if self._kept.is_full:
            return None
        frame, self._frame = self._frame, None
        if frame is not None and self._until_committed:
            self._kept.add(frame)
        return frame

    def ready(self, *, next_frame: int, credits: int | None) -> None:
        """See `Sending.ready`."""
        self._next_frame = next_frame
        self._kept.release(next_frame - 1)
        for frame in self._kept:
            if not frame.flags:  # never answered: newer ones win
                self._kept.remove(frame.number)
        self._again = deque(frame.number for frame in self._kept)
        if self._frame is not None and self._frame.number < next_frame:
            self._frame = None

    def answered(self, frame: int, clip: tuple[int, int] | None = None) -> None:
        """See `Sending.answered`."""
        if clip is not None:
            self._kept.mark_clip(*clip)

    def dropped(self, frame: int) -> None:
        """See `Sending.dropped`."""
        self._kept.remove(frame)

    def committed(self, frame: int) -> None:
        """See `Sending.committed`."""
        self._kept.release(frame, unsent=self._again)
