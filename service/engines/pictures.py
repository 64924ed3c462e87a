"""What a bank is rebuilt from: the picture of each remembered entry. Pure functions.

Letters: O objects, T tokens, C channels, h and w the model's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.memory import Entry, Memory
from service.engines.bank import Tensors
from service.engines.base import Picture
from service.errors import CorruptSession

MASKS_PER_BATCH = 16  # bounds the memory a rebuild takes; larger batches are no faster on a CPU


def check_pictures(
    pictures: Sequence[Picture], memory: Memory, *, session_id: str, model_size: tuple[int, int]
) -> None:
    """Nothing, or CorruptSession if the pictures are not those of the memory's entries."""
    if len(pictures) != len(memory.entries):
        raise CorruptSession(session_id, "entries and pictures differ in number")
    for entry, picture in zip(memory.entries, pictures, strict=True):
        shapes = (picture.frame.shape, picture.masks.shape)
        if shapes != ((*model_size, 3), (len(entry.object_ids), *model_size)):
            raise CorruptSession(session_id, f"entry of frame {entry.frame} has {shapes}")


def arranged(entry: Entry, picture: Picture, object_ids: Iterable[int]) -> NDArray[np.uint8]:
    """The masks in the order of object_ids; an object that the entry does not know is empty."""
    rows = dict(zip(entry.object_ids, picture.masks, strict=True))
    empty = np.zeros(picture.frame.shape[:2], np.uint8)
    return np.stack([rows.get(object_id, empty) for object_id in object_ids])


def only_known(
    spec: ModelSpec, made: Tensors, entry: Entry, object_ids: Iterable[int]
) -> dict[str, NDArray[Any]]:
    """The entry with zeros for the objects that it does not know."""
    known = np.array([object_id in entry.object_ids for object_id in object_ids])
    if known.all():
        return dict(made)
    per_object = {tensor.name: tensor.per_object for tensor in spec.bank}
    return {
        name: np.where(known[:, None, None], values, 0) if per_object[name] else values
        for name, values in made.items()
    }
