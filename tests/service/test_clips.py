"""An append as clips: where they are cut, and what is remembered of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.rules.encoding import decode_rle
from model.rules.headers import ImageLimits
from model.rules.masks import unpack_soft_masks
from model.rules.memory import Memory
from service.clips import Step, clip_pixels, decode_entry, encode_clip, plan
from service.engines.base import ClipMasks
from service.errors import CorruptSession
from service.frames import Frame, frame_of_image
from service.records import EncodedEntry, Session
from tests import scene

SIZE = (64, 96)


def session(*, clip_length: int = 2, memory_size: int = 3, next_frame: int = 1) -> Session:
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
    )


def frames(count: int) -> list[Frame]:
    return [
        frame_of_image(
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


def test_the_last_frame_of_each_clip_is_remembered() -> None:
    steps = plan(session(), frames(5))
    assert [step.after.newest.frame for step in steps] == [2, 4, 5]
    assert [step.before for step in steps[1:]] == [step.after for step in steps[:-1]]


def test_only_what_outlives_the_append_is_kept() -> None:
    steps = plan(session(memory_size=3), frames(8))
    assert [step.last for step in steps if step.kept] == [6, 8]
    assert [entry.frame for entry in steps[-1].after.entries] == [0, 6, 8]


def test_the_newest_frame_is_kept_even_if_only_the_reference_is_remembered() -> None:
    steps = plan(session(memory_size=1), frames(4))
    assert [step.kept for step in steps] == [False, True]
    assert {step.after for step in steps} == {session(memory_size=1).memory}


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
    found = ClipMasks(soft(2), np.full((2, 2), 0.75, np.float32), batch_size=1)
    first, last = encode_clip(step, found, session()).masks
    size = [scene.HEIGHT, scene.WIDTH]
    mask = decode_rle({"size": size, "counts": first.objects[1].counts})
    assert (first.frame, first.clip, last.frame, last.clip) == (1, (1, 2), 2, (1, 2))
    assert [item.object_id for item in first.objects] == [1, 7]
    assert mask[:, 70:].all()
    assert not mask[:, :60].any()
    assert [item.state for item in last.objects] == ["visible", "lost"]


def test_what_is_remembered_of_a_clip_is_its_last_frame_without_loss() -> None:
    (step,) = plan(session(), frames(2))
    found = ClipMasks(soft(2), np.ones((2, 2), np.float32), batch_size=1)
    entry = encode_clip(step, found, session()).entry
    assert entry is not None
    assert (unpack_soft_masks(entry.masks) == found.masks[-1]).all()
    picture = decode_entry(entry, (1, 7), session())
    assert (picture.frame == clip_pixels(step, model_size=SIZE)[-1]).all()
    assert (picture.masks == found.masks[-1]).all()


@pytest.mark.parametrize(
    "entry", [EncodedEntry(b"no jpeg", b"", (1,)), EncodedEntry(scene.jpeg(1), b"no masks", (1,))]
)
def test_a_damaged_entry_names_its_session(entry: EncodedEntry) -> None:
    with pytest.raises(CorruptSession, match="'s'"):
        decode_entry(entry, (1, 7), session())
