"""What a bank is rebuilt from: the picture of each entry of the memory.

Letters: O objects, T tokens, C channels, h and w the model's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.memory import Entry, Memory
from service.engines.bank import Tensors
from service.engines.base import EntryPicture, Pictures
from service.engines.states import NO_STATE, ModelState, StateSource, decode_state
from service.errors import CorruptSession

MASKS_PER_BATCH = 16  # bounds a rebuild's memory; larger batches are no faster on a CPU


@dataclass(frozen=True, slots=True)
class BankSource:
    """What the bank of a session can be rebuilt from, and what it then holds."""

    session_id: str
    version: int  # of the session
    memory: Memory
    model_size: tuple[int, int]  # height, width
    pictures: Pictures
    state: StateSource = NO_STATE

    async def load(self) -> Sequence[EntryPicture]:
        """Return the picture of each entry of the memory, in that order.

        Raise CorruptSession if they are not those of the entries in number or size.
        """
        pictures = await self.pictures()
        if len(pictures) != len(self.memory.entries):
            raise CorruptSession(self.session_id, "entries and pictures differ in number")
        for entry, picture in zip(self.memory.entries, pictures, strict=True):
            shapes = (picture.frame.shape, picture.masks.shape)
            if shapes != ((*self.model_size, 3), (len(entry.object_ids), *self.model_size)):
                raise CorruptSession(self.session_id, f"entry of frame {entry.frame} has {shapes}")
        return pictures

    async def load_state(self, spec: ModelSpec, object_ids: Sequence[int]) -> ModelState | None:
        """Return the stored state of these objects; None where there is none of these weights."""
        data = await self.state.read() if spec.state else None
        return None if data is None else decode_state(data, spec, self.model_size, object_ids)


def entries_of_state(
    source: BankSource, pictures: Sequence[EntryPicture], stored: ModelState | None
) -> Sequence[tuple[Entry, EntryPicture]]:
    """Return the entries that a state has to be told, after the stored one: all if there is none.

    Of a stored one it is the newest entry if its frame was corrected since (decision 68).
    """
    pairs = list(zip(source.memory.entries, pictures, strict=True))
    if stored is None:
        return pairs
    return pairs[-1:] if source.state.corrected else []


def arrange_masks(
    entry: Entry, picture: EntryPicture, object_ids: Iterable[int]
) -> NDArray[np.uint8]:
    """Return the masks in the order of object_ids; objects that the entry does not know are 0."""
    rows = dict(zip(entry.object_ids, picture.masks, strict=True))
    empty = np.zeros(picture.frame.shape[:2], np.uint8)
    return np.stack([rows.get(object_id, empty) for object_id in object_ids])


def round_masks(
    spec: ModelSpec, masks: NDArray[np.uint8], entry: Entry, object_ids: Sequence[int]
) -> NDArray[np.uint8]:
    """Return what `entry` remembers of answered masks (O, h, w), as a rebuild gives them.

    Objects that it does not know are 0.
    """
    known = np.array([object_id in entry.object_ids for object_id in object_ids])
    return np.where(known[:, None, None], spec.loop_bias.remember(masks), np.uint8(0))


def made_by_memorize(spec: ModelSpec, entry: Entry, object_ids: Iterable[int]) -> bool:
    """Return whether `memorize` makes this entry, and not the clip.

    Where masks compete, an object's entry tells of the others' masks too. Of one that is not known
    a rebuild shows none, so neither does the entry (decision 68).
    """
    return spec.entry_by == "memorize" or (
        spec.aggregated and not set(object_ids) <= set(entry.object_ids)
    )


def clear_unknown(
    spec: ModelSpec, made: Tensors, entry: Entry, object_ids: Iterable[int]
) -> dict[str, NDArray[Any]]:
    """Return an entry's tensors with zeros for the objects that the entry does not know."""
    known = np.array([object_id in entry.object_ids for object_id in object_ids])
    if known.all():
        return dict(made)
    per_object = {tensor.name: tensor.per_object for tensor in spec.bank}
    return {
        name: np.where(known[:, None, None], values, 0) if per_object[name] else values
        for name, values in made.items()
    }
