"""The stream's rules: any client, any pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.errors import BadMessage, Conflict, FrameAhead
from service.stream.flow import Clip, Flow, Mode, PendingFrame, Phase

CREDITS = 6
MAX_WAIT_S = 1.0


def flow(mode: Mode = "lossless", *, clip_length: int = 2, next_frame: int = 1) -> Flow:
    return Flow(
        mode=mode,
        clip_length=clip_length,
        credits=CREDITS,
        next_frame=next_frame,
        max_wait_s=MAX_WAIT_S,
    )


def arrival(number: int, *, at: float = 0.0) -> PendingFrame:
    return PendingFrame(number, 0, b"", at)


def arrive(stream: Flow, *numbers: int, at: float = 0.0) -> list[int]:
    """The numbers displaced."""
    return [gone.number for n in numbers for gone in stream.add(arrival(n, at=at))]


def taken(clip: Clip | None) -> list[int]:
    return [frame.number for frame in clip or ()]


def test_a_whole_clip_is_due_at_once() -> None:
    stream = flow()
    arrive(stream, 1, 2, 3)
    assert taken(stream.take(0.0)) == [1, 2]
    assert stream.take(0.0) is None


def test_a_lone_frame_is_due_after_its_wait() -> None:
    stream = flow()
    arrive(stream, 1, at=5.0)
    assert stream.take(5.9) is None
    assert stream.due_s() == 6.0
    assert taken(stream.take(6.0)) == [1]


def test_a_lone_frame_is_due_at_the_end() -> None:
    stream = flow()
    arrive(stream, 1)
    stream.phase = Phase.ENDED
    assert not stream.finished
    assert taken(stream.take(0.0)) == [1]
    assert stream.finished


def test_whole_clips_only_are_begun_while_draining() -> None:
    stream = flow()
    arrive(stream, 1, 2, 3)
    stream.phase = Phase.DRAINING
    assert not stream.finished
    assert taken(stream.take(0.0)) == [1, 2]
    assert stream.finished
    assert stream.take(9.9) is None


def test_nothing_is_begun_once_it_is_stopped() -> None:
    stream = flow()
    arrive(stream, 1, 2)
    stream.phase = Phase.STOPPED
    assert stream.take(9.9) is None
    assert stream.finished


def test_a_frame_past_the_credits_is_refused() -> None:
    stream = flow()
    arrive(stream, *range(1, CREDITS + 1))
    with pytest.raises(BadMessage, match="credits"):
        arrive(stream, CREDITS + 1)


def test_an_answer_gives_its_credit_back() -> None:
    stream = flow()
    arrive(stream, *range(1, CREDITS + 1))
    stream.answered(taken(stream.take(0.0)))
    arrive(stream, CREDITS + 1, CREDITS + 2)


def test_a_frame_after_the_end_is_refused() -> None:
    stream = flow()
    stream.phase = Phase.ENDED
    with pytest.raises(BadMessage, match="end"):
        arrive(stream, 1)


@pytest.mark.parametrize("number", [2, 3, 2**32 - 1])
def test_a_lossless_stream_skips_no_number(number: int) -> None:
    with pytest.raises(FrameAhead, match="frame 1 comes next") as caught:
        arrive(flow(), number)
    assert caught.value.expected == 1


def test_a_number_that_is_being_worked_on_is_refused() -> None:
    stream = flow()
    arrive(stream, 1, 2, 3)
    stream.take(0.0)
    for number in (1, 2, 3):
        with pytest.raises(Conflict) as caught:
            arrive(stream, number)
        assert caught.value.expected == 4


def test_an_answered_frame_may_be_sent_again() -> None:
    stream = flow(next_frame=5)
    arrive(stream, 5, 3, 4)
    assert taken(stream.take(0.0)) == [3, 4]
    assert taken(stream.take(0.0)) == []


def test_the_newest_frames_win() -> None:
    stream = flow("latest")
    assert arrive(stream, 1, 2, 3, 4) == [1, 2]
    assert taken(stream.take(0.0)) == [3, 4]


def test_a_gap_leaves_the_newest_frame_alone() -> None:
    stream = flow("latest")
    assert arrive(stream, 1, 2, 5) == [1, 2]
    assert taken(stream.take(MAX_WAIT_S)) == [5]


def test_a_gap_has_a_bound() -> None:
    with pytest.raises(FrameAhead):
        arrive(flow("latest"), 1002)
    assert arrive(flow("latest"), 1001) == []


def resend(stream: Flow, *numbers: int, ends: Sequence[int] = ()) -> list[int]:
    """The numbers displaced by frames that were answered on an earlier connection."""
    sent = [replace(arrival(n), resent=True, ends_clip=n in ends) for n in numbers]
    return [gone.number for each in sent for gone in stream.add(each)]


@pytest.mark.parametrize("mode", ["lossless", "latest"])
def test_what_is_sent_again_is_taken_in_its_own_clips(mode: Mode) -> None:
    stream = flow(mode, clip_length=3)
    assert resend(stream, 1, 2, 3, 4, ends=[1, 4]) == []
    assert arrive(stream, 5) == []
    assert taken(stream.take(0.0)) == [1]
    assert taken(stream.take(0.0)) == [2, 3, 4]
    assert stream.take(0.0) is None
    assert taken(stream.take(MAX_WAIT_S)) == [5]


def test_a_clip_that_is_sent_again_waits_for_its_end() -> None:
    stream = flow()
    resend(stream, 1)
    assert stream.resent == 1
    assert stream.take(MAX_WAIT_S) is None
    resend(stream, 2, ends=[2])
    assert taken(stream.take(0.0)) == [1, 2]
    assert stream.resent == 0


def test_a_whole_clip_that_is_sent_again_is_begun_while_draining() -> None:
    stream = flow()
    resend(stream, 1, 2, 3, ends=[2])
    stream.phase = Phase.DRAINING
    assert not stream.finished
    assert taken(stream.take(0.0)) == [1, 2]
    assert stream.finished


def test_a_clip_that_is_sent_again_without_its_end_is_taken_at_the_end() -> None:
    stream = flow()
    resend(stream, 1)
    stream.phase = Phase.ENDED
    assert not stream.finished
    assert taken(stream.take(0.0)) == [1]
    assert stream.finished


def test_a_gap_between_clips_that_are_sent_again_is_one_of_dropped_frames() -> None:
    stream = flow("latest")
    resend(stream, 3, 7, 8, ends=[3, 8])
    assert [taken(stream.take(0.0)) for _ in range(2)] == [[3], [7, 8]]


class AnyStream(RuleBasedStateMachine):
    """Any order of arrivals, time and answers, in either mode."""

    mode: Mode

    def __init__(self) -> None:
        super().__init__()
        self.flow = flow(self.mode, clip_length=3)
        self.now = 0.0
        self.sent: list[int] = []
        self.displaced: list[int] = []
        self.taken: list[int] = []
        self.in_flight: list[list[int]] = []
        self.received: dict[int, float] = {}

    @rule(skip=st.integers(0, 3))
    def send(self, skip: int) -> None:
        number = self.flow.next_frame + (skip if self.mode == "latest" else 0)
        try:
            displaced = self.flow.add(arrival(number, at=self.now))
        except BadMessage:
            assert self.flow.phase is Phase.ENDED or self.unanswered == CREDITS
            return
        self.sent.append(number)
        self.received[number] = self.now
        self.displaced += [frame.number for frame in displaced]

    @rule(passed=st.floats(0, 2))
    def wait(self, passed: float) -> None:
        self.now += passed

    @rule()
    def take(self) -> None:
        numbers = taken(self.flow.take(self.now))
        if not numbers:
            return
        due = self.now >= self.received[numbers[0]] + MAX_WAIT_S
        assert len(numbers) == 3 or due or self.flow.phase is Phase.ENDED
        assert len(numbers) <= 3
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        self.taken += numbers
        self.in_flight.append(numbers)

    @precondition(lambda self: self.in_flight)
    @rule()
    def answer(self) -> None:
        self.flow.answered(self.in_flight.pop(0))

    @rule()
    def end(self) -> None:
        self.flow.phase = Phase.ENDED

    @property
    def waiting(self) -> set[int]:
        return set(self.sent) - set(self.displaced) - set(self.taken)

    @property
    def unanswered(self) -> int:
        return len(self.waiting) + sum(map(len, self.in_flight))

    @invariant()
    def every_frame_is_in_one_place(self) -> None:
        assert self.taken == sorted(set(self.taken))
        assert not set(self.displaced) & set(self.taken)

    @invariant()
    def little_waits(self) -> None:
        assert len(self.waiting) <= (CREDITS if self.mode == "lossless" else 3)
        if self.mode == "lossless":
            assert self.unanswered <= CREDITS
            assert not self.displaced

    @invariant()
    def it_is_finished_once_nothing_waits_after_the_end(self) -> None:
        assert self.flow.finished == (self.flow.phase is Phase.ENDED and not self.waiting)

    def teardown(self) -> None:
        self.flow.phase = Phase.ENDED
        while clip := self.flow.take(self.now):
            self.taken += taken(clip)
        assert sorted(self.taken + self.displaced) == self.sent


class LosslessStream(AnyStream):
    mode = "lossless"


class LatestStream(AnyStream):
    mode = "latest"


TestLossless = LosslessStream.TestCase
TestLatest = LatestStream.TestCase
TestLossless.settings = TestLatest.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
