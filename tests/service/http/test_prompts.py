"""POST /v1/masks/refine: an image and what is pointed at in it, a mask out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest

from model.core.encoding import decode_rle
from model.core.j_and_f import jaccard
from tests.support import bad_images, scene
from tests.support.running import PATIENCE_S, Api, form, problem, running_service
from tests.support.toy_prompt import write_toy_prompt

BOX = [4, 4, 44, 44]


def refine(api: Api, *parts: tuple[str, bytes]) -> httpx.Response:
    return api.http.post("/v1/masks/refine", files=form(parts))


def box(*values: object) -> tuple[str, bytes]:
    return "box", json.dumps(values).encode()


IMAGE = ("image", scene.png(0))


def test_a_box_becomes_the_mask_of_what_is_in_it(api: Api) -> None:
    answer = refine(api, IMAGE, box(*BOX))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert np.array_equal(decode_rle(found["rle"]), scene.labels(0) == 1)
    assert found["bbox"] == [8, 8, scene.SIDE, scene.SIDE]
    assert found["area"] == scene.SIDE**2


def test_points_and_strokes_change_the_mask_so_far(api: Api) -> None:
    both = ("image", scene.png(0, objects=2))
    first = refine(api, both, ("points", json.dumps([[18, 18, 1]]).encode())).json()
    assert np.array_equal(decode_rle(first["rle"]), scene.labels(0, objects=2) == 1)
    assert (first["parts"], first["warnings"]) == (1, [])
    y, x = np.argwhere(scene.labels(0, objects=2) == 2).mean(0)
    stroke = {"points": [x - 4, y, x + 4, y]}
    previous = ("previous", json.dumps(first["rle"]).encode())
    second = refine(api, both, ("strokes", json.dumps([stroke]).encode()), previous).json()
    assert np.array_equal(decode_rle(second["rle"]), scene.labels(0, objects=2) > 0)
    assert second["parts"] == 2
    assert "in 2 pieces" in second["warnings"][0]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([box(*BOX)], (422, "bad-option")),
        ([IMAGE], (422, "bad-option")),
        ([IMAGE, box(*BOX), ("color", b"red")], (422, "bad-option")),
        ([IMAGE, IMAGE, box(*BOX)], (422, "bad-option")),
        ([IMAGE, box(1, 2, 3)], (422, "bad-option")),
        ([IMAGE, box(0, 0, "wide", 4)], (422, "bad-option")),
        ([IMAGE, box(900, 900, 4, 4)], (422, "bad-option")),
        ([IMAGE, ("box", b"[0, 0, NaN, 4]")], (400, "malformed-body")),
        ([IMAGE, ("box", b"[0, 0")], (400, "malformed-body")),
        ([IMAGE, ("box", b"[" + b"1," * 50_000 + b"1]")], (413, "too-large")),
        ([IMAGE, ("points", b"[[8, 8]]")], (422, "bad-option")),
        ([IMAGE, ("points", b"[[8, 8, 2]]")], (422, "bad-option")),
        ([IMAGE, ("points", b"[[8, 900, 1]]")], (422, "bad-option")),
        ([IMAGE, ("strokes", b'[{"points": [8, 8, 9]}]')], (422, "bad-option")),
        ([IMAGE, ("polygon", b"[8, 8, 9, 9]")], (422, "bad-option")),
        ([IMAGE, box(*BOX), ("previous", b'{"size": [2, 2], "counts": "4"}')], (422, "bad-option")),
        ([IMAGE, box(*BOX), ("previous", b'{"size": [2, 2], "counts": "9"}')], (422, "bad-mask")),
        ([IMAGE, box(60, 50, 30, 30)], (422, "no-objects")),
        ([("image", b"no image"), box(*BOX)], (422, "bad-image")),
        ([("image", scene.jpeg(0)[:-40]), box(*BOX)], (422, "truncated-image")),
        (
            [("image", bad_images.bomb(width=50_000, height=50_000)), box(*BOX)],
            (413, "picture-too-large"),
        ),
    ],
)
def test_a_bad_request_gets_a_problem(
    api: Api, parts: list[tuple[str, bytes]], expected: tuple[int, str]
) -> None:
    assert problem(refine(api, *parts)) == expected


def test_a_models_prompt_graph_takes_the_place_of_grabcut(
    api: Api, toy_folder: Path, tmp_path: Path
) -> None:
    click = ("points", json.dumps([[18, 18, 1]]).encode())
    assert refine(api, IMAGE, click).json()["made_by"] == "grabcut"
    weights = Path(shutil.copytree(toy_folder, tmp_path / "weights"))
    write_toy_prompt(weights, score=0.4)
    with (
        running_service(state=tmp_path / "state", weights=weights) as service,
        httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http,
    ):
        found = refine(Api(http), IMAGE, click).json()
    assert found["made_by"] == "toy_prompt"
    assert jaccard(decode_rle(found["rle"]), scene.labels(0) == 1) > 0.9
    assert found["score"] == 0.4
    assert "may be wrong" in found["warnings"][0]


def test_another_body_is_unsupported(api: Api) -> None:
    answer = api.http.post("/v1/masks/refine", json={"box": BOX})
    assert problem(answer) == (415, "unsupported-media")


def test_openapi_describes_it(api: Api) -> None:
    paths = api.http.get("/openapi.json").json()["paths"]
    content = paths["/v1/masks/refine"]["post"]["requestBody"]["content"]
    assert set(content["multipart/form-data"]["schema"]["properties"]) == {
        "image",
        "points",
        "strokes",
        "box",
        "polygon",
        "previous",
    }
