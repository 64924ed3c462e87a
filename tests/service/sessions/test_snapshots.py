"""Which snapshots are kept, where a fork may begin, and what it takes along."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.core.memory import Memory
from service.errors import RollbackTooFar, UnknownFrame
from service.sessions.snapshots import (
    SnapshotPolicy,
    add_clips,
    change_newest,
    find_origin,
    fork_session,
)
from service.store.records import Session, Snapshot, SnapshotContents

MEMORY = Memory.start(0, [1], capacity=4)


def session(*ends: int) -> Session:
    """A session with snapshots at these clip ends."""
    return Session(
        session_id="origin",
        model="toy",
        weights_sha256="0" * 64,
        frame_size=(60, 90),
        model_size=(64, 96),
        object_ids=(1,),
        labels={},
        clip_length=2,
        memory_size=4,
        memory=MEMORY,
        next_frame=ends[-1] + 1,
        version=5,
        snapshots=tuple(Snapshot(end) for end in ends),
    )


def changed(before: Session, *, corrected: bool = True) -> Session:
    """The session after its newest frame was changed by hand; object 7 came with it."""
    memory = before.memory.correct(before.newest, [1, 7], given=[7], revision=before.version + 1)
    after = before.advanced(memory=memory, next_frame=before.next_frame)
    after = replace(after, object_ids=(1, 7))
    return replace(after, snapshots=change_newest(before, after, corrected=corrected))


def ends_of(snapshots: tuple[Snapshot, ...]) -> list[int]:
    return [one.frame for one in snapshots]


def test_the_newest_clips_and_the_oldest_are_always_kept() -> None:
    kept = SnapshotPolicy(clips=3, spread=2).thin(session(*range(0, 80, 2)).snapshots)
    assert (ends_of(kept)[0], ends_of(kept)[-4:], len(kept)) == (0, [72, 74, 76, 78], 6)


def test_of_few_snapshots_none_is_dropped() -> None:
    snapshots = session(*range(0, 40, 2)).snapshots
    assert SnapshotPolicy(clips=16, spread=64).thin(snapshots) == snapshots


def test_a_corrected_reference_is_always_kept_as_the_session_went_on_from_it() -> None:
    first = changed(session(0))
    later = tuple(Snapshot(end) for end in range(2, 60, 2))
    for spread in (1, 2, 3):
        kept = SnapshotPolicy(clips=1, spread=spread).thin((*first.snapshots, *later))
        assert [one.name for one in kept[:2]] == ["0", "0.6"]
        assert len(kept) == max(2, spread) + 2


def test_what_a_person_changed_stays_as_long_as_anything_else_can_go() -> None:
    before = changed(session(*range(0, 21, 2)))
    kept = before.snapshots
    for end in range(22, 200, 2):
        kept = SnapshotPolicy(clips=2, spread=3).thin((*kept, Snapshot(end)))
    assert "20.6" in [one.name for one in kept]
    assert len(kept) == 6
    later = before.advanced(memory=before.memory, next_frame=200, snapshots=kept)
    assert find_origin(later, 60).frame >= 20


@given(
    clips=st.integers(0, 5),
    spread=st.integers(1, 12),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=400),
)
def test_what_is_kept_of_a_video_that_grows_is_evenly_spread(
    clips: int, spread: int, lengths: list[int]
) -> None:
    policy, end = SnapshotPolicy(clips=clips, spread=spread), 0
    kept: tuple[Snapshot, ...] = (Snapshot(0),)
    for length in lengths:
        end += length
        kept = policy.thin((*kept, Snapshot(end)))
        ends = ends_of(kept)
        assert ends[0] == 0
        assert len(kept) <= 1 + clips + spread
        older = ends[: max(1, len(ends) - clips)]
        gaps = [later - earlier for earlier, later in pairwise(older)]
        if len(gaps) > 1 and spread > 1:
            # The last gap still grows: it lies beside clips that are all kept.
            assert max(gaps) <= 3 * (end / spread) + 8


def test_clips_of_one_append_are_thinned_at_once() -> None:
    start = session(0)
    clips = [(end, MEMORY) for end in range(2, 42, 2)]
    kept = add_clips(start, clips, SnapshotPolicy(clips=2, spread=3))
    assert ends_of(kept)[0] == 0
    assert ends_of(kept)[-3:] == [36, 38, 40]
    assert len(kept) == 6


def test_without_a_frame_a_fork_begins_with_the_session_as_it_is() -> None:
    origin = find_origin(changed(session(2, 4)), None)
    assert (origin.frame, origin.revision) == (4, 6)
    assert origin.contents is not None
    assert origin.contents.object_ids == (1, 7)


def test_with_a_frame_it_begins_before_that_frame_was_changed() -> None:
    origin = find_origin(changed(session(2, 4)), 4)
    assert (origin.frame, origin.revision, origin.corrected) == (4, 0, True)


def test_with_a_later_frame_it_begins_after_the_change() -> None:
    later = changed(session(2, 4))
    later = later.advanced(
        memory=later.memory, next_frame=9, snapshots=(*later.snapshots, Snapshot(8))
    )
    assert find_origin(later, 5).name == "4.6"
    assert find_origin(later, 7).name == "4.6"
    assert find_origin(later, 8).name == "8"
    assert find_origin(later, 3).name == "2"


def test_a_snapshot_that_the_session_did_not_go_on_from_leads_nowhere() -> None:
    """Only what the clip left is kept of frame 4; the session went on from a correction."""
    past = session(2, 4, 8)
    snapshots = tuple(replace(one, superseded=one.frame == 4) for one in past.snapshots)
    assert find_origin(replace(past, snapshots=snapshots), 6).name == "2"


def test_of_changes_of_one_frame_the_last_is_kept_beside_the_first_state() -> None:
    twice = changed(changed(session(2, 4), corrected=False))
    assert [one.name for one in twice.snapshots] == ["2", "4", "4.7"]
    assert [one.superseded for one in twice.snapshots] == [False, True, False]
    assert [one.corrected for one in twice.snapshots] == [False, True, False]


def test_a_frame_that_is_not_committed_has_no_fork() -> None:
    with pytest.raises(UnknownFrame):
        find_origin(session(2, 4), 5)


def test_what_is_too_old_names_the_oldest_frame() -> None:
    with pytest.raises(RollbackTooFar, match="the oldest frame possible is 2") as caught:
        find_origin(session(2, 4), 1)
    assert caught.value.oldest == 2


def fork_at(origin: Session, *frames: int) -> Session:
    contents = SnapshotContents((1,), MEMORY)
    return fork_session(origin, [(Snapshot(frame), contents) for frame in frames], kept_from=0)


def test_a_fork_is_a_session_of_its_own_that_goes_on() -> None:
    origin = changed(session(0, 2, 4))
    fork = fork_at(origin, 0, 2)
    assert fork.session_id != origin.session_id
    assert (fork.next_frame, fork.object_ids, fork.kept_from) == (3, (1,), 0)
    assert [one.name for one in fork.snapshots] == ["0", "2"]
    assert fork.stored_bytes == 0


def test_revisions_go_on_in_a_fork() -> None:
    origin = session(2, 4)
    assert fork_at(origin, 4).version == origin.version
