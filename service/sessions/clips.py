"""Cut an append into clips, and turn a clip's masks into what is stored. Pure functions.

Letters: L frames of a clip, O objects, H and W the frame's size, h and w the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.core.confidence import Calibration, ObjectConfidence, classify_objects, remember_clip
from model.core.encoding import encode_rle
from model.core.image_headers import PixelError
from model.core.loop_bias import NO_BIAS, LoopBias
from model.core.masks import (
    MaskError,
    label_map,
    pack_soft_masks,
    unpack_soft_masks,
)
from model.core.memory import FIRST_IN_FIRST_OUT, Memory, Retention
from model.core.pixels import model_frame
from service.engines.base import ClipMasks, EntryPicture
from service.engines.states import NO_MODEL_STATE, ModelState, encode_state
from service.errors import CorruptSession
from service.sessions.annotations import GivenObjects, encode_object_mask
from service.sessions.frames import Frame
from service.sessions.snapshots import SnapshotPolicy
from service.store.records import (
    NO_DIGEST,
    EncodedEntry,
    FrameMasks,
    ObjectMask,
    Session,
    Snapshot,
    State,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One clip of an append: its frames."""

    first: int
    frames: tuple[Frame, ...]
    kept: bool  # False: the append itself surely evicts what is remembered of it
    lasting: bool = True  # False: the append itself drops the snapshot after it

    @property
    def last(self) -> int:
        """The number of the clip's last frame, which is remembered."""
        return self.first + len(self.frames) - 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """One clip that was segmented, and the memory after it."""

    step: Step
    confidences: tuple[ObjectConfidence, ...]  # one for each frame
    after: Memory
    weights_sha256: str  # of the model that made the masks
    runtime: str  # that ran it
    state_rebuilt: bool  # before the clip


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """A clip as it is stored."""

    masks: tuple[FrameMasks, ...]
    entry: EncodedEntry | None  # of the last frame; None if the append itself evicts it
    state: bytes | None = None  # the model's own after the clip; None if nothing goes on from it


def plan(
    session: Session,
    frames: Sequence[Frame],
    policy: SnapshotPolicy | None = None,
    retention: Retention = FIRST_IN_FIRST_OUT,
) -> tuple[Step, ...]:
    """Cut the frames into clips of `clip_length`; the last may be shorter.

    What is remembered of a clip is kept if a snapshot may need it that outlives the append (None:
    only the last one does).
    """
    length = session.clip_length
    clips = [tuple(frames[start : start + length]) for start in range(0, len(frames), length)]
    firsts = [session.next_frame + number * length for number in range(len(clips))]
    stop = session.next_frame + len(frames)
    ends = {min(first + length, stop) - 1: row for row, first in enumerate(firsts)}
    every = (*session.snapshots, *map(Snapshot, ends))
    lasting = policy.thin(every) if policy else every[-1:]
    rows = [ends[one.frame] for one in lasting if one.frame in ends]
    # With the gate it is not known which clips will be remembered; few are, so old ones last.
    unknown = session.memory_gate or retention != FIRST_IN_FIRST_OUT
    reach = len(clips) if unknown else session.memory_size
    kept = {row - back for row in rows for back in range(reach)}
    return tuple(
        Step(first=first, frames=clip, kept=row in kept, lasting=row in rows)
        for row, (first, clip) in enumerate(zip(firsts, clips, strict=True))
    )


def conclude(
    step: Step,
    found: ClipMasks,
    session: Session,
    before: Memory,
    calibration: Calibration | None,
    retention: Retention = FIRST_IN_FIRST_OUT,
) -> Outcome:
    """Classify the objects of a clip segmented from the memory `before`, and remember it."""
    confidences = classify_objects(found.masks, found.confidence, calibration)
    after = remember_clip(
        before,
        step.last,
        session.object_ids,
        confidences[-1],
        gate=session.memory_gate,
        retention=retention,
    )
    return Outcome(
        step,
        confidences,
        after,
        found.weights_sha256,
        runtime=found.runtime,
        state_rebuilt=found.state_rebuilt,
    )


def clip_pixels(step: Step, *, model_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return what the model sees of a clip: (L, h, w, 3)."""
    return np.stack([frame.at(model_size) for frame in step.frames])


def encode_clip(
    outcome: Outcome,
    found: ClipMasks,
    session: Session,
    bias: LoopBias = NO_BIAS,
    *,
    aggregated: bool = False,
    state: ModelState = NO_MODEL_STATE,
) -> EncodedClip:
    """Encode a clip's masks at the frame's size, and its last frame as the memory keeps it.

    `state` is the model's own after the clip.
    """
    step, soft, ids = outcome.step, found.masks, session.object_ids
    masks: list[FrameMasks] = []
    for index, frame in enumerate(step.frames):
        labels = label_map(soft[index], ids, session.frame_size, aggregated=aggregated)  # (H, W)
        found_in = outcome.confidences[index]
        objects: list[ObjectMask] = []
        for object_id, confidence, lost in zip(
            ids, found_in.confidence, found_in.lost, strict=True
        ):
            mask = labels == object_id
            # An object may also be hidden by the others, or smaller than a pixel.
            seen: State = "lost" if lost or not mask.any() else "visible"
            objects.append(encode_object_mask(object_id, mask, confidence=confidence, state=seen))
        clip = (step.first, step.last)
        masks.append(FrameMasks(step.first + index, clip, frame.digest, tuple(objects)))
    entry = None
    if step.kept:
        packed = pack_soft_masks(bias.remember(soft[-1]))
        entry = EncodedEntry(step.frames[-1].stored, packed, session.object_ids)
    encoded = None
    if state and step.lasting:
        encoded = encode_state(state, ids, weights_sha256=outcome.weights_sha256)
    return EncodedClip(tuple(masks), entry, encoded)


def drop_masks(session: Session, frames: Sequence[int]) -> tuple[FrameMasks, ...]:
    """Return masks for frames that were left out: every object is `dropped` in them."""
    if not frames:
        return ()
    height, width = session.frame_size
    nothing = encode_rle(np.zeros((height, width), np.bool_))["counts"]
    objects = tuple(
        ObjectMask(object_id, nothing, 0, (0, 0, 0, 0), 0.0, "dropped")
        for object_id in session.object_ids
    )
    return tuple(FrameMasks(frame, (frame, frame), NO_DIGEST, objects) for frame in frames)


def encode_reference(
    frame: Frame, given: GivenObjects, session: Session
) -> tuple[FrameMasks, EncodedEntry]:
    """Encode frame 0: the masks as they were given, and the entry that is never forgotten."""
    return (
        FrameMasks(frame=0, clip=(0, 0), digest=frame.digest, objects=given.masks),
        EncodedEntry(frame.stored, pack_soft_masks(given.soft), given.object_ids),
    )


def decode_entry(entry: EncodedEntry, object_ids: Sequence[int], session: Session) -> EntryPicture:
    """Decode a remembered frame with these objects' masks; raise CorruptSession if damaged."""
    try:
        frame = model_frame(entry.frame, session.model_size)
    except PixelError as error:
        raise CorruptSession(session.session_id, str(error)) from error
    found = decode_masks(entry, session)
    masks = np.zeros((len(object_ids), *session.model_size), np.uint8)
    try:
        for row, object_id in enumerate(object_ids):
            masks[row] = found[object_id]
    except KeyError as error:
        raise CorruptSession(session.session_id, f"an entry lacks object {error}") from error
    return EntryPicture(frame, masks)


def decode_masks(entry: EncodedEntry, session: Session) -> dict[int, NDArray[np.uint8]]:
    """Decode each object's remembered soft mask (h, w); raise CorruptSession if damaged."""
    try:
        soft = unpack_soft_masks(entry.masks)  # (O, h, w)
    except MaskError as error:
        raise CorruptSession(session.session_id, str(error)) from error
    if soft.shape != (len(entry.object_ids), *session.model_size):
        raise CorruptSession(session.session_id, f"an entry has masks of {soft.shape}")
    return dict(zip(entry.object_ids, soft, strict=True))
