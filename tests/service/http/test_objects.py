"""Corrections, objects that come and go, and forks, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.encoding import decode_rle, encode_rle
from model.core.palette import write_label_map
from tests.support import scene
from tests.support.running import Api, form, problem

OTHER = np.where(scene.labels(2, objects=2) == 2, np.uint8(2), np.uint8(0))  # object 2 in frame 2


def frames(*numbers: int) -> list[bytes]:
    """Frames in which both squares are seen."""
    return [scene.jpeg(number, objects=2) for number in numbers]


def started(api: Api, *, frames_sent: int = 2, **options: object) -> str:
    """A session that tracks object 1 of two, and has seen the first frames."""
    parts = [
        ("frame", scene.png(0, objects=2)),
        ("mask", scene.mask()),
        ("options", json.dumps(options).encode()),
    ]
    session = str(api.post_start(*parts).json()["session_id"])
    for first in range(1, frames_sent + 1, 2):
        assert api.append(session, frames(first, first + 1), first=first).status_code == 200
    return session


def put(api: Api, session: str, mask: NDArray[Any], **query: Any) -> httpx.Response:
    """PUT objects with a mask image."""
    parts = form([("mask", write_label_map(mask.astype(np.uint8)))])
    return api.http.put(f"/v1/sessions/{session}/objects", params=query, files=parts)


def fork(api: Api, session: str, **query: Any) -> httpx.Response:
    return api.http.post(f"/v1/sessions/{session}/fork", params=query)


def forked(api: Api, session: str, **query: Any) -> str:
    answer = fork(api, session, **query)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["session_id"])


def masks_of(api: Api, session: str, first: int, last: int) -> list[Any]:
    return list(api.masks(session, from_=first, to=last).json()["frames"])


def tracked(api: Api, session: str, numbers: Sequence[int]) -> list[Any]:
    """The masks of these frames, appended two by two."""
    found: list[Any] = []
    for first in numbers[::2]:
        answer = api.append(session, frames(first, first + 1), first=first)
        assert answer.status_code == 200, answer.text
        found += answer.json()["frames"]
    return found


def pixels(item: dict[str, Any]) -> NDArray[np.bool_]:
    return decode_rle(item["rle"])


def overlap(item: dict[str, Any], true: NDArray[np.bool_]) -> float:
    found = pixels(item)
    return float((found & true).sum() / (found | true).sum())


def test_an_object_is_added_mid_stream_and_followed(api: Api) -> None:
    session = started(api)
    answer = put(api, session, OTHER)
    body = answer.json()
    assert (answer.status_code, body["frame"], body["next_frame"]) == (200, 2, 3)
    assert [(item["id"], item["state"]) for item in body["objects"]] == [
        (1, "visible"),
        (2, "human"),
    ]
    last = tracked(api, session, range(3, 9))[-1]
    for item in last["objects"]:
        assert overlap(item, scene.labels(8, objects=2) == item["id"]) > 0.9


def test_a_correction_is_kept_as_it_was_drawn(api: Api) -> None:
    session = started(api)
    drawn = np.zeros((scene.HEIGHT, scene.WIDTH), np.uint8)
    drawn[70:90, 10:30] = 1
    before = masks_of(api, session, 0, 2)
    put(api, session, drawn)
    after = masks_of(api, session, 0, 2)
    (item,) = after[2]["objects"]
    assert (pixels(item) == (drawn == 1)).all()
    assert (item["state"], item["confidence"], item["area"]) == ("human", 1.0, 400)
    assert after[:2] == before[:2]


def test_the_objects_that_are_not_named_keep_what_was_predicted(api: Api) -> None:
    session = started(api)
    put(api, session, OTHER)
    (first,) = masks_of(api, session, 2, 2)
    drawn = np.zeros_like(OTHER)
    drawn[0:8, 0:8] = 1
    body = put(api, session, drawn).json()
    assert body["objects"][1] == first["objects"][1]


def test_a_correction_changes_what_follows(api: Api) -> None:
    session, other = started(api), started(api)
    # What the person calls object 1 is the other square.
    put(api, session, OTHER == 2)
    corrected, untouched = (tracked(api, s, range(3, 15))[-1] for s in (session, other))
    assert corrected["objects"] != untouched["objects"]


def test_objects_may_be_given_as_shapes_with_labels(api: Api) -> None:
    session = started(api)
    shapes = [{"id": 9, "label": "boat", "rle": encode_rle(OTHER == 2)}]
    answer = api.http.put(f"/v1/sessions/{session}/objects", json=shapes)
    assert answer.status_code == 200, answer.text
    shown = api.http.get(f"/v1/sessions/{session}").json()
    assert shown["objects"] == [{"id": 1, "label": None}, {"id": 9, "label": "boat"}]


def test_a_bare_png_is_a_mask(api: Api) -> None:
    session = started(api)
    answer = api.http.put(
        f"/v1/sessions/{session}/objects",
        content=write_label_map(OTHER),
        headers={"content-type": "image/png"},
    )
    assert answer.status_code == 200, answer.text


def test_the_reference_can_be_corrected_before_the_first_append(api: Api) -> None:
    session = started(api, frames_sent=0)
    put(api, session, np.where(scene.labels(0, objects=2) == 2, 2, 0))
    last = tracked(api, session, [1, 2])[-1]
    assert [item["state"] for item in last["objects"]] == ["visible", "visible"]


def test_a_correction_sent_twice_is_the_same_correction(api: Api) -> None:
    session = started(api)
    put(api, session, OTHER, frame=2)
    state = api.state(session)
    assert put(api, session, OTHER, frame=2).status_code == 200
    assert api.state(session) == state


def test_a_correction_for_another_frame_is_a_conflict(api: Api) -> None:
    session = started(api)
    state = api.state(session)
    answer = put(api, session, OTHER, frame=1)
    assert problem(answer) == (409, "conflict")
    assert answer.json()["expected"] == 3
    assert api.state(session) == state


def test_a_frame_that_was_corrected_is_still_answered_on_a_retry(api: Api) -> None:
    session = started(api)
    put(api, session, OTHER)
    answer = api.append(session, frames(1, 2), first=1)
    assert answer.headers["idempotent-replay"] == "true"
    assert answer.json()["frames"] == masks_of(api, session, 1, 2)


def test_a_memory_full_of_first_masks_takes_no_correction(api: Api) -> None:
    session = started(api, memory_size=4)
    put(api, session, OTHER)
    tracked(api, session, [3, 4])
    state = api.state(session)
    answer = put(api, session, np.where(OTHER == 2, 3, 0))
    assert problem(answer) == (409, "memory-full")
    assert api.state(session) == state


def test_too_many_objects_are_refused(api: Api) -> None:
    session = started(api)
    shapes = [{"id": 2 + n, "box": [4 * (n % 16), n // 16, 4, 4]} for n in range(32)]
    answer = api.http.put(f"/v1/sessions/{session}/objects", json=shapes)
    assert problem(answer) == (422, "too-many-objects")


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([("mask", b"no png")], (422, "bad-mask")),
        ([("mask", write_label_map(np.ones((10, 10), np.uint8)))], (422, "wrong-mask-size")),
        ([("mask", write_label_map(np.zeros_like(OTHER)))], (422, "no-objects")),
        ([("objects", b"[")], (400, "malformed-body")),
        ([("frame", b"?")], (422, "bad-option")),
    ],
)
def test_a_bad_correction_is_refused_and_changes_nothing(
    api: Api, parts: list[tuple[str, bytes]], found: tuple[int, str]
) -> None:
    session = started(api)
    state = api.state(session)
    answer = api.http.put(f"/v1/sessions/{session}/objects", files=form(parts))
    assert problem(answer) == found
    assert api.state(session) == state


def test_a_correction_of_another_kind_is_refused(api: Api) -> None:
    answer = api.http.put("/v1/sessions/any/objects", content=b"...")
    assert problem(answer) == (415, "unsupported-media")


def test_a_removed_object_is_gone_from_what_follows(api: Api) -> None:
    session = started(api)
    put(api, session, OTHER)
    tracked(api, session, [3, 4])
    answer = api.http.delete(f"/v1/sessions/{session}/objects/1")
    assert (answer.status_code, answer.content) == (204, b"")
    found = tracked(api, session, [5, 6])
    assert [[item["id"] for item in frame["objects"]] for frame in found] == [[2], [2]]
    assert [item["id"] for item in masks_of(api, session, 4, 4)[0]["objects"]] == [1, 2]


def test_the_other_objects_do_not_notice_a_removal(api: Api) -> None:
    one, both = started(api), started(api)
    for session in (one, both):
        put(api, session, OTHER)
    api.http.delete(f"/v1/sessions/{one}/objects/1")
    alone, together = (tracked(api, s, range(3, 7))[-1]["objects"] for s in (one, both))
    assert alone == together[1:]


def test_an_object_that_was_removed_can_be_added_again(api: Api) -> None:
    session = started(api)
    put(api, session, OTHER)
    api.http.delete(f"/v1/sessions/{session}/objects/2")
    tracked(api, session, [3, 4])
    put(api, session, np.where(scene.labels(4, objects=2) == 2, 2, 0))
    (_, item) = tracked(api, session, [5, 6])[-1]["objects"]
    assert overlap(item, scene.labels(6, objects=2) == 2) > 0.9


@pytest.mark.parametrize(
    ("object_id", "found"),
    [(7, (404, "unknown-object")), (1, (409, "last-object")), (0, (422, "bad-option"))],
)
def test_what_is_not_there_or_alone_is_not_removed(
    api: Api, object_id: int, found: tuple[int, str]
) -> None:
    session = started(api)
    assert problem(api.http.delete(f"/v1/sessions/{session}/objects/{object_id}")) == found


def test_a_fork_goes_on_like_its_origin(api: Api) -> None:
    session = started(api, frames_sent=8)
    answer = fork(api, session)
    copy = answer.json()["session_id"]
    assert answer.headers["location"] == f"/v1/sessions/{copy}"
    assert api.state(copy) == {**api.state(session), "session_id": copy}
    assert tracked(api, copy, range(9, 13)) == tracked(api, session, range(9, 13))


def test_a_fork_leaves_its_origin_alone(api: Api) -> None:
    session = started(api, frames_sent=4)
    state = api.state(session)
    copy = forked(api, session, at=2)
    tracked(api, copy, [3, 4, 5, 6])
    put(api, copy, OTHER)
    api.http.delete(f"/v1/sessions/{copy}")
    assert api.state(session) == state


@pytest.mark.parametrize("memory_size", [1, 2, 9])
def test_a_fork_of_the_past_is_the_past_bit_by_bit(api: Api, memory_size: int) -> None:
    session = started(api, frames_sent=24, memory_size=memory_size)
    masks = masks_of(api, session, 0, 24)
    copy = forked(api, session, at=10)
    assert masks_of(api, copy, 0, 10) == masks[:11]
    assert tracked(api, copy, range(11, 25)) == masks[11:]


def test_a_bad_correction_is_undone(api: Api) -> None:
    session, untouched = started(api, frames_sent=6), started(api, frames_sent=6)
    put(api, session, OTHER == 2)
    put(api, session, scene.labels(3, objects=2))
    tracked(api, session, range(7, 11))
    copy = forked(api, session, at=6)
    assert masks_of(api, copy, 0, 6) == masks_of(api, untouched, 0, 6)
    assert tracked(api, copy, range(7, 13)) == tracked(api, untouched, range(7, 13))


def test_a_good_correction_stays_in_what_was_forked_later(api: Api) -> None:
    session = started(api, frames_sent=6)
    put(api, session, OTHER)
    masks = tracked(api, session, range(7, 13))
    copy = forked(api, session, at=8)
    assert tracked(api, copy, range(9, 13)) == masks[2:]


def test_a_fork_of_a_correction_as_it_is_holds_it(api: Api) -> None:
    session = started(api, frames_sent=6)
    put(api, session, OTHER)
    copy = forked(api, session)
    assert masks_of(api, copy, 6, 6) == masks_of(api, session, 6, 6)
    assert tracked(api, copy, [7, 8]) == tracked(api, session, [7, 8])


def test_a_removed_object_comes_back_in_a_fork(api: Api) -> None:
    session = started(api)
    put(api, session, OTHER)
    tracked(api, session, [3, 4])
    api.http.delete(f"/v1/sessions/{session}/objects/2")
    copy = forked(api, session, at=4)
    assert len(tracked(api, copy, [5, 6])[-1]["objects"]) == 2


def test_any_frame_can_be_gone_back_to(api: Api) -> None:
    """A fork says where to send from, and goes on there as if the rest had never been."""
    session = started(api, frames_sent=40)
    masks = masks_of(api, session, 0, 40)
    for at, first in ((0, 1), (1, 1), (5, 5), (6, 7), (39, 39), (40, 41)):
        copy = forked(api, session, at=at)
        assert api.state(copy)["next_frame"] == first
        assert masks_of(api, copy, 0, first - 1) == masks[:first]
        if first < 40:
            assert tracked(api, copy, range(first, 41)) == masks[first:]


def test_a_fork_can_go_back_to_its_start_and_to_the_reference(api: Api) -> None:
    session = started(api, frames_sent=20)
    masks = masks_of(api, session, 0, 20)
    copy = forked(api, session, at=13)
    tracked(api, copy, range(13, 17))
    for at, first in ((12, 13), (11, 1), (0, 1)):
        again = forked(api, copy, at=at)
        assert api.state(again)["next_frame"] == first
        assert tracked(api, again, range(first, 19)) == masks[first:19]


def test_a_fork_between_a_correction_and_the_next_clip_holds_it(api: Api) -> None:
    session = started(api, frames_sent=6)
    put(api, session, OTHER)
    masks = tracked(api, session, range(7, 13))
    copy = forked(api, session, at=7)
    assert api.state(copy)["next_frame"] == 7
    assert masks_of(api, copy, 6, 6) == masks_of(api, session, 6, 6)
    assert tracked(api, copy, range(7, 13)) == masks


def test_a_fork_between_a_removal_and_the_next_clip_holds_it(api: Api) -> None:
    session = started(api)
    put(api, session, OTHER)
    tracked(api, session, [3, 4])
    api.http.delete(f"/v1/sessions/{session}/objects/1")
    masks = tracked(api, session, range(5, 9))
    assert tracked(api, forked(api, session, at=5), range(5, 9)) == masks


def test_one_long_append_can_be_undone_in_part(api: Api) -> None:
    session = started(api, frames_sent=0)
    masks = api.append(session, frames(*range(1, 41)), first=1).json()["frames"]
    copy = forked(api, session, at=20)
    assert tracked(api, copy, range(21, 41)) == masks[20:]


@pytest.mark.parametrize(("at", "found"), [(9, (404, "unknown-frame")), (-1, (422, "bad-option"))])
def test_a_frame_that_is_not_there_has_no_fork(api: Api, at: int, found: tuple[int, str]) -> None:
    assert problem(fork(api, started(api, frames_sent=8), at=at)) == found


def test_an_unknown_session_has_no_forks_and_no_objects(api: Api) -> None:
    for answer in (
        fork(api, "none"),
        put(api, "none", OTHER),
        api.http.delete("/v1/sessions/none/objects/1"),
    ):
        assert problem(answer) == (404, "unknown-session")


def test_a_start_and_a_correction_tell_what_a_mask_shows(api: Api) -> None:
    started = api.post_start(("frame", scene.png(0)), ("mask", scene.mask()))
    assert started.json()["notes"] == ["the mask shows object 1 (1024 pixels)"]
    session = started.json()["session_id"]
    assert "notes" not in api.http.get(f"/v1/sessions/{session}").json()
    cut = [{"id": 2, "box": [100, 70, 60, 10]}]
    corrected = api.http.put(f"/v1/sessions/{session}/objects", json=cut)
    assert corrected.json()["notes"] == ["object 2 reaches beyond the frame and was cut off there"]
