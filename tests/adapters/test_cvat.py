"""The CVAT functions, called as CVAT's own agent calls them, on a real service."""

from __future__ import annotations

import io
from collections.abc import Iterator

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import pytest
from cvat_cli._internal import agent_driver_interaction as interacting
from cvat_cli._internal import agent_driver_tracking as tracking
from cvat_cli._internal.agent import get_function_driver_class
from cvat_cli._internal.agent_driver import set_worker_current_function
from cvat_sdk.masks import decode_mask, encode_mask
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.core.j_and_f import jaccard
from tamvt_client import Client, SessionOptions
from tamvt_cvat import pointer, tracker
from tests.support import scene
from tests.support.running import Running

TASK = 7
SIZE = (scene.HEIGHT, scene.WIDTH)
OBJECTS = {
    number: [(scene.labels(number, objects=2) == each) for each in (1, 2)] for number in range(6)
}


@pytest.fixture
def function(running: Running) -> Iterator[tracker.ShapeTracker]:
    """The tracking function in CVAT's worker, as its agent sets it up."""
    made = tracker.create(url=running.url)
    install(made)
    yield made
    made._client.close()


def install(function: object) -> None:
    set_worker_current_function(function)
    ids = iter(range(1000))
    get_function_driver_class(function.spec).init_worker(lambda: f"state{next(ids)}")  # type: ignore[attr-defined]


def picture(number: int) -> Image.Image:
    return Image.open(io.BytesIO(scene.png(number, objects=2)))


def mask_shape(mask: NDArray[np.bool_]) -> cvataa.TrackableShape:
    return cvataa.TrackableShape(type="mask", points=encode_mask(mask))


def box_of(mask: NDArray[np.bool_]) -> list[float]:
    rows, columns = mask.nonzero()
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def begin(number: int, shapes: list[cvataa.TrackableShape]) -> list[str]:
    states: list[str] = tracking._worker_job_init_tracking(TASK, picture(number), shapes)
    return states


def track(number: int, states: list[str]) -> list[cvataa.TrackableShape | None]:
    shapes: list[cvataa.TrackableShape | None]
    shapes = tracking._worker_job_track(TASK, picture(number), states)
    return shapes


def drawn(shape: cvataa.TrackableShape | None) -> NDArray[np.bool_]:
    assert shape is not None
    if shape.type == "mask":
        return np.asarray(decode_mask(shape.points, image_width=SIZE[1], image_height=SIZE[0]))
    mask = Image.new("1", (SIZE[1], SIZE[0]))
    points = shape.points
    if shape.type == "rectangle":
        left, top, right, bottom = points
        points = [left, top, right - 1, top, right - 1, bottom - 1, left, bottom - 1]
    ImageDraw.Draw(mask).polygon(list(points), fill=1, outline=1)
    return np.asarray(mask)


def test_masks_of_one_frame_are_tracked_together_in_one_session(
    function: tracker.ShapeTracker, running: Running
) -> None:
    states = begin(0, [mask_shape(mask) for mask in OBJECTS[0]])
    for number in range(1, 5):
        for found, true in zip(track(number, states), OBJECTS[number], strict=True):
            assert jaccard(drawn(found), true) > 0.8
    kept = {
        tracking._tracking_states.retrieve(each, TASK, (SIZE[1], SIZE[0]))[0].track.session_id
        for each in states
    }
    (session_id,) = kept
    with Client(running.url) as client:
        session = client.session(session_id)
    assert (len(session.objects), session.next_frame) == (2, 5)


def test_a_frame_that_is_asked_for_again_is_not_tracked_again(
    function: tracker.ShapeTracker, running: Running
) -> None:
    states = begin(0, [mask_shape(OBJECTS[0][0])])
    first, again = track(1, states), track(1, states)
    assert again == first
    kept, _ = tracking._tracking_states.retrieve(states[0], TASK, (SIZE[1], SIZE[0]))
    with Client(running.url) as client:
        assert client.session(kept.track.session_id).next_frame == 2


@pytest.mark.parametrize("kind", ["polygon", "rectangle"])
def test_a_shape_stays_of_its_kind(function: tracker.ShapeTracker, kind: str) -> None:
    left, top, right, bottom = box_of(OBJECTS[0][0])
    outline = [left, top, right - 1, top, right - 1, bottom - 1, left, bottom - 1]
    points = outline if kind == "polygon" else [left - 4, top - 4, right + 4, bottom + 4]
    states = begin(0, [cvataa.TrackableShape(type=kind, points=points)])
    (found,) = track(2, states)
    assert found is not None
    assert found.type == kind
    assert jaccard(drawn(found), OBJECTS[2][0]) > 0.8


def test_a_shape_that_is_drawn_later_has_a_session_of_its_own(
    function: tracker.ShapeTracker,
) -> None:
    first = begin(0, [mask_shape(OBJECTS[0][0])])
    track(1, first)
    second = begin(1, [mask_shape(OBJECTS[1][1])])
    found = track(2, [*first, *second])
    scores = [jaccard(drawn(a), b) for a, b in zip(found, OBJECTS[2], strict=True)]
    assert min(scores) > 0.8


def test_an_object_that_is_not_there_is_no_shape(function: tracker.ShapeTracker) -> None:
    states = begin(0, [mask_shape(OBJECTS[0][0])])
    empty = Image.new("RGB", (SIZE[1], SIZE[0]), scene.FLOOR)
    assert tracking._worker_job_track(TASK, empty, states) == [None]


def test_an_expired_session_is_told_with_the_way_out(
    function: tracker.ShapeTracker, running: Running
) -> None:
    states = begin(0, [mask_shape(OBJECTS[0][0])])
    track(1, states)
    kept, _ = tracking._tracking_states.retrieve(states[0], TASK, (SIZE[1], SIZE[0]))
    with Client(running.url) as client:
        client.delete(kept.track.session_id)
    with pytest.raises(cvataa.BadFunctionError, match="draw the shape again"):
        track(2, states)


def test_a_service_that_is_away_is_told_to_cvat() -> None:
    with Client("http://127.0.0.1:9", deadline_s=5) as client:
        install(tracker.ShapeTracker(client, SessionOptions()))
        states = begin(0, [mask_shape(OBJECTS[0][0])])
        with pytest.raises(cvataa.BadFunctionError, match="TAM-VT Serve is away"):
            track(1, states)


def test_clicks_and_a_box_become_a_mask(running: Running) -> None:
    function = pointer.create(url=running.url)
    install(function)
    left, top, right, bottom = box_of(OBJECTS[0][0])
    prompts = interacting._InteractionPromptsImpl(
        pos_points=(((left + right) / 2, (top + bottom) / 2),),
        neg_points=((2, SIZE[0] - 3),),
        bounding_box=((left - 4, top - 4), (right + 4, bottom + 4)),
    )
    (found,) = interacting._worker_job_interact("key", picture(0), prompts)
    mask = decode_mask(found.points, image_width=SIZE[1], image_height=SIZE[0])
    assert jaccard(mask, OBJECTS[0][0]) > 0.8
    again = interacting._worker_job_interact_from_cache("key", prompts)
    assert again is not None
    assert again[0].points == found.points
