"""The memory of a session: which entries stay, where they sit, how old they are."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.core.memory import Entry, Memory

OBJECT_IDS = st.lists(st.integers(1, 254), min_size=1, max_size=4, unique=True)


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    memory = Memory.start(
        draw(st.integers(0, 9)), draw(OBJECT_IDS), capacity=draw(st.integers(1, 16))
    )
    for step in draw(st.lists(st.integers(1, 5), max_size=25)):
        memory = memory.remember(memory.newest.frame + step, draw(OBJECT_IDS))
    return memory


def with_pin(memory: Memory, frame: int) -> Memory:
    entries = tuple(
        Entry(e.frame, e.slot, e.object_ids, pinned=e.pinned or e.frame == frame)
        for e in memory.entries
    )
    return Memory(memory.capacity, entries)


def filled(capacity: int, frames: int) -> Memory:
    memory = Memory.start(0, [1], capacity=capacity)
    for frame in range(1, frames):
        memory = memory.remember(frame, [1])
    return memory


def frames_of(memory: Memory) -> list[int]:
    return [entry.frame for entry in memory.entries]


def test_a_memory_starts_with_the_reference_alone() -> None:
    memory = Memory.start(0, [3, 1], capacity=4)
    assert memory.entries == (Entry(frame=0, slot=0, object_ids=(3, 1), pinned=True),)


def test_the_oldest_entry_after_the_reference_goes_first() -> None:
    assert frames_of(filled(capacity=3, frames=6)) == [0, 4, 5]


def test_a_new_entry_takes_the_lowest_free_slot() -> None:
    assert [entry.slot for entry in filled(capacity=4, frames=3).entries] == [0, 1, 2]


def test_a_new_entry_takes_the_slot_of_the_one_it_evicts() -> None:
    memory = filled(capacity=3, frames=4)
    assert [(entry.frame, entry.slot) for entry in memory.entries] == [(0, 0), (2, 2), (3, 1)]


def test_a_memory_of_one_keeps_the_reference() -> None:
    memory = Memory.start(0, [1], capacity=1)
    assert memory.remember(1, [1]) is memory


def test_a_pinned_entry_stays() -> None:
    memory = with_pin(filled(capacity=3, frames=3), frame=1)
    assert frames_of(memory.remember(3, [1]).remember(4, [1])) == [0, 1, 4]


def test_where_everything_is_pinned_nothing_is_remembered() -> None:
    memory = with_pin(filled(capacity=2, frames=2), frame=1)
    assert memory.remember(2, [1]) is memory


def test_ages_count_from_the_newest_and_mark_empty_slots() -> None:
    assert filled(capacity=5, frames=3).ages().tolist() == [2, 1, 0, -1, -1]
    assert filled(capacity=3, frames=4).ages().tolist() == [2, 0, 1]


def test_an_entry_is_valid_for_the_objects_it_knows() -> None:
    memory = Memory.start(0, [1, 7], capacity=3).remember(2, [1, 7, 9])
    assert memory.entry_valid([9, 1]).tolist() == [[False, True, False], [True, True, False]]


def test_evicted_by_names_what_is_gone() -> None:
    before = filled(capacity=3, frames=3)
    assert [entry.frame for entry in before.evicted_by(before.remember(3, [1]))] == [1]
    assert before.evicted_by(before) == ()


def test_a_frame_is_remembered_once() -> None:
    with pytest.raises(ValueError, match="do not increase"):
        filled(capacity=3, frames=3).remember(2, [1])


@given(memories())
def test_the_reference_is_never_evicted(memory: Memory) -> None:
    assert memory.entries[0].slot == 0
    assert memory.entries[0].pinned
    assert not any(entry.pinned for entry in memory.entries[1:])


@given(memories())
def test_slots_are_unique_and_never_more_than_the_capacity(memory: Memory) -> None:
    slots = [entry.slot for entry in memory.entries]
    assert len(set(slots)) == len(slots) <= memory.capacity


@given(memories())
def test_ages_are_a_permutation(memory: Memory) -> None:
    ages = memory.ages()
    assert sorted(age for age in ages.tolist() if age >= 0) == list(range(len(memory.entries)))
    assert ages[0] == len(memory.entries) - 1
    assert ages[memory.newest.slot] == 0


@given(memories())
def test_a_memory_survives_json(memory: Memory) -> None:
    assert Memory.from_json(memory.to_json()) == memory
    assert Memory.from_json(memory.to_json().encode()) == memory


REFERENCE = [0, 0, [1], True]


@pytest.mark.parametrize(
    ("capacity", "entries"),
    [
        (0, [REFERENCE]),
        (17, [REFERENCE]),
        (True, [REFERENCE]),
        (4, []),
        (4, [[0, 1, [1], True]]),
        (4, [[0, 0, [1], False]]),
        (4, [[-1, 0, [1], True]]),
        (4, [REFERENCE, [3, 0, [1], False]]),
        (4, [REFERENCE, [3, 4, [1], False]]),
        (4, [REFERENCE, [3, -1, [1], False]]),
        (4, [REFERENCE, [0, 1, [1], False]]),
        (4, [REFERENCE, [5, 1, [1], False], [4, 2, [1], False]]),
        (4, [REFERENCE, [3, 1.0, [1], False]]),
        (4, [REFERENCE, [3, 1, [0], False]]),
        (4, [REFERENCE, [3, 1, [255], False]]),
        (4, [REFERENCE, [3, 1, [2, 2], False]]),
        (4, [REFERENCE, [3, 1, "12", False]]),
        (4, [REFERENCE, [3, 1, [1], 0]]),
        (4, [REFERENCE, [3, 1, [1]]]),
        (4, [REFERENCE, [3, 1, [1], False, -1]]),
        (4, [REFERENCE, [3, 1, [1], False, "1"]]),
        (4, [REFERENCE, [3, 1, [1], True, 1, [2]]]),
        (4, [REFERENCE, [3, 1, [1], True, 1, 1]]),
        (4, [[None] * 4]),
        (4, 7),
    ],
)
def test_a_contradictory_memory_is_refused(capacity: object, entries: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Memory.from_json(json.dumps({"capacity": capacity, "entries": entries}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"capacity": 3}', b"\xff\xfe\xfd"])
def test_what_is_no_memory_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Memory.from_json(text)


def test_the_rules_are_imported_without_torch() -> None:
    modules = ["memory", "image_headers", "pixels", "masks", "encoding", "palette", "j_and_f"]
    code = (
        "import sys\nsys.modules['torch'] = None\nimport importlib, model.core\n"
        f"for name in {modules}: importlib.import_module(f'model.core.{{name}}')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
