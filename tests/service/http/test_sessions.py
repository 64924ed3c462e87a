"""The main job over real HTTP: start, append, send again, look, delete."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from tests.support import scene
from tests.support.running import Api, problem
from tests.support.toy_model import SPEC

# pycocotools 2.0.11 converts arrays as NumPy 1 did.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def mask_of(item: dict[str, Any]) -> NDArray[np.bool_]:
    """An object's pixels, read by pycocotools."""
    return np.asarray(coco.decode(item["rle"]), dtype=np.bool_)


def masks_of(answer: Any) -> list[Any]:
    """Frame numbers and masks of an append's answer, without times."""
    return list(answer.json()["frames"])


def frames(first: int, last: int) -> list[bytes]:
    return [scene.jpeg(number) for number in range(first, last + 1)]


def test_a_session_starts_with_one_frame_and_a_mask(api: Api) -> None:
    answer = api.post_start(("frame", scene.jpeg(0)), ("mask", scene.mask()))
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/sessions/{body['session_id']}"
    assert {name: body[name] for name in body if name not in ("session_id", "expires_at")} == {
        "model": "toy",
        "weights_sha256": SPEC.weights_sha256,
        "runtime": "",
        "frame_size": [scene.HEIGHT, scene.WIDTH],
        "model_size": [64, 96],
        "objects": [{"id": 1, "label": None}],
        "clip_length": 2,
        "memory_size": 9,
        "memory_gate": False,
        "next_frame": 1,
        "state_rebuilt_at": None,
        "notes": ["the mask shows object 1 (1024 pixels)"],
    }


def test_the_session_is_at_its_location(api: Api) -> None:
    started = api.post_start(("frame", scene.jpeg(0)), ("mask", scene.mask()))
    shown = api.http.get(started.headers["location"])
    assert shown.status_code == 200
    assert shown.json()["session_id"] == started.json()["session_id"]


def test_a_session_says_when_it_expires(api: Api) -> None:
    expires = datetime.fromisoformat(
        api.http.get(f"/v1/sessions/{api.start()}").json()["expires_at"]
    )
    left = expires - datetime.now(expires.tzinfo)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


def test_the_masks_follow_the_object(api: Api) -> None:
    answer = api.append(api.start(), frames(1, 4), first=1)
    assert answer.status_code == 200
    for frame in answer.json()["frames"]:
        true = scene.labels(frame["frame"]) == 1
        found = mask_of(frame["objects"][0])
        assert (found & true).sum() > 0.9 * (found | true).sum()


def test_an_answer_describes_each_mask(api: Api) -> None:
    body = api.append(api.start(), frames(1, 3), first=1).json()
    item = body["frames"][0]["objects"][0]
    mask = mask_of(item)
    rows, columns = np.nonzero(mask)
    box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert (body["first_frame"], body["next_frame"]) == (1, 4)
    assert [frame["frame"] for frame in body["frames"]] == [1, 2, 3]
    assert (item["id"], item["state"], item["area"]) == (1, "visible", mask.sum())
    assert item["bbox"] == box
    assert 0.5 <= item["confidence"] <= 1


def test_timing_names_every_stage(api: Api) -> None:
    timing = api.append(api.start(), frames(1, 2), first=1).json()["timing"]
    stages = ["receive", "queue", "store", "decode", "inference", "encode"]
    assert list(timing) == [f"{stage}_ms" for stage in (*stages, "total")]
    assert timing["total_ms"] == pytest.approx(sum(timing[f"{s}_ms"] for s in stages), abs=0.01)


def test_two_objects_are_told_apart(api: Api) -> None:
    images = [scene.jpeg(number, objects=2) for number in (1, 2)]
    answer = api.append(api.start(objects=2), images, first=1)
    found = answer.json()["frames"][1]["objects"]
    true = scene.labels(2, objects=2)
    assert [item["id"] for item in found] == [1, 2]
    for item in found:
        inside = mask_of(item) & (true == item["id"])
        assert inside.sum() > 0.9 * item["area"] > 0


def test_an_object_that_is_gone_is_lost(api: Api) -> None:
    floor = scene.encode(np.full((scene.HEIGHT, scene.WIDTH, 3), 128, np.uint8), ".png")
    item = api.append(api.start(), [floor], first=1).json()["frames"][0]["objects"][0]
    assert (item["state"], item["area"], item["bbox"], item["confidence"]) == (
        "lost",
        0,
        [0, 0, 0, 0],
        0.0,
    )


def test_objects_may_be_given_as_shapes_with_labels(api: Api) -> None:
    rle = coco.encode(np.asfortranarray(scene.labels(0)))
    rle["counts"] = rle["counts"].decode()
    shapes: list[dict[str, Any]] = [
        {"id": 7, "label": "box", "box": [10, 20, 30, 40]},
        {"id": 3, "polygons": [[0, 0, 9, 0, 9, 9, 0, 9]]},
        {"id": 5, "rle": rle},
    ]
    answer = api.http.post(
        "/v1/sessions",
        files={"frame": ("0.png", scene.png(0))},
        data={"objects": json.dumps(shapes), "options": '{"labels": {"3": "corner"}}'},
    )
    masks = api.masks(answer.json()["session_id"]).json()["frames"][0]["objects"]
    assert answer.json()["objects"] == [
        {"id": 3, "label": "corner"},
        {"id": 5, "label": None},
        {"id": 7, "label": "box"},
    ]
    assert [item["area"] for item in masks] == [100, scene.SIDE**2, 1200]


def test_options_are_the_clients_choice(api: Api) -> None:
    session = api.start(
        model="toy", clip_length=3, memory_size=4, memory_gate=True, labels={"1": "square"}
    )
    body = api.http.get(f"/v1/sessions/{session}").json()
    assert (body["clip_length"], body["memory_size"], body["memory_gate"]) == (3, 4, True)
    assert body["objects"] == [{"id": 1, "label": "square"}]


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "application/octet-stream", None])
def test_one_frame_may_be_the_whole_body(api: Api, kind: str | None) -> None:
    answer = api.http.post(
        f"/v1/sessions/{api.start()}/clips?first_frame=1",
        content=scene.jpeg(1),
        headers={"content-type": kind} if kind else {},
    )
    assert answer.status_code == 200
    assert answer.json()["next_frame"] == 2


@pytest.mark.parametrize("kind", ["mp4", "mov", "webm"])
def test_frames_may_come_as_a_video(api: Api, kind: str) -> None:
    session = api.start()
    movie = scene.video(range(1, 6), kind=kind)
    body = api.post_append(session, ("video", movie), first_frame=1).json()
    assert body["next_frame"] == 6
    last = body["frames"][-1]
    true = scene.labels(last["frame"]) == 1
    found = mask_of(last["objects"][0])
    assert (found & true).sum() > 0.85 * (found | true).sum()


def test_a_part_of_a_video_may_be_taken(api: Api) -> None:
    session = api.start()
    movie = ("video", scene.video(range(6)))
    first = api.post_append(session, movie, first_frame=1, skip=1, count=2)
    rest = api.post_append(session, movie, first_frame=3, skip=3)
    assert (first.json()["next_frame"], rest.json()["next_frame"]) == (3, 6)


def test_a_video_sent_again_is_answered_from_the_store(api: Api) -> None:
    session = api.start()
    movie = ("video", scene.video(range(1, 4)))
    first = api.post_append(session, movie, first_frame=1)
    again = api.post_append(session, movie, first_frame=1)
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    assert masks_of(again) == masks_of(first)


def test_a_retried_append_gets_the_same_masks(api: Api) -> None:
    session = api.start()
    first = api.append(session, frames(1, 3), first=1)
    again = api.append(session, frames(1, 3), first=1)
    assert again.headers["idempotent-replay"] == "true"
    assert masks_of(again) == masks_of(first)
    assert again.json()["next_frame"] == 4


def test_a_retry_may_be_cut_otherwise(api: Api) -> None:
    session = api.start()
    first = api.append(session, frames(1, 4), first=1)
    again = [api.append(session, frames(number, number), first=number) for number in (1, 2, 3, 4)]
    assert [masks_of(answer)[0] for answer in again] == masks_of(first)


def test_a_retry_that_reaches_further_processes_the_rest(api: Api) -> None:
    session = api.start()
    first = api.append(session, frames(1, 2), first=1)
    more = api.append(session, frames(1, 4), first=1)
    assert "idempotent-replay" not in more.headers
    assert masks_of(more)[:2] == masks_of(first)
    assert more.json()["next_frame"] == 5


def test_the_reference_frame_may_be_sent_again(api: Api) -> None:
    answer = api.append(api.start(), [scene.png(0)], first=0)
    assert answer.headers["idempotent-replay"] == "true"
    assert answer.json()["frames"][0]["objects"][0]["state"] == "human"


def test_equal_clips_give_equal_masks_however_they_are_sent(api: Api) -> None:
    together, apart = api.start(), api.start()
    api.append(together, frames(1, 4), first=1)
    api.append(apart, frames(1, 2), first=1)
    api.append(apart, frames(3, 4), first=3)
    assert api.masks(together).json() == api.masks(apart).json()


def test_polygons_describe_the_same_mask(api: Api) -> None:
    session = api.start()
    rle = api.append(session, frames(1, 1), first=1).json()["frames"][0]["objects"][0]
    item = api.append(session, frames(1, 1), first=1, format="polygons").json()["frames"][0]
    (polygon,) = item["objects"][0]["polygons"]
    xs, ys = polygon[::2], polygon[1::2]
    x, y, width, height = rle["bbox"]
    assert "rle" not in item["objects"][0]
    assert (min(xs), min(ys), max(xs), max(ys)) == (x, y, x + width - 1, y + height - 1)


def test_of_two_clients_one_wins(api: Api) -> None:
    session = api.start()
    rivals = [[scene.jpeg(1), scene.jpeg(2)], [scene.png(5), scene.png(6)]]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda images: api.append(session, images, first=1), rivals))
    answers.sort(key=lambda answer: answer.status_code)
    assert answers[0].status_code == 200
    assert problem(answers[1]) == (409, "frame-changed")
    assert answers[1].json()["expected"] == 3
    assert api.state(session)["masks"]["frames"][1:] == masks_of(answers[0])


def test_many_retries_at_once_commit_once(api: Api) -> None:
    session = api.start()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: api.append(session, frames(1, 2), first=1), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert sum("idempotent-replay" not in answer.headers for answer in answers) == 1
    assert all(masks_of(answer) == masks_of(answers[0]) for answer in answers)


def test_a_deleted_session_is_unknown(api: Api) -> None:
    session = api.start()
    assert api.http.delete(f"/v1/sessions/{session}").status_code == 204
    assert problem(api.http.get(f"/v1/sessions/{session}")) == (404, "unknown-session")
    assert problem(api.http.delete(f"/v1/sessions/{session}")) == (404, "unknown-session")
