"""Corrections in the memory of a session: what they pin, and which entries they outrank."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.core.memory import Entry, Memory, MemoryFull
from tests.core.test_memory import OBJECT_IDS, filled, frames_of, memories


def corrected(
    memory: Memory, object_ids: tuple[int, ...] = (1,), given: tuple[int, ...] = ()
) -> Memory:
    """The memory whose newest frame was corrected: all of its objects unless some are `given`."""
    frame = memory.newest.frame
    return memory.correct(frame, object_ids, given=given or object_ids, revision=frame + 1)


def pins(memory: Memory) -> list[int]:
    return [entry.frame for entry in memory.entries if entry.pinned]


def after_corrections(capacity: int, objects_at: list[tuple[int, ...]]) -> Memory:
    """A memory whose frames 1, 2, ... were each corrected, with these objects known then."""
    memory = Memory.start(0, [1], capacity=capacity)
    for frame, object_ids in enumerate(objects_at, start=1):
        memory = corrected(memory.remember(frame, object_ids), object_ids)
    return memory


def test_a_correction_rewrites_the_newest_entry_in_its_slot_and_pins_it() -> None:
    memory = filled(capacity=5, frames=4)
    newest = Entry(3, memory.newest.slot, (1, 7), pinned=True, revision=4, given=(7,))
    assert memory.correct(3, [1, 7], given=[7], revision=4) == Memory(
        5, (*memory.entries[:-1], newest)
    )


def test_a_correction_makes_the_entry_where_there_is_none() -> None:
    memory = filled(capacity=5, frames=3).correct(6, [1, 2], given=[2], revision=9)
    assert memory.newest == Entry(6, 3, (1, 2), pinned=True, revision=9, given=(2,))


def test_the_reference_can_be_corrected_in_any_memory() -> None:
    memory = corrected(Memory.start(0, [1], capacity=1), (1, 2))
    assert memory.entries == (Entry(0, 0, (1, 2), pinned=True, revision=1, given=(1, 2)),)


def test_an_added_object_is_invalid_in_older_entries() -> None:
    memory = corrected(filled(capacity=4, frames=3), (1, 7), given=(7,))
    assert memory.entry_valid([1, 7]).tolist() == [
        [True] * 3 + [False],
        [False] * 2 + [True, False],
    ]


def test_the_oldest_correction_is_unpinned_for_a_new_one() -> None:
    memory = after_corrections(5, [(1,), (1,)])
    assert pins(memory) == [0, 1, 2]
    assert pins(corrected(memory.remember(3, [1]))) == [0, 2, 3]


def test_an_object_s_first_mask_stays_pinned() -> None:
    memory = after_corrections(5, [(1, 2), (1, 2)])
    assert pins(corrected(memory.remember(3, [1, 2]), (1, 2))) == [0, 1, 3]


def test_an_unpinned_correction_is_the_next_to_go() -> None:
    memory = corrected(after_corrections(4, [(1,)]).remember(2, [1]))
    assert frames_of(memory.remember(3, [1]).remember(4, [1])) == [0, 2, 3, 4]


def test_a_memory_of_first_masks_is_full() -> None:
    memory = after_corrections(5, [(1, 2), (1, 2, 3)]).remember(3, [1, 2, 3])
    with pytest.raises(MemoryFull, match="5 entries pins 3"):
        corrected(memory, (1, 2, 3))


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_a_small_memory_pins_nothing_but_the_reference(capacity: int) -> None:
    memory = filled(capacity, frames=2)
    with pytest.raises(MemoryFull):
        memory.correct(1, [1], given=[1], revision=1)


def test_correcting_a_frame_twice_pins_it_once() -> None:
    memory = after_corrections(4, [(1, 2)])
    assert pins(corrected(memory, (1, 2, 3))) == [0, 1]


def test_a_forgotten_object_is_known_nowhere_and_its_first_mask_may_be_unpinned() -> None:
    memory = after_corrections(4, [(1, 2)]).forget(2)
    assert not memory.entry_valid([2]).any()
    assert pins(corrected(memory.remember(2, [1]))) == [0, 2]


def test_an_entry_in_which_a_corrected_object_was_predicted_knows_it_no_longer() -> None:
    memory = Memory.start(0, [1, 2], capacity=5).remember(2, [1, 2]).remember(4, [1, 2])
    after = corrected(memory.remember(6, [1, 2]), (1, 2), given=(2,))
    assert [entry.object_ids for entry in after.entries] == [(1, 2), (1,), (1,), (1, 2)]
    assert [entry.slot for entry in after.entries] == [0, 1, 2, 3]


def test_an_entry_that_knows_nothing_else_leaves_and_the_others_move_up() -> None:
    memory = filled(capacity=4, frames=6)
    assert [(entry.frame, entry.slot) for entry in memory.entries] == [
        (0, 0),
        (3, 3),
        (4, 1),
        (5, 2),
    ]
    after = corrected(memory)
    assert [(entry.frame, entry.slot) for entry in after.entries] == [(0, 0), (5, 1)]
    assert [(e.frame, e.slot) for e in after.remember(6, [1]).entries][-1] == (6, 2)


def test_what_a_person_gave_outlives_later_corrections() -> None:
    """Object 1 was given at 0 and 4, predicted at 2; object 2 was given at 2, predicted at 4."""
    memory = Memory.start(0, [1], capacity=6).remember(2, [1])
    memory = corrected(memory, (1, 2), given=(2,))
    memory = corrected(memory.remember(4, [1, 2]), (1, 2), given=(1,))
    after = corrected(memory.remember(6, [1, 2]), (1, 2))
    assert [entry.object_ids for entry in after.entries] == [(1,), (2,), (1,), (1, 2)]


def test_a_correction_that_is_unpinned_is_still_a_persons() -> None:
    memory = corrected(after_corrections(5, [(1,), (1,)]).remember(3, [1]))
    assert [(e.frame, e.pinned, e.human_ids) for e in memory.entries] == [
        (0, True, (1,)),
        (1, False, (1,)),
        (2, True, (1,)),
        (3, True, (1,)),
    ]


def test_correcting_a_frame_again_keeps_what_was_given_before() -> None:
    memory = corrected(filled(capacity=5, frames=3), (1, 2), given=(2,))
    assert corrected(memory, (1, 2), given=(1,)).newest.given == (1, 2)


def test_a_pinned_entry_of_before_is_all_a_persons() -> None:
    text = '{"capacity":4,"entries":[[0,0,[1],true],[2,1,[1,2],true,3],[4,2,[1,2],false,0]]}'
    memory = Memory.from_json(text)
    assert [entry.human_ids for entry in memory.entries] == [(1,), (1, 2), ()]
    assert Memory.from_json(memory.to_json()) == memory


@given(memories(), st.data())
def test_after_random_corrections_only_human_and_later_entries_know_an_object(
    memory: Memory, data: st.DataObject
) -> None:
    """Told apart by a model of its own: which masks a person gave, and since when they count."""
    tracked = set(memory.entries[0].object_ids)
    human = {(memory.entries[0].frame, name) for name in tracked}
    since = dict.fromkeys(tracked, memory.entries[0].frame)
    memory = Memory.start(memory.entries[0].frame, sorted(tracked), capacity=memory.capacity)
    for revision in range(1, data.draw(st.integers(0, 12))):
        memory = memory.remember(memory.newest.frame + 1, sorted(tracked))
        frame, given = memory.newest.frame, set(data.draw(st.lists(st.integers(1, 5), max_size=3)))
        if not given:
            continue
        try:
            memory = memory.correct(frame, sorted(tracked | given), given=given, revision=revision)
        except MemoryFull:
            continue
        tracked |= given
        human |= {(frame, name) for name in given}
        since |= dict.fromkeys(given, frame)
        for entry in memory.entries:
            wanted = {
                name
                for name in tracked
                if (entry.frame, name) in human or entry.frame >= since[name]
            }
            assert set(entry.object_ids) == wanted
            assert set(entry.human_ids) == {name for name in wanted if (entry.frame, name) in human}
        slots = [entry.slot for entry in memory.entries]
        assert sorted(slots) == list(range(len(slots)))
        assert Memory.from_json(memory.to_json()) == memory


@given(memories(), st.lists(OBJECT_IDS, max_size=12))
def test_corrections_leave_room_for_what_is_predicted(
    memory: Memory, known: list[list[int]]
) -> None:
    objects: set[int] = set().union(*(entry.object_ids for entry in memory.entries))
    for revision, object_ids in enumerate(known, start=1):
        before = memory.remember(memory.newest.frame + 1, sorted(objects))
        objects |= set(object_ids)
        try:
            memory = before.correct(
                before.newest.frame, sorted(objects), given=object_ids, revision=revision
            )
        except MemoryFull:
            memory = before
            objects -= set(object_ids) - set(before.newest.object_ids)
        assert len(pins(memory)) <= max(1, memory.capacity - 2)
        assert frames_of(memory)[-1] == frames_of(before)[-1]
        assert Memory.from_json(memory.to_json()) == memory
