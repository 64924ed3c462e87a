"""What a streaming client sends, and sends again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamvt_client import UnexpectedResponse
from tamvt_client.send_window import Newest, Sending, Window
from tamvt_client.wire import ImageMessage


def fill(sending: Sending, *numbers: int) -> None:
    for number in numbers:
        sending.add(ImageMessage(number, 0, b""))


def sent(sending: Sending) -> list[int]:
    """Everything that may be sent now."""
    found = []
    while (picture := sending.take()) is not None:
        found.append(picture.number)
    return found


def test_a_window_sends_no_more_than_its_credits() -> None:
    window = Window()
    window.ready(next_frame=1, credits=2)
    fill(window, 1, 2, 3)
    assert sent(window) == [1, 2]
    assert not window.is_sent
    window.answered(1)
    assert sent(window) == [3]
    assert window.is_sent


def test_a_new_connection_gets_the_unanswered_frames_again() -> None:
    window = Window()
    window.ready(next_frame=1, credits=4)
    fill(window, 1, 2, 3, 4)
    assert sent(window) == [1, 2, 3, 4]
    window.answered(1)
    window.ready(next_frame=3, credits=4)
    window.answered(2)  # replayed
    assert sent(window) == [3, 4]


def test_committed_frames_of_the_source_are_not_sent() -> None:
    window = Window()
    window.ready(next_frame=3, credits=4)
    fill(window, 1, 2, 3)
    assert sent(window) == [3]


def test_a_window_has_room_for_its_credits() -> None:
    window = Window()
    window.ready(next_frame=1, credits=2)
    fill(window, 1)
    assert window.is_writable
    fill(window, 2)
    assert not window.is_writable


def test_a_service_that_lost_answered_frames_is_noticed() -> None:
    window = Window()
    window.ready(next_frame=1, credits=4)
    fill(window, 1, 2)
    window.answered(2)
    with pytest.raises(UnexpectedResponse, match="expects frame 1"):
        window.ready(next_frame=1, credits=4)


def test_only_the_newest_frame_is_sent() -> None:
    newest = Newest()
    newest.ready(next_frame=1, credits=None)
    fill(newest, 1, 2, 3)
    assert sent(newest) == [3]
    assert newest.is_sent


def test_a_newest_frame_that_is_too_old_is_not_sent() -> None:
    newest = Newest()
    fill(newest, 3)
    newest.ready(next_frame=5, credits=None)
    assert sent(newest) == []


@settings(max_examples=200, deadline=None)
@given(breaks=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_every_frame_is_committed_once_and_in_order(breaks: list[tuple[int, int]]) -> None:
    """Connections that break after some frames, of which some were committed meanwhile."""
    window, source, committed = Window(), 1, 0
    for arrive, heard in [*breaks, (6, 6)]:
        window.ready(next_frame=committed + 1, credits=6)
        while window.is_writable:
            fill(window, source)
            source += 1
        got = sent(window)[:arrive]
        assert got == list(range(committed + 1, committed + 1 + len(got)))
        before, committed = committed, committed + len(got)
        for number in range(before + 1, min(committed, before + heard) + 1):
            window.answered(number)
