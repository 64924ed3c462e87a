"""The two verbs of a model on a bank in this process's memory, and what is made of them.

Letters: B entries of a batch, L frames, O objects, T tokens, C channels, h and w the model's size.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.core.contract import entry_output, next_output
from model.core.memory import Entry, Memory
from service.engines.bank import EmbeddedBank, Tensors
from service.engines.base import ClipMasks, EntryPicture
from service.engines.graphs import Graphs
from service.engines.inference import Inference
from service.engines.pictures import (
    MASKS_PER_BATCH,
    arrange_masks,
    clear_unknown,
    made_by_memorize,
    round_masks,
)
from service.engines.states import ModelState


@dataclass(frozen=True, slots=True)
class ClipEnd:
    """What a clip leaves until it is known whether it is remembered."""

    frame: NDArray[np.uint8]  # (h, w, 3), the last one
    masks: NDArray[np.uint8]  # (O, h, w), as they were answered
    before: ModelState  # the clip
    entry: Tensors | None  # (T, C) or (O, T, C) by name; None: `memorize` makes it


def segment(
    graphs: Graphs, run: Inference, bank: EmbeddedBank, frames: NDArray[np.uint8]
) -> tuple[ClipMasks, ClipEnd]:
    """Return the masks of frames (L, h, w, 3) and what the clip leaves; the bank has its state."""
    spec, before, begun = graphs.spec, bank.state, time.monotonic()
    outputs = run(
        graphs.segment, {"frames": frames[None], **bank.inputs(whole=not graphs.any_shape)}
    )
    entry = None
    if spec.entry_by == "segment":
        entry = {t.name: outputs[entry_output(t.name)][0] for t in spec.bank}
    bank.state = {t.name: outputs[next_output(t.name)][0] for t in spec.state}
    found = ClipMasks(
        outputs["masks"][0],
        outputs["confidence"][0],
        batch_size=1,
        weights_sha256=spec.weights_sha256,
        runtime=graphs.runtime,
        engine_s=time.monotonic() - begun,
    )
    return found, ClipEnd(frames[-1], found.masks[-1], before, entry)


def remember(
    graphs: Graphs, run: Inference, bank: EmbeddedBank, end: ClipEnd, after: Memory
) -> None:
    """Write the entry of a clip's end into the slot of `after.newest`; the bank is `after`'s then.

    Where `memorize` makes all entries, its state takes the place of the clip's.
    """
    spec, newest, entry = graphs.spec, after.newest, end.entry
    if entry is None or made_by_memorize(spec, newest, bank.object_ids):
        masks = round_masks(spec, end.masks, newest, bank.object_ids)
        entry, state = memorize(graphs, run, end.frame, masks, end.before)
        bank.state = state if spec.entry_by == "memorize" else bank.state
    bank.write(newest.slot, clear_unknown(spec, entry, newest, bank.object_ids))
    bank.memory = after


def memorize(
    graphs: Graphs,
    run: Inference,
    frame: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    before: ModelState,
) -> tuple[Tensors, ModelState]:
    """Return the entry of a frame (h, w, 3) with masks (O, h, w), and the state after it."""
    state = {name: values[None] for name, values in before.items()}
    outputs = run(graphs.memorize, {"frame": frame[None], "masks": masks[None], **state})
    after = {t.name: outputs[next_output(t.name)][0] for t in graphs.spec.state}
    return {t.name: outputs[t.name][0] for t in graphs.spec.bank}, after


def tell_state(
    graphs: Graphs, run: Inference, bank: EmbeddedBank, pairs: Sequence[tuple[Entry, EntryPicture]]
) -> None:
    """Let `memorize` update the bank's state with these entries, one after the other."""
    for entry, picture in pairs:
        masks = arrange_masks(entry, picture, bank.object_ids)
        _, bank.state = memorize(graphs, run, picture.frame, masks, bank.state)


def rebuild(
    graphs: Graphs, run: Inference, bank: EmbeddedBank, pictures: Sequence[EntryPicture]
) -> None:
    """Fill the bank with the entries of its memory; the pictures are in the same order.

    What `memorize` makes of an entry depends on its picture alone: the state is any.
    """
    entries = bank.memory.entries
    size = max(1, MASKS_PER_BATCH // len(bank.object_ids)) if graphs.any_shape else 1
    pairs = list(zip(entries, pictures, strict=True))
    for batch in (pairs[start : start + size] for start in range(0, len(pairs), size)):
        frame = np.stack([picture.frame for _, picture in batch])  # (B, h, w, 3)
        masks = np.stack([arrange_masks(*pair, bank.object_ids) for pair in batch])  # (B, O, h, w)
        state = {
            name: np.zeros((len(batch), *values.shape), values.dtype)
            for name, values in bank.state.items()
        }
        outputs = run(graphs.memorize, {"frame": frame, "masks": masks, **state})
        for row, (entry, _) in enumerate(batch):
            made = {tensor.name: outputs[tensor.name][row] for tensor in graphs.spec.bank}
            bank.write(entry.slot, clear_unknown(graphs.spec, made, entry, bank.object_ids))
