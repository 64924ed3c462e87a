"""The offline loop over a whole video: the same clips, memory and masks as the service makes.

L frames of a clip, N entries, O objects, h and w the model's size, H and W the frame's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.core.confidence import classify_objects, remember_clip
from model.core.contract import ModelSpec, entry_output, next_output
from model.core.masks import label_map, soft_masks, split_objects
from model.core.memory import Entry, Memory
from model.core.pixels import ImageLimits, keep_frame, model_frame, read_image
from model.core.session_size import choose_short_side, measure_least_width, size_at
from model.evaluation.runtime import Runtime, Tensors

Pixels = NDArray[np.uint8]
LIMITS = ImageLimits()


@dataclass(frozen=True, slots=True)
class OfflineFrame:
    """What the loop says of one frame."""

    labels: Pixels  # (H, W) object ids
    soft: Pixels  # (O, h, w) soft masks at the model's size
    raw: tuple[float, ...]  # confidence as the graph gives it
    confidence: tuple[float, ...]  # calibrated
    lost: tuple[bool, ...]


class OfflineTracker:
    """Objects of one video, followed clip by clip from a frame and its label map."""

    def __init__(
        self,
        runtime: Runtime,
        image: bytes,
        labels: Pixels,
        *,
        clip_length: int | None = None,
        memory_size: int | None = None,
        memory_gate: bool | None = None,
    ) -> None:
        spec = runtime.spec
        self._runtime = runtime
        self._clip_length = clip_length or spec.clip_length
        self._gate = spec.memory_gate if memory_gate is None else memory_gate
        self._frame_size = (labels.shape[0], labels.shape[1])
        self.object_ids, masks = split_objects(labels)
        width = measure_least_width(masks)
        short_side = choose_short_side(spec, self._frame_size, width, objects=len(masks))
        self.size = size_at(spec, self._frame_size, short_side)
        self.memory = Memory.start(0, self.object_ids, capacity=memory_size or spec.memory_size)
        soft = soft_masks(masks, self.size)
        frame = read_model_frame(image, self.size)
        # What the newest frame's clip left, without what corrections of the frame made of it.
        self._left = (self.object_ids, begin_state(spec, self.size, objects=len(soft)))
        entry, self._state = self._memorize(frame, soft, self._left[1])
        self._bank = make_empty_bank(entry, slots=self.memory.capacity)
        self._put(entry, self.memory.newest)
        self._next = 1
        # By frame number: its pixels, and the soft mask of each object that is remembered.
        self._pictures = {0: (frame, dict(zip(self.object_ids, soft, strict=True)))}

    def track(self, images: Iterable[bytes]) -> Iterator[OfflineFrame]:
        """Yield every following frame, in order; the last clip may be shorter."""
        rest = iter(images)
        while clip := tuple(islice(rest, self._clip_length)):
            yield from self.segment([read_model_frame(image, self.size) for image in clip])

    def segment(self, frames: Sequence[Pixels]) -> list[OfflineFrame]:
        """Return the masks of one clip's frames, each (h, w, 3); its last frame is remembered."""
        outputs, spec = self._runtime.segment(self.inputs(frames)), self._runtime.spec
        masks = outputs["masks"][0]  # (L, O, h, w)
        raw = outputs["confidence"][0]
        confidences = classify_objects(masks, raw, spec.calibration)
        last = self._next + len(frames) - 1
        after = remember_clip(
            self.memory,
            last,
            self.object_ids,
            confidences[-1],
            gate=self._gate,
            retention=spec.retention,
        )
        before, self._state = self._state, take_state(spec, outputs)
        kept = spec.loop_bias.remember(masks[-1])
        seen = zip(self.object_ids, kept, confidences[-1].lost, strict=True)
        remembered = {name: mask for name, mask, lost in seen if not (self._gate and lost)}
        if after is not self.memory:
            all_known = len(remembered) == len(self.object_ids)
            if spec.entry_by == "segment" and (all_known or not spec.aggregated):
                entry = {name: outputs[entry_output(name)] for name in self._bank}
            else:
                # The state before the clip: what is remembered updates it in the clip's place.
                soft = self._arrange(remembered)
                entry, state = self._memorize(frames[-1], soft, before)
                self._state = state if spec.entry_by == "memorize" else self._state
            self._put(entry, after.newest)
        self.memory, self._next = after, last + 1
        self._left = (self.object_ids, self._state)
        self._pictures[last] = (frames[-1], remembered)
        needed = {last, *(place.frame for place in after.entries)}
        self._pictures = {key: self._pictures[key] for key in self._pictures if key in needed}
        return [
            OfflineFrame(
                label_map(soft, self.object_ids, self._frame_size, aggregated=spec.aggregated),
                soft,
                tuple(map(float, sure)),
                confidences.confidence,
                confidences.lost,
            )
            for soft, sure, confidences in zip(masks, raw, confidences, strict=True)
        ]

    def correct(self, labels: Pixels) -> None:
        """Give the newest frame the masks of this label map (H, W), as a person's.

        The other objects keep what was predicted, new ones are added. MemoryFull where the
        correction cannot be pinned.
        """
        given, masks = split_objects(labels)
        newest, spec = self._next - 1, self._runtime.spec
        frame, known = self._pictures[newest]
        known = {**known, **dict(zip(given, soft_masks(masks, self.size), strict=True))}
        self.memory = self.memory.correct(newest, sorted(known), given=given, revision=self._next)
        self.object_ids = tuple(sorted({*self.object_ids, *given}))
        self._pictures[newest] = (frame, known)
        blank = begin_state(spec, self.size, objects=len(self.object_ids))
        for place in self.memory.entries:
            pixels, soft = self._pictures[place.frame]
            remembered = {name: mask for name, mask in soft.items() if name in place.object_ids}
            entry, _ = self._memorize(pixels, self._arrange(remembered), blank)
            if place is self.memory.entries[0]:
                self._bank = make_empty_bank(entry, slots=self.memory.capacity)
            self._put(entry, place)
        ids, left = self._left
        rows = [(row, ids.index(name)) for row, name in enumerate(self.object_ids) if name in ids]
        for name, values in blank.items():  # that of a new object stays 0
            for row, old in rows:
                values[:, row] = left[name][:, old]
        _, self._state = self._memorize(frame, self._arrange(known), blank)

    def inputs(self, frames: Sequence[Pixels]) -> dict[str, NDArray[Any]]:
        """Return the inputs of `segment` for a clip: of the filled slots, which are the lowest."""
        filled = len(self.memory.entries)
        return {
            "frames": np.stack(frames)[None],
            **{name: tensor[:, :filled] for name, tensor in self._bank.items()},
            **self._state,
            "age": self.memory.ages()[None, :filled],
            "entry_valid": self.memory.entry_valid(self.object_ids)[None, :, :filled],
        }

    def _memorize(self, frame: Pixels, masks: Pixels, before: Tensors) -> tuple[Tensors, Tensors]:
        """Return the entry of a frame (h, w, 3) with masks (O, h, w), and the state after it."""
        spec = self._runtime.spec
        made = self._runtime.memorize({"frame": frame[None], "masks": masks[None], **before})
        return {tensor.name: made[tensor.name] for tensor in spec.bank}, take_state(spec, made)

    def _arrange(self, remembered: Mapping[int, Pixels]) -> Pixels:
        """Return soft masks (O, h, w) in the order of the objects; 0 where there is none."""
        nothing = np.zeros(self.size, np.uint8)
        return np.stack([remembered.get(name, nothing) for name in self.object_ids])

    def _put(self, entry: Tensors, place: Entry) -> None:
        """Put the entry into its slot, with zeros for the objects that it does not know."""
        unknown = [
            row for row, known in enumerate(self.object_ids) if known not in place.object_ids
        ]
        for tensor in self._runtime.spec.bank:
            self._bank[tensor.name][:, place.slot] = entry[tensor.name]
            if tensor.per_object and unknown:
                self._bank[tensor.name][:, place.slot, unknown] = 0


def make_empty_bank(entry: Tensors, *, slots: int) -> Tensors:
    """Return room for `slots` entries like `entry`, whose tensors are (1, ...)."""
    return {
        name: np.zeros((1, slots, *tensor.shape[1:]), dtype=tensor.dtype)
        for name, tensor in entry.items()
    }


def begin_state(spec: ModelSpec, size: tuple[int, int], *, objects: int) -> Tensors:
    """Return the state before a session's first frame, (1, O, T, C): zeros."""
    return {
        tensor.name: np.zeros((1, *tensor.slot_shape(size, objects=objects)), tensor.dtype)
        for tensor in spec.state
    }


def take_state(spec: ModelSpec, outputs: Tensors) -> Tensors:
    """Return the state that a graph gave, as the next one takes it."""
    return {tensor.name: outputs[next_output(tensor.name)] for tensor in spec.state}


def read_model_frame(image: bytes, size: tuple[int, int]) -> Pixels:
    """Return what the model sees of an encoded image, (h, w, 3), just as in the service."""
    rgb = read_image(image, LIMITS)
    return model_frame(keep_frame(image, rgb, size), size)
