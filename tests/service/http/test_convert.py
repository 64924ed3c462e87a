"""POST /v1/masks/convert: COCO's JSON in, another tool's file out."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import httpx
import numpy as np
import pytest

from model.core.encoding import encode_rle
from model.core.image_headers import ImageLimits
from model.core.palette import read_label_map
from service.http import convert
from tests.support import scene
from tests.support.running import Api, problem


def document(*, frames: int = 3, **changes: Any) -> dict[str, Any]:
    """Return the scene as COCO, as the page makes it."""
    size = {"width": scene.WIDTH, "height": scene.HEIGHT}
    images = [{"id": n, "file_name": f"a {n}.png", "video_frame": n, **size} for n in range(frames)]
    annotations = [
        {
            "id": 1 + n,
            "image_id": n,
            "category_id": 1,
            "track_id": 1,
            "segmentation": encode_rle(scene.labels(n) == 1),
            "area": scene.SIDE**2,
            "bbox": [0, 0, 1, 1],
            "iscrowd": 0,
        }
        for n in range(frames)
    ]
    categories = [{"id": 1, "name": "square"}]
    info = {"description": "scene", "fps": 24}
    whole = {"info": info, "images": images, "annotations": annotations, "categories": categories}
    return whole | changes


def post(api: Api, to: str, body: object) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    path = "/v1/masks/convert"
    return api.http.post(path, params={"format": to}, content=content, headers=headers)


@pytest.mark.parametrize(
    ("to", "kind", "name", "holds"),
    [
        ("coco-video", "application/json", "scene.json", b'"file_names": ["a 0.png"'),
        ("cvat", "application/xml", "annotations.xml", b'label="square"'),
        ("mots", "text/plain; charset=utf-8", "scene.txt", b"2 1001 1 96 128 "),
    ],
)
def test_a_format_of_one_file_is_that_file(
    api: Api, to: str, kind: str, name: str, holds: bytes
) -> None:
    answer = post(api, to, document())
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-disposition"].endswith(name)
    assert holds in answer.content


@pytest.mark.parametrize(
    ("to", "names"),
    [
        ("davis", [f"scene/a {n}.png" for n in range(3)]),
        ("youtube-vos", [*(f"Annotations/scene/a {n}.png" for n in range(3)), "meta.json"]),
        ("yolo", [*(f"labels/a {n}.txt" for n in range(3)), "data.yaml"]),
        ("label-studio", ["video.json", "images.json"]),
    ],
)
def test_a_format_of_several_files_is_a_zip(api: Api, to: str, names: list[str]) -> None:
    answer = post(api, to, document())
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == names
        if to == "davis":
            labels = read_label_map(archive.read(names[2]), ImageLimits())
            assert (labels == scene.labels(2)).all()


def test_a_name_leads_to_no_other_folder(api: Api) -> None:
    images = [
        {"id": 0, "width": 4, "height": 4, "file_name": "../../home/x.png"},
        {"id": 1, "width": 4, "height": 4, "file_name": "C:\\etc\\y.png"},
    ]
    info = {"description": "../up"}
    answer = post(api, "davis", {"images": images, "annotations": [], "info": info})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["up/x.png", "up/y.png"]


MANY = b'{"images": [], "annotations": [' + b"0," * (convert.MAX_VALUES + 1) + b"0]}"
# Decoded together, more than a request may hold.
LARGE = {"id": 0, "width": 8192, "height": 8192, "file_name": "a"}
MANY_MASKS = [{"image_id": 0, "category_id": n, "segmentation": []} for n in range(1, 21)]
VAST = {"id": 0, "width": 65_536, "height": 65_536, "file_name": "a"}


@pytest.mark.parametrize(
    ("to", "body", "expected"),
    [
        ("fly", document(), (422, "bad-option")),
        ("cutouts", document(), (422, "bad-option")),
        ("cvat", b"{", (422, "bad-mask")),
        ("cvat", b"[" * 100_000, (422, "bad-mask")),
        ("cvat", document(images=[]), (422, "bad-mask")),
        ("cvat", {"images": document()["images"] * 2, "annotations": []}, (422, "bad-mask")),
        ("cvat", document(categories=[{"id": 1, "name": "\x01"}]), (422, "bad-mask")),
        ("cvat", MANY, (413, "too-large")),
        ("davis", {"images": [VAST], "annotations": []}, (413, "too-large")),
        ("davis", document(images=[LARGE], annotations=MANY_MASKS), (413, "too-large")),
        ("davis", b" " * (convert.MAX_BYTES + 1), (413, "too-large")),
    ],
)
def test_what_cannot_be_converted_gets_a_problem(
    api: Api, to: str, body: object, expected: tuple[int, str]
) -> None:
    assert problem(post(api, to, body)) == expected


def test_a_mask_of_another_size_is_named(api: Api) -> None:
    body = document()
    body["annotations"][1]["segmentation"]["size"] = [4, 4]
    answer = post(api, "mots", body)
    assert problem(answer) == (422, "bad-mask")
    assert "[4, 4], expected [96, 128]" in answer.json()["detail"]


def test_a_mask_in_too_many_parts_is_no_outline_of_yolo(api: Api) -> None:
    dots = np.zeros((scene.HEIGHT, scene.WIDTH), np.bool_)
    dots[::2, ::2] = True
    body = document(frames=1)
    body["annotations"][0]["segmentation"] = encode_rle(dots)
    answer = post(api, "yolo", body)
    assert problem(answer) == (422, "bad-mask")
    assert "object 1 in 'a 0.png' is no outline: it has more than 1000 parts" in answer.text
    assert post(api, "mots", body).status_code == 200


def test_a_form_is_no_coco_file(api: Api) -> None:
    answer = api.http.post("/v1/masks/convert?format=cvat", files={"a": b"b"})
    assert problem(answer) == (415, "unsupported-media")
