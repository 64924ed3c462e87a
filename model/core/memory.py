"""What a session remembers: which frames, in which slots, with which objects, and how old each is.

Letters: N slots (the capacity), n entries that are remembered, O objects.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_CAPACITY = 16
MAX_OBJECT_ID = 254  # 255 means "ignore" in mask images
UNPINNED = 2  # entries that corrections always leave to what is predicted


class MemoryFull(ValueError):
    """No entry can be pinned: all that are pinned must stay."""


def _check_integers(*values: Any) -> None:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{value!r} is not an integer")


@dataclass(frozen=True, slots=True)
class Retention:
    """Which frames a model keeps: one in `every`, and the `recent` newest ones beside them.

    STM keeps every fifth frame and reads the previous one as well: (5, 1). With (5, 0) the frames
    between are not remembered at all. (1, 0) is first in, first out.
    """

    every: int = 1
    recent: int = 0

    def __post_init__(self) -> None:
        _check_integers(self.every, self.recent)
        if self.every < 1 or self.recent < 0:
            raise ValueError(f"every {self.every} is below 1 or recent {self.recent} below 0")


@dataclass(frozen=True, slots=True)
class Entry:
    """One remembered frame, the slot of the bank it sits in and the objects it knows.

    `revision` tells the entry's contents from earlier ones of the same frame: 0 as it was first
    remembered, and a higher number with each correction. `given` are the objects whose mask in it
    a person gave; None means all of a pinned entry, and none of another. An entry that is not
    `kept` passes: it goes when newer ones come (`Retention`).
    """

    frame: int
    slot: int
    object_ids: tuple[int, ...]
    pinned: bool = False
    revision: int = 0  # decision 30
    given: tuple[int, ...] | None = None  # decision 59
    kept: bool = True

    def __post_init__(self) -> None:
        _check_integers(self.frame, self.slot, self.revision, *self.object_ids, *(self.given or ()))
        if self.frame < 0 or self.revision < 0:
            raise ValueError(f"frame {self.frame} or revision {self.revision} is negative")
        if len(set(self.object_ids)) != len(self.object_ids):
            raise ValueError(f"object ids {self.object_ids} repeat")
        if not all(1 <= object_id <= MAX_OBJECT_ID for object_id in self.object_ids):
            raise ValueError(f"object ids {self.object_ids} leave 1..{MAX_OBJECT_ID}")
        if self.given is not None and not set(self.given) <= set(self.object_ids):
            raise ValueError(f"given are {self.given}, known are {self.object_ids}")

    @property
    def human_ids(self) -> tuple[int, ...]:
        """Return the objects whose mask in this entry a person gave."""
        if self.given is not None:
            return self.given
        return self.object_ids if self.pinned else ()

    def forget(self, object_ids: Collection[int]) -> Entry:
        """Return the entry that knows these objects no longer."""
        if set(object_ids).isdisjoint(self.object_ids):
            return self
        known = tuple(known for known in self.object_ids if known not in object_ids)
        given = None if self.given is None else tuple(n for n in self.given if n in known)
        return replace(self, object_ids=known, given=given)


FIRST_IN_FIRST_OUT = Retention()


@dataclass(frozen=True, slots=True)
class Memory:
    """The entries of one session, oldest first; `entries[0]` is the reference (slot 0, pinned).

    ValueError if the entries contradict each other: this is the gate for what a store gives back.
    """

    capacity: int
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        _check_integers(self.capacity)
        if not 1 <= self.capacity <= MAX_CAPACITY:
            raise ValueError(f"capacity {self.capacity} is not in 1..{MAX_CAPACITY}")
        if not self.entries or self.entries[0].slot != 0 or not self.entries[0].pinned:
            raise ValueError("the first entry must be the reference: slot 0, pinned")
        slots = [entry.slot for entry in self.entries]
        if len(set(slots)) != len(slots) or not set(slots) <= set(range(self.capacity)):
            raise ValueError(f"slots {slots} repeat or leave 0..{self.capacity - 1}")
        frames = [entry.frame for entry in self.entries]
        if sorted(set(frames)) != frames:
            raise ValueError(f"frames {frames} do not increase")

    @classmethod
    def start(cls, frame: int, object_ids: Sequence[int], *, capacity: int) -> Memory:
        """Return a memory of the reference alone."""
        reference = Entry(frame=frame, slot=0, object_ids=tuple(object_ids), pinned=True)
        return cls(capacity=capacity, entries=(reference,))

    @property
    def newest(self) -> Entry:
        """Return the entry that was remembered last."""
        return self.entries[-1]

    def remember(
        self, frame: int, object_ids: Sequence[int], retention: Retention = FIRST_IN_FIRST_OUT
    ) -> Memory:
        """Return the memory with `frame` as its newest entry; the oldest that is not pinned goes.

        Entries that have passed go first. The new entry takes the lowest free slot, else the slot
        of the entry it evicts. Where everything is pinned and no slot is free (always so with
        capacity 1), or where a frame between those that are kept is not remembered, nothing
        changes.
        """
        if frame <= self.newest.frame:
            raise ValueError(f"frames do not increase: {frame} after {self.newest.frame}")
        newest_kept = next(entry for entry in reversed(self.entries) if entry.kept)
        stays = frame - newest_kept.frame >= retention.every
        if not stays and not retention.recent:
            return self
        # Passing entries that the new one makes too old go first.
        young = self.entries[max(0, len(self.entries) + 1 - max(1, retention.recent)) :]
        entries = tuple(entry for entry in self.entries if entry.kept or entry in young)
        passed = self if len(entries) == len(self.entries) else replace(self, entries=entries)
        return passed._add(frame, object_ids, kept=stays)

    def _add(self, frame: int, object_ids: Sequence[int], *, kept: bool) -> Memory:
        remaining = self.entries
        taken = {entry.slot for entry in self.entries}
        slot = next((slot for slot in range(self.capacity) if slot not in taken), None)
        if slot is None:
            # The first frame is the user's own mask: it is pinned, so it is never found here.
            # One that passes goes by itself: of the others the oldest goes before it.
            loose = sorted((e for e in self.entries if not e.pinned), key=lambda e: not e.kept)
            if not loose:
                return self
            oldest = loose[0]
            slot = oldest.slot
            remaining = tuple(entry for entry in self.entries if entry is not oldest)
        newest = Entry(frame=frame, slot=slot, object_ids=tuple(object_ids), kept=kept)
        return replace(self, entries=(*remaining, newest))

    def correct(
        self, frame: int, object_ids: Sequence[int], *, given: Collection[int], revision: int
    ) -> Memory:
        """Return the memory whose newest entry, that of `frame`, is rewritten (or made) and pinned.

        From now on it knows `object_ids`. A person gave the masks of those that are `given`: older
        entries in which they were predicted know them no longer. An entry that knows nothing else
        leaves, and the others move to the lowest slots. At most `capacity` - 2 entries are pinned,
        the reference included: beyond that the oldest correction that is no object's first mask
        is unpinned. MemoryFull where there is none.
        """
        made = self if self.newest.frame == frame else self.remember(frame, object_ids)
        newest = made.newest
        if newest.frame != frame:
            raise MemoryFull("no entry of the memory can be replaced")
        older = made.entries[:-1] if newest.pinned else made._room_for_one_pin()
        human = {*given, *newest.human_ids}
        corrected = Entry(
            frame,
            newest.slot,
            tuple(object_ids),
            pinned=True,
            revision=revision,
            given=tuple(object_id for object_id in object_ids if object_id in human),
        )
        # A person's mask outranks predictions (decision 59).
        left = (entry.forget(set(given).difference(entry.human_ids)) for entry in older)
        kept = (*(entry for entry in left if entry.object_ids or entry.pinned), corrected)
        if len(kept) < len(made.entries):
            ranks = sorted(entry.slot for entry in kept)
            kept = tuple(replace(entry, slot=ranks.index(entry.slot)) for entry in kept)
        return replace(made, entries=kept)

    def forget(self, object_id: int) -> Memory:
        """Return the memory whose entries know this object no longer; they stay where they are."""
        return replace(self, entries=tuple(entry.forget({object_id}) for entry in self.entries))

    def _room_for_one_pin(self) -> tuple[Entry, ...]:
        """Return the entries but the newest, one unpinned where the newest is one pin too many."""
        older = self.entries[:-1]
        if sum(entry.pinned for entry in older) < self.capacity - UNPINNED:
            return older
        known: set[int] = set(self.entries[0].object_ids)
        for index, entry in enumerate(older[1:], start=1):
            # An object's first mask is all that is surely known of it.
            if entry.pinned and known.issuperset(entry.object_ids):
                unpinned = replace(entry, pinned=False, given=entry.human_ids)
                return (*older[:index], unpinned, *older[index + 1 :])
            known.update(entry.object_ids)
        raise MemoryFull(
            f"a memory of {self.capacity} entries pins {max(1, self.capacity - UNPINNED)}, and "
            "each of them is the reference or an object's first mask"
        )

    def ages(self) -> NDArray[np.int32]:
        """Return int32 (N,) by slot: 0 the newest entry, n - 1 the reference, -1 an empty slot."""
        ages = np.full(self.capacity, -1, dtype=np.int32)
        for age, entry in enumerate(reversed(self.entries)):
            ages[entry.slot] = age
        return ages

    def entry_valid(self, object_ids: Sequence[int]) -> NDArray[np.bool_]:
        """Return bool (O, N): which slot holds an entry that knows which of `object_ids`."""
        valid = np.zeros((len(object_ids), self.capacity), dtype=np.bool_)
        for entry in self.entries:
            valid[:, entry.slot] = [object_id in entry.object_ids for object_id in object_ids]
        return valid

    def evicted_by(self, later: Memory) -> tuple[Entry, ...]:
        """Return the entries of this memory that `later`, a later state of it, no longer has."""
        return tuple(entry for entry in self.entries if entry not in later.entries)

    def to_json(self) -> str:
        """Return the memory as JSON text; `from_json` gives it back."""
        entries = [
            [e.frame, e.slot, e.object_ids, e.pinned, e.revision, *_optional_fields(e)]
            for e in self.entries
        ]
        return json.dumps({"capacity": self.capacity, "entries": entries}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Memory:
        """Return the memory that `to_json` wrote; raise ValueError for anything else."""
        try:
            value = json.loads(text)
            entries = tuple(_entry(*fields) for fields in value["entries"])
            return cls(capacity=value["capacity"], entries=entries)
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a memory: {error!r}") from error


def _entry(
    frame: int,
    slot: int,
    object_ids: list[int],
    pinned: bool,
    revision: int = 0,
    given: list[int] | None = None,
    kept: bool = True,
) -> Entry:
    if not isinstance(pinned, bool) or not isinstance(kept, bool):
        raise ValueError(f"pinned is {pinned!r} and kept {kept!r}, not true or false")
    return Entry(
        frame,
        slot,
        tuple(object_ids),
        pinned=pinned,
        revision=revision,
        given=None if given is None else tuple(given),
        kept=kept,
    )


def _optional_fields(entry: Entry) -> tuple[Any, ...]:
    """Return what follows an entry's revision in JSON: nothing where all is as it mostly is."""
    if not entry.kept:
        return entry.given, False
    return () if entry.given is None else (entry.given,)
