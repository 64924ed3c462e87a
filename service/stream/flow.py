"""The rules of a stream, without a socket or a clock: which frame may come, which clip is due.

Times are seconds of any steady clock, handed in. In `lossless` mode numbers are consecutive, each
frame takes a credit until it is answered, and clips are cut every `clip_length` frames. In
`latest` mode the newest frame wins: at most one clip of consecutive frames waits, and what it
displaces is dropped. In either mode, frames whose masks came on an earlier connection and were lost
before they were committed are processed first, in the clips in which they were.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Final, Literal

from service.errors import BadMessage, Conflict, FrameAhead
from tamvt_client.wire import MAX_NUMBER

Mode = Literal["lossless", "latest"]
MOST_SKIPPED: Final = 1000  # frames that one clip may leave out


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """One frame as it came on the stream."""

    number: int
    timestamp_us: int
    image: bytes
    received_s: float
    resent: bool = False  # its masks came on an earlier connection
    ends_clip: bool = False  # that was the last frame of its clip there


Clip = tuple[PendingFrame, ...]  # consecutive numbers, at least one


class Phase(Enum):
    """How far a stream is."""

    OPEN = "open"
    ENDED = "ended"  # the client sends no more: what waits is processed
    DRAINING = "draining"  # the service stops: whole clips are processed, the rest is sent again
    STOPPED = "stopped"  # no other clip is begun


class Flow:
    """Frames of one stream that are not answered yet, and the credits they take."""

    def __init__(
        self, *, mode: Mode, clip_length: int, credits: int, next_frame: int, max_wait_s: float
    ) -> None:
        self._mode = mode
        self._clip_length = clip_length
        self._credits = credits
        self._max_wait_s = max_wait_s
        self._next = next_frame  # the next new number
        self._answered = next_frame  # numbers below are answered
        self._unanswered = 0  # frames that hold a credit
        self._again: deque[PendingFrame] = deque()  # answered before, and sent again
        self._resent: deque[PendingFrame] = deque()  # answered before, and not committed
        self._waiting: deque[PendingFrame] = deque()
        self._new_came = False  # a frame that is none of those
        self._hurried = False
        self.phase = Phase.OPEN

    @property
    def next_frame(self) -> int:
        """The number that a new frame has at least."""
        return self._next

    @property
    def unanswered(self) -> int:
        """How many frames wait for their masks."""
        return self._unanswered

    @property
    def resent(self) -> int:
        """How many frames wait that were answered on an earlier connection."""
        return len(self._resent)

    @property
    def finished(self) -> bool:
        """Whether `take` will return None from now on, whatever the time."""
        if self.phase is Phase.ENDED:
            return not self._again and not self._resent and not self._waiting
        if self.phase is Phase.DRAINING:
            return not self._again and not self._whole_clip_waits()
        return self.phase is Phase.STOPPED

    def add(self, frame: PendingFrame) -> Sequence[PendingFrame]:
        """Add a frame; return those it displaces, which are dropped once a later one is committed.

        Raises:
            BadMessage: after the end, past the credits, or sent again as another clip.
            FrameAhead: frames in between are missing.
            Conflict: this number is being worked on already.
        """
        self._check(frame.number)
        if frame.number < self._answered:
            self._again.append(frame)
        else:
            self._check_clip(frame)
            self._next = frame.number + 1
            self._new_came |= not frame.resent
            (self._resent if frame.resent else self._waiting).append(frame)
        self._unanswered += 1
        if self._mode != "latest" or not self._waiting:
            return ()
        # What stays is the newest run of consecutive frames, at most a clip.
        kept = 1
        while kept < min(self._clip_length, len(self._waiting)):
            if self._waiting[-kept - 1].number != self._waiting[-kept].number - 1:
                break
            kept += 1
        displaced = [self._waiting.popleft() for _ in range(len(self._waiting) - kept)]
        self._unanswered -= len(displaced)
        return displaced

    def hurry(self) -> None:
        """Make what waits due at once, whether its clip is whole or not."""
        self._hurried = True

    def take(self, now: float) -> Clip | None:
        """Remove and return the clip that is due; None if there is none."""
        if self.phase is Phase.STOPPED:
            return None
        if self._again:
            return _first_run(self._again, most=self._clip_length)
        if self._resent:
            # Another clip would give other masks than the client has.
            whole = self._whole_clip_waits() or self.phase is Phase.ENDED
            return _first_run(self._resent, most=self._clip_length) if whole else None
        due = self.due_s()
        is_due = due is not None and now >= due
        is_due = is_due or self._hurried or self.phase is Phase.ENDED or self._whole_clip_waits()
        if self._waiting and is_due:
            return _first_run(self._waiting, most=self._clip_length)
        return None

    def due_s(self) -> float | None:
        """Return when a clip that is not whole becomes due; None: not by time alone."""
        if self.phase is not Phase.OPEN or not self._waiting:
            return None
        return self._waiting[0].received_s + self._max_wait_s

    def answered(self, frames: Sequence[int]) -> None:
        """Free the credits of these frames: they have been answered."""
        self._unanswered -= len(frames)
        self._answered = max(self._answered, *(number + 1 for number in frames))

    def _check(self, number: int) -> None:
        if self.phase is Phase.ENDED:
            raise BadMessage("a frame after the end")
        # In latest mode only what is sent again waits in a queue that could grow.
        held = self._unanswered if self._mode == "lossless" else len(self._again)
        if held >= self._credits:
            raise BadMessage(f"frame {number} is past the {self._credits} credits")
        if self._answered <= number < self._next:
            raise Conflict(
                f"frame {number} was sent already on this stream; frame {self._next} comes next",
                expected=self._next,
            )
        skipped = number - self._next
        if skipped > (0 if self._mode == "lossless" else MOST_SKIPPED) or number == MAX_NUMBER:
            raise FrameAhead(
                f"frame {number} was sent, but frame {self._next} comes next", expected=self._next
            )

    def _check_clip(self, frame: PendingFrame) -> None:
        """Raise BadMessage unless the frame goes on with the clip that is sent again, if one is."""
        begun = list(takewhile(lambda one: not one.ends_clip, reversed(self._resent)))
        if not frame.resent:
            if begun:
                raise BadMessage(f"frame {begun[0].number} was sent again without its clip's end")
            return
        if self._new_came:
            raise BadMessage(f"frame {frame.number} is sent again after new ones")
        follows = not begun or frame.number == begun[0].number + 1
        if not follows or len(begun) >= self._clip_length:
            raise BadMessage(f"frame {frame.number} is sent again in no clip of this session")

    def _whole_clip_waits(self) -> bool:
        if self._resent:
            return any(frame.ends_clip for frame in self._resent)
        return len(self._waiting) >= self._clip_length


def _first_run(frames: deque[PendingFrame], *, most: int) -> Clip:
    """Remove and return the first frames of consecutive numbers, up to the end of their clip."""
    run = [frames.popleft()]
    while frames and len(run) < most and frames[0].number == run[-1].number + 1:
        if run[-1].ends_clip:
            break
        run.append(frames.popleft())
    return tuple(run)
