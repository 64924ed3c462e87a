"""What a streaming client sends, and sends again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamvt_client import UnexpectedResponse, send_window
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


def flags(sending: Sending) -> list[tuple[int, int]]:
    """Everything that may be sent now, with its flags."""
    found = []
    while (picture := sending.take()) is not None:
        found.append((picture.number, picture.flags))
    return found


def test_what_is_answered_is_sent_again_in_its_clips_until_it_is_committed() -> None:
    window = Window(until_committed=True)
    window.ready(next_frame=1, credits=8)
    fill(window, *range(1, 7))
    assert flags(window) == [(n, 0) for n in range(1, 7)]
    window.answered(1, clip=(1, 1))
    window.answered(2, clip=(2, 3))
    window.committed(0)
    window.ready(next_frame=1, credits=8)  # the masks of 3 were lost with the connection
    assert flags(window) == [(1, 3), (2, 1), (3, 3), (4, 0), (5, 0), (6, 0)]
    window.committed(3)
    window.ready(next_frame=4, credits=8)
    assert sent(window) == [4, 5, 6]


def test_answers_give_credits_back_before_they_are_committed() -> None:
    window = Window(until_committed=True)
    window.ready(next_frame=1, credits=2)
    fill(window, 1, 2)
    assert sent(window) == [1, 2]
    assert not window.is_writable
    window.answered(1, clip=(1, 2))
    assert window.is_writable
    fill(window, 3)
    assert sent(window) == [3]
    window.ready(next_frame=1, credits=2)
    assert not window.is_writable
    assert sent(window) == [1, 2]
    window.answered(1, clip=(1, 2))
    assert sent(window) == [3]


def test_a_service_that_lost_committed_frames_is_noticed() -> None:
    window = Window(until_committed=True)
    window.ready(next_frame=1, credits=4)
    fill(window, 1, 2)
    window.answered(2, clip=(1, 2))
    window.ready(next_frame=1, credits=4)
    window.committed(1)
    with pytest.raises(UnexpectedResponse, match="expects frame 1"):
        window.ready(next_frame=1, credits=4)


@pytest.mark.parametrize("kind", [Window, Newest])
@pytest.mark.parametrize("most", ["MOST_KEPT", "MOST_KEPT_BYTES"])
def test_what_is_kept_is_bounded(
    kind: type[Window] | type[Newest], most: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_window, most, 3)
    sending = kind(until_committed=True)
    sending.ready(next_frame=1, credits=9)
    for number in (1, 2, 3):
        sending.add(ImageMessage(number, 0, b"x"))
        assert sent(sending) == [number]
        sending.answered(number, clip=(number, number))
    if isinstance(sending, Newest):
        fill(sending, 4)
        assert sent(sending) == []
    else:
        assert not sending.is_writable
    sending.committed(1)
    assert sending.is_writable
    fill(sending, 5)
    assert sent(sending) == [5]


def test_of_the_newest_frames_those_that_were_answered_are_sent_again() -> None:
    newest = Newest(until_committed=True)
    newest.ready(next_frame=1, credits=None)
    for number in range(1, 8):
        fill(newest, number)
        assert flags(newest) == [(number, 0)]
    newest.dropped(1)
    newest.answered(2, clip=(2, 2))
    newest.dropped(3)
    newest.answered(4, clip=(4, 5))
    newest.ready(next_frame=1, credits=None)
    fill(newest, 8)
    assert not newest.is_sent
    assert flags(newest) == [(2, 3), (4, 1), (5, 3), (8, 0)]
    assert newest.is_sent
    newest.committed(2)
    newest.ready(next_frame=3, credits=None)
    assert flags(newest) == [(4, 1), (5, 3)]


def test_what_is_to_be_sent_yet_is_kept_though_it_is_committed_meanwhile() -> None:
    """By another gateway, to which it was sent before."""
    for sending in (Window(until_committed=True), Newest(until_committed=True)):
        sending.ready(next_frame=1, credits=1)
        for number in (1, 2):
            fill(sending, number)
            sent(sending)
            sending.answered(number, clip=(number, number))
        sending.ready(next_frame=1, credits=1)
        sending.committed(2)
        assert flags(sending)[:1] == [(1, 3)]


@settings(max_examples=200, deadline=None)
@given(
    crashes=st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=12),
    bounds=st.lists(st.integers(1, 2), min_size=200, max_size=200),
)
def test_however_often_a_service_is_killed_each_frame_is_tracked_in_one_clip(
    crashes: list[tuple[int, int, int]], bounds: list[int]
) -> None:
    """It answers some clips, of which the client hears some frames, and commits some of those."""
    window, source, committed = Window(until_committed=True), 1, 0
    told: dict[int, tuple[int, int]] = {}  # the clip of each frame that the client has masks of
    lengths = iter(bounds)
    for answered, heard, kept in [*crashes, (6, 6, 6)]:
        window.ready(next_frame=committed + 1, credits=6)
        while window.is_writable and source < 100:
            fill(window, source)
            source += 1
        got = flags(window)
        assert [number for number, _ in got] == list(range(committed + 1, committed + 1 + len(got)))
        clips: list[tuple[int, int]] = []
        while got and len(clips) < answered:
            resent = [number for number, flag in got if flag]
            ends = [number for number, flag in got if flag == 3]
            if resent and not ends:
                break  # its end comes with the credits
            last = ends[0] if resent else min(got[0][0] + next(lengths) - 1, got[-1][0])
            clips.append((got[0][0], last))
            got = [one for one in got if one[0] > last]
        frames = [(number, clip) for clip in clips for number in range(clip[0], clip[1] + 1)]
        for number, clip in frames[:heard]:
            window.answered(number, clip=clip)
            assert told.setdefault(number, clip) == clip
        if clips[:kept]:
            committed = clips[:kept][-1][1]


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
