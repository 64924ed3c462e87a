"""An append as clips: where they are cut, and what is remembered of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.confidence import Calibration
from model.core.encoding import decode_rle
from model.core.image_headers import ImageLimits
from model.core.loop_bias import NO_BIAS, LoopBias
from model.core.masks import unpack_soft_masks
from model.core.memory import Memory
from service.engines.base import ClipMasks
from service.errors import CorruptSession
from service.sessions.clips import (
    Outcome,
    Step,
    clip_pixels,
    conclude,
    decode_entry,
    encode_clip,
    plan,
)
from service.sessions.frames import Frame, make_frame_of_image
from service.sessions.snapshots import SnapshotPolicy, add_clips
from service.store.records import EncodedEntry, Session
from tests.support import scene

SIZE = (64, 96)
SHA = "1" * 64
CALIBRATION = Calibration(bias=0.0, sureness=1.0, wholeness=0.0, size=0.0, threshold=0.5)


def session(
    *, clip_length: int = 2, memory_size: int = 3, next_frame: int = 1, gate: bool = False
) -> Session:
    memory = Memory.start(0, (1, 7), capacity=memory_size)
    return Session(
        session_id="s",
        model="toy",
        weights_sha256="0" * 64,
        frame_size=(scene.HEIGHT, scene.WIDTH),
        model_size=SIZE,
        object_ids=(1, 7),
        labels={},
        clip_length=clip_length,
        memory_size=memory_size,
        memory=memory,
        next_frame=next_frame,
        memory_gate=gate,
    )


def frames(count: int) -> list[Frame]:
    return [
        make_frame_of_image(
            scene.jpeg(number),
            ImageLimits(),
            name="it",
            frame_size=(scene.HEIGHT, scene.WIDTH),
            model_size=SIZE,
        )
        for number in range(count)
    ]


def bounds(steps: tuple[Step, ...]) -> list[tuple[int, int]]:
    return [(step.first, step.last) for step in steps]


@pytest.mark.parametrize(
    ("clip_length", "count", "clips"),
    [
        (1, 3, [(5, 5), (6, 6), (7, 7)]),
        (2, 4, [(5, 6), (7, 8)]),
        (2, 5, [(5, 6), (7, 8), (9, 9)]),
        (4, 2, [(5, 6)]),
    ],
)
def test_clips_are_cut_from_the_first_frame_on(
    clip_length: int, count: int, clips: list[tuple[int, int]]
) -> None:
    start = session(clip_length=clip_length, next_frame=5)
    assert bounds(plan(start, frames(count))) == clips


def followed(start: Session, count: int, *, sure: float = 1.0) -> list[Outcome]:
    """Clips of two objects, the second of which is not in the last frames."""
    memory, outcomes = start.memory, []
    for step in plan(start, frames(count)):
        length = len(step.frames)
        found = ClipMasks(
            soft(length), np.full((length, 2), sure, np.float32), batch_size=1, weights_sha256=SHA
        )
        outcomes.append(conclude(step, found, start, memory, CALIBRATION))
        memory = outcomes[-1].after
    return outcomes


def test_the_last_frame_of_each_clip_is_remembered() -> None:
    outcomes = followed(session(), 5)
    assert [done.after.newest.frame for done in outcomes] == [2, 4, 5]
    assert {done.after.newest.object_ids for done in outcomes} == {(1, 7)}


def test_with_the_gate_a_lost_object_is_not_remembered() -> None:
    outcomes = followed(session(gate=True), 4)
    assert {done.after.newest.object_ids for done in outcomes} == {(1,)}


def test_with_the_gate_nothing_is_remembered_of_a_clip_that_ends_without_an_object() -> None:
    outcomes = followed(session(gate=True), 4, sure=0.4)
    assert {done.after for done in outcomes} == {session().memory}


def test_only_what_may_outlive_the_append_is_kept() -> None:
    steps = plan(session(memory_size=3), frames(12))
    remembered = {entry.frame for entry in followed(session(memory_size=3), 12)[-1].after.entries}
    assert [step.last for step in steps if step.kept] == [8, 10, 12]
    assert remembered == {0, 10, 12}


def test_what_a_fork_goes_back_to_is_kept_as_well() -> None:
    start, outcomes = session(memory_size=3), followed(session(memory_size=3), 16)
    policy = SnapshotPolicy(clips=1, spread=2)
    steps = plan(start, frames(16), policy)
    lasting = add_clips(start, [(one.step.last, one.after) for one in outcomes], policy)
    assert {step.last for step in steps if step.lasting} == {one.frame for one in lasting} - {0}
    memories = [one.contents.memory for one in lasting if one.contents is not None]
    wanted = {entry.frame for memory in memories for entry in memory.entries} - {0}
    assert wanted <= {step.last for step in steps if step.kept} < {step.last for step in steps}


def test_with_the_gate_any_clip_may_outlive_the_append() -> None:
    assert all(step.kept for step in plan(session(memory_size=1, gate=True), frames(12)))


def test_a_clip_is_what_the_model_sees_of_its_frames() -> None:
    (step,) = plan(session(), frames(2))
    assert clip_pixels(step, model_size=SIZE).shape == (2, *SIZE, 3)


def soft(length: int) -> NDArray[np.uint8]:
    """Object 1 left, object 7 right, but nowhere in the last frame."""
    masks = np.zeros((length, 2, *SIZE), np.uint8)
    masks[:, 0, :, :48] = 255
    masks[:-1, 1, :, 48:] = 200
    return masks


def test_a_clips_masks_are_as_large_as_the_frame() -> None:
    (step,) = plan(session(), frames(2))
    found = ClipMasks(soft(2), np.full((2, 2), 0.75, np.float32), batch_size=1, weights_sha256=SHA)
    outcome = conclude(step, found, session(), session().memory, None)
    first, last = encode_clip(outcome, found, session()).masks
    size = [scene.HEIGHT, scene.WIDTH]
    mask = decode_rle({"size": size, "counts": first.objects[1].counts})
    assert (first.frame, first.clip, last.frame, last.clip) == (1, (1, 2), 2, (1, 2))
    assert [item.object_id for item in first.objects] == [1, 7]
    assert mask[:, 70:].all()
    assert not mask[:, :60].any()
    assert [item.state for item in last.objects] == ["visible", "lost"]
    assert [item.confidence for item in last.objects] == [0.75, 0.0]


def test_below_the_models_threshold_an_object_is_lost_and_keeps_its_mask() -> None:
    (step,) = plan(session(), frames(2))
    found = ClipMasks(
        soft(2), np.array([[0.9, 0.4], [0.9, 0.4]], np.float32), batch_size=1, weights_sha256=SHA
    )
    outcome = conclude(step, found, session(), session().memory, CALIBRATION)
    visible, lost = encode_clip(outcome, found, session()).masks[0].objects
    assert (visible.state, visible.confidence) == ("visible", 0.9)
    assert (lost.state, lost.confidence) == ("lost", 0.4)
    assert lost.area > 0


def test_what_is_remembered_of_a_clip_is_its_last_frame_without_loss() -> None:
    (step,) = plan(session(), frames(2))
    found = ClipMasks(soft(2), np.ones((2, 2), np.float32), batch_size=1, weights_sha256=SHA)
    outcome = conclude(step, found, session(), session().memory, None)
    entry = encode_clip(outcome, found, session()).entry
    assert entry is not None
    assert (unpack_soft_masks(entry.masks) == found.masks[-1]).all()
    picture = decode_entry(entry, (1, 7), session())
    assert (picture.frame == clip_pixels(step, model_size=SIZE)[-1]).all()
    assert (picture.masks == found.masks[-1]).all()


def test_a_biased_loop_stores_what_it_remembers_and_answers_what_was_predicted() -> None:
    (step,) = plan(session(), frames(2))
    masks = soft(2) // 2
    found = ClipMasks(masks, np.ones((2, 2), np.float32), batch_size=1, weights_sha256=SHA)
    outcome = conclude(step, found, session(), session().memory, None)
    bias = LoopBias(answer=0.0, memory=0.5)
    plain, biased = (encode_clip(outcome, found, session(), each) for each in (NO_BIAS, bias))
    assert biased.entry is not None
    assert biased.masks == plain.masks
    assert (unpack_soft_masks(biased.entry.masks) == bias.remember(masks[-1])).all()
    assert (unpack_soft_masks(biased.entry.masks) != masks[-1]).any()


@pytest.mark.parametrize(
    "entry", [EncodedEntry(b"no jpeg", b"", (1,)), EncodedEntry(scene.jpeg(1), b"no masks", (1,))]
)
def test_a_damaged_entry_names_its_session(entry: EncodedEntry) -> None:
    with pytest.raises(CorruptSession, match="'s'"):
        decode_entry(entry, (1, 7), session())
