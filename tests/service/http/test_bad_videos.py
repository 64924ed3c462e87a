"""Videos that are refused, and those that take long: nothing else waits for them."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import numpy as np
import pytest

from tests.support import scene
from tests.support.bad_images import label_map, plain
from tests.support.movies import movie
from tests.support.repeated_video import repeated_jpeg
from tests.support.running import Api, problem, unchanged


@pytest.fixture
def session(api: Api) -> str:
    """A session with two frames tracked."""
    session = api.start()
    assert api.append(session, [scene.jpeg(1), scene.jpeg(2)], first=1).status_code == 200
    return session


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("text", b"no video"),
        ("an image", scene.jpeg(3)),
        ("a playlist", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"),
        ("truncated", scene.video(range(3, 8))[:-700]),
        ("only a header", scene.video(range(3, 8))[:40]),
        ("damaged WebM", scene.video(range(3, 8), kind="webm")[:300]),
    ],
)
def test_a_bad_video_is_refused(api: Api, session: str, name: str, data: bytes) -> None:
    with unchanged(api, session):
        answer = api.post_append(session, ("video", data), first_frame=3)
    assert problem(answer) == (422, "bad-video")


def cut_off() -> bytes:
    """A video whose index comes first, without its end."""
    pictures = [scene.picture(number) for number in range(3, 23)]
    whole = movie(pictures, codec="mjpeg", kind="mov", index_first=True)
    return whole[: int(0.7 * len(whole))]


def test_a_video_that_is_cut_off_is_refused_but_its_beginning_is_taken(
    api: Api, session: str
) -> None:
    with unchanged(api, session):
        answer = api.post_append(session, ("video", cut_off()), first_frame=3)
    assert problem(answer) == (422, "damaged-video")
    said = re.fullmatch(
        r"picture (\d+) of the video cannot be decoded: the file is cut off",
        answer.json()["detail"],
    )
    assert said is not None
    answer = api.post_append(session, ("video", cut_off()), first_frame=3, count=said[1])
    assert answer.status_code == 200
    assert len(answer.json()["frames"]) == int(said[1])


def test_a_video_of_another_codec_is_refused(api: Api, session: str) -> None:
    data = movie([scene.picture(3)], codec="ffv1", kind="matroska")
    with unchanged(api, session):
        answer = api.post_append(session, ("video", data), first_frame=3)
    assert problem(answer) == (422, "unknown-codec")


@pytest.mark.parametrize(("skip", "count"), [(20_000, None), (19_500, 501), (2**31 - 1, 1)])
def test_pictures_that_are_left_out_are_counted(
    api: Api, session: str, skip: int, count: int | None
) -> None:
    part = {"skip": skip} if count is None else {"skip": skip, "count": count}
    with unchanged(api, session):
        answer = api.post_append(session, ("video", scene.video(range(3))), first_frame=3, **part)
    assert problem(answer) == (413, "too-many-frames")
    assert answer.json()["limit"] == 20_000


def test_an_index_that_claims_millions_of_samples_is_refused_at_once(
    api: Api, session: str
) -> None:
    small = repeated_jpeg(scene.jpeg(3), count=1, height=scene.HEIGHT, width=scene.WIDTH)
    place = small.index(b"stsz") + 12
    data = small[:place] + (80_000_000).to_bytes(4, "big") + small[place + 4 :]
    with unchanged(api, session):
        answer = api.post_append(session, ("video", data), first_frame=3)
    assert problem(answer) == (422, "bad-video")
    assert "claims 80000000 samples" in answer.json()["detail"]


def test_frames_are_tracked_while_videos_are_decoded(api: Api, session: str) -> None:
    jpeg = scene.encode(np.zeros((1024, 1024, 3), np.uint8), ".jpg")
    data = repeated_jpeg(jpeg, count=100_000, height=1024, width=1024)
    wide = str(
        api.post_start(("frame", jpeg), ("mask", label_map(1, size=(1024, 1024)))).json()[
            "session_id"
        ]
    )

    def send() -> None:
        with suppress(httpx.TimeoutException):
            path = f"/v1/sessions/{wide}/clips?first_frame=1&skip=19000"
            httpx.post(f"{api.http.base_url}{path}", files={"video": data}, timeout=2.0)

    with ThreadPoolExecutor() as pool:
        sending = [pool.submit(send) for _ in range(4)]
        started = time.monotonic()
        assert api.append(session, [scene.jpeg(3)], first=3).status_code == 200
        assert time.monotonic() - started < 2
        assert not any(each.done() for each in sending)
    # Their clients have gone, so there is room for others.
    answer = api.post_append(session, ("video", scene.video(range(4, 6))), first_frame=4)
    assert answer.status_code == 200


def test_a_video_that_ends_before_the_part_asked_for_is_refused(api: Api, session: str) -> None:
    with unchanged(api, session):
        movie = ("video", scene.video(range(3)))
        answer = api.post_append(session, movie, first_frame=3, skip=3)
    assert problem(answer) == (422, "bad-video")


def test_a_video_of_another_size_is_refused(api: Api) -> None:
    session = str(
        api.post_start(("frame", plain(64, 64)), ("mask", label_map(1, size=(64, 64)))).json()[
            "session_id"
        ]
    )
    with unchanged(api, session):
        answer = api.post_append(session, ("video", scene.video(range(3))), first_frame=1)
    assert problem(answer) == (422, "wrong-frame-size")


def test_a_video_beside_frames_is_refused(api: Api, session: str) -> None:
    parts = ("frames", scene.jpeg(3)), ("video", scene.video(range(3)))
    with unchanged(api, session):
        answer = api.post_append(session, *parts, first_frame=3)
    assert problem(answer) == (422, "bad-option")


def test_skip_without_a_video_is_refused(api: Api, session: str) -> None:
    with unchanged(api, session):
        answer = api.append(session, [scene.jpeg(3)], first=3, skip=1)
    assert problem(answer) == (422, "bad-option")
