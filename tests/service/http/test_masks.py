"""Stored masks: pages of them, as JSON, as palette PNGs, as a ZIP of those."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from model.core.palette import davis_palette
from tests.support import scene
from tests.support.running import Api

FRAMES = 620


@pytest.fixture(scope="module")
def long_session(api: Api) -> str:
    """A session of more frames than a page holds; frame 0 is the reference."""
    session = api.start(clip_length=4)
    movie = scene.video([number % 30 for number in range(1, FRAMES)])
    answer = api.post_append(session, ("video", movie), first_frame=1)
    assert answer.json()["next_frame"] == FRAMES
    return session


@pytest.fixture(scope="module")
def session(api: Api) -> str:
    """A session of two objects and four frames."""
    session = api.start(objects=2)
    images = [scene.png(number, objects=2) for number in (1, 2, 3)]
    assert api.append(session, images, first=1).status_code == 200
    return session


def test_all_masks_are_given_with_the_reference_first(api: Api, session: str) -> None:
    frames = api.masks(session).json()["frames"]
    assert [frame["frame"] for frame in frames] == [0, 1, 2, 3]
    assert [[item["state"] for item in frame["objects"]] for frame in frames] == [
        ["human", "human"],
        *[["visible", "visible"]] * 3,
    ]


def test_the_reference_masks_are_those_that_were_given(api: Api, session: str) -> None:
    answer = api.http.get(f"/v1/sessions/{session}/masks/0.png")
    found = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert (found == scene.labels(0, objects=2)).all()


def test_stored_masks_are_those_that_were_answered(api: Api) -> None:
    session = api.start()
    answered = api.append(session, [scene.jpeg(1), scene.jpeg(2)], first=1).json()["frames"]
    assert api.masks(session, from_=1).json() == {"frames": answered, "next": None}


@pytest.mark.parametrize(
    ("query", "frames"),
    [
        ({"from_": 2}, [2, 3]),
        ({"to": 1}, [0, 1]),
        ({"from_": 1, "to": 2}, [1, 2]),
        ({"from_": 3, "to": 3}, [3]),
        ({"from_": 3, "to": 99}, [3]),
    ],
)
def test_both_ends_are_included(
    api: Api, session: str, query: dict[str, int], frames: list[int]
) -> None:
    found = api.masks(session, **query).json()["frames"]
    assert [frame["frame"] for frame in found] == frames


def test_pages_follow_each_other(api: Api, long_session: str) -> None:
    first = api.masks(long_session)
    second = api.http.get(first.json()["next"])
    found = [frame["frame"] for page in (first, second) for frame in page.json()["frames"]]
    assert len(first.json()["frames"]) == 500
    assert found == list(range(FRAMES))
    assert first.headers["link"] == f'<{first.json()["next"]}>; rel="next"'
    assert second.json()["next"] is None


def test_a_following_page_keeps_the_question(api: Api, long_session: str) -> None:
    first = api.masks(long_session, from_=50, to=560, format="polygons")
    second = api.http.get(first.json()["next"]).json()
    assert [frame["frame"] for frame in second["frames"]] == list(range(550, 561))
    assert "polygons" in second["frames"][0]["objects"][0]


def test_a_page_of_pngs_names_the_following_one(api: Api, long_session: str) -> None:
    answer = api.masks(long_session, format="png")
    path = f"/v1/sessions/{long_session}/masks?from=500&format=png"
    assert answer.headers["link"] == f'<{path}>; rel="next"'
    assert len(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == 500


def test_a_zip_holds_a_palette_png_for_each_frame(api: Api, session: str) -> None:
    answer = api.masks(session, format="png", from_=1)
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "application/zip"
    assert archive.testzip() is None
    assert archive.namelist() == ["00001.png", "00002.png", "00003.png"]
    for name in archive.namelist():
        alone = api.http.get(f"/v1/sessions/{session}/masks/{int(name[:5])}.png")
        assert archive.read(name) == alone.content


def test_a_png_is_a_label_map_in_the_colors_of_davis(api: Api, session: str) -> None:
    answer = api.http.get(f"/v1/sessions/{session}/masks/3.png")
    image = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "image/png"
    assert (image.mode, image.size) == ("P", (scene.WIDTH, scene.HEIGHT))
    assert image.getpalette() == davis_palette().ravel().tolist()
    true = scene.labels(3, objects=2)
    assert (np.asarray(image) == true).mean() > 0.98


def test_masks_that_overlap_show_the_lowest_id(api: Api) -> None:
    boxes = b'[{"id": 9, "box": [0, 0, 20, 20]}, {"id": 4, "box": [10, 10, 20, 20]}]'
    started = api.post_start(("frame", scene.png(0)), ("objects", boxes)).json()
    answer = api.http.get(f"/v1/sessions/{started['session_id']}/masks/0.png")
    found = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert (found[5, 5], found[15, 15], found[25, 25]) == (9, 4, 4)
