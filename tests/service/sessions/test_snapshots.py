"""Where a fork may begin, and what it takes along."""

from __future__ import annotations

import pytest

from model.core.memory import Memory
from service.errors import BadOption, RollbackTooFar, UnknownFrame
from service.sessions.snapshots import MOST_MASKS, forked, origin_of
from service.store.records import Session, Snapshot


def session(*boundaries: int) -> Session:
    """A session whose history has these clip ends; object 7 came with the newest."""
    memory = Memory.start(0, [1], capacity=4)
    history = tuple(Snapshot(frame, (1,), memory) for frame in boundaries)
    return Session(
        session_id="origin",
        model="toy",
        weights_sha256="0" * 64,
        frame_size=(60, 90),
        model_size=(64, 96),
        object_ids=(1, 7),
        labels={},
        clip_length=2,
        memory_size=4,
        memory=memory.correct(boundaries[-1], [1, 7], given=[7], revision=5),
        next_frame=boundaries[-1] + 1,
        version=6,
        history=history,
    )


def test_without_a_frame_it_begins_with_the_session_as_it_is() -> None:
    origin = origin_of(session(2, 4), None)
    assert (origin.frame, origin.object_ids, origin.memory.newest.revision) == (4, (1, 7), 5)


def test_with_a_frame_it_begins_before_that_frame_was_corrected() -> None:
    origin = origin_of(session(2, 4), 4)
    assert (origin.frame, origin.object_ids, origin.memory.newest.frame) == (4, (1,), 0)


@pytest.mark.parametrize(
    ("at", "error"), [(5, UnknownFrame), (3, BadOption), (1, RollbackTooFar), (0, RollbackTooFar)]
)
def test_other_frames_are_refused(at: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        origin_of(session(2, 4), at)


def test_what_is_too_old_names_the_oldest_frame() -> None:
    with pytest.raises(RollbackTooFar, match="the oldest frame possible is 2") as caught:
        origin_of(session(2, 4), 0)
    assert caught.value.oldest == 2


def test_a_fork_is_a_session_of_its_own_that_goes_on() -> None:
    origin = session(2, 4)
    fork = forked(origin, origin_of(origin, 2))
    assert fork.session_id != origin.session_id
    assert (fork.next_frame, fork.object_ids, fork.kept_from) == (3, (1,), 0)
    assert [past.frame for past in fork.history] == [2]


def test_revisions_go_on_in_a_fork() -> None:
    origin = session(2, 4)
    assert forked(origin, origin_of(origin, None)).version == origin.version


def test_a_fork_takes_the_newest_masks_only() -> None:
    origin = session(2, 5000)
    assert forked(origin, origin_of(origin, None)).kept_from == 5001 - MOST_MASKS
