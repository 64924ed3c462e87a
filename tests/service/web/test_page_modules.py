"""The page's pure parts in real Chromium: drawing, colors, sizes, figures, COCO."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.core.encoding import decode_rle, encode_rle
from model.core.palette import davis_palette
from service.http.page import FOLDER
from service.media.sample import FRAMES, HEIGHT, WIDTH

pytestmark = pytest.mark.anyio

RunJs = Callable[..., Awaitable[Any]]


async def test_colors_are_those_of_the_service(run_js: RunJs) -> None:
    code = "({ davisColor }) => Array.from({ length: 256 }, (_, id) => davisColor(id))"
    assert await run_js(code, module="painter.js") == davis_palette().tolist()


async def test_a_polygon_is_filled_between_its_corners(run_js: RunJs) -> None:
    code = """({ Drawing }) => {
        const drawing = new Drawing([8, 10]);
        drawing.polygon([[1.5, 1.5], [7.5, 1.5], [7.5, 5.5], [1.5, 5.5]], 3);
        return [...drawing.labels];
    }"""
    labels = np.array(await run_js(code, module="drawing.js")).reshape(8, 10)
    expected = np.zeros((8, 10), int)
    expected[2:6, 2:8] = 3
    assert np.array_equal(labels, expected)


async def test_a_stroke_is_round_and_stays_in_the_picture(run_js: RunJs) -> None:
    code = """({ Drawing }) => {
        const drawing = new Drawing([20, 30]);
        drawing.stroke([-5, 10], [40, 10], 3, 1);
        drawing.stroke([15, 10], [15, 10], 2, 0);
        return [...drawing.labels];
    }"""
    labels = np.array(await run_js(code, module="drawing.js")).reshape(20, 30)
    assert labels[7:14, 0].tolist() == [1] * 7
    assert labels[10, 12:19].tolist() == [1, 0, 0, 0, 0, 0, 1]
    assert labels.sum() == 7 * 30 - 13


async def test_only_objects_that_were_changed_are_corrected(run_js: RunJs) -> None:
    code = """({ Drawing }) => {
        const drawing = new Drawing([1, 6], Uint8Array.of(1, 1, 2, 2, 3, 3));
        drawing.mark();
        drawing.labels[1] = 2;
        drawing.erase(3);
        const ids = drawing.changedIds();
        drawing.undo();
        return [ids, drawing.changedIds(), drawing.changed];
    }"""
    assert await run_js(code, module="drawing.js") == [[1, 2], [], False]


@pytest.mark.parametrize(
    ("size", "sent"),
    [((1080, 1920), [480, 854]), ((1920, 1080), [854, 480]), ((97, 131), [98, 132])],
)
async def test_pictures_are_sent_small_and_even(
    run_js: RunJs, size: tuple[int, int], sent: list[int]
) -> None:
    code = "({ sentSize }, [height, width]) => sentSize(height, width)"
    assert await run_js(code, list(size), module="sources.js") == sent


async def test_a_measured_frame_rate_is_the_usual_one_nearby(run_js: RunJs) -> None:
    code = "({ snapRate }, rates) => rates.map(snapRate)"
    rates = [29.9, 24.1, 25.2, 60.4, 7.0]
    assert await run_js(code, rates, module="sources.js") == [29.97, 24, 25, 60, 7]


async def test_playing_that_is_stopped_before_it_began_shows_nothing(run_js: RunJs) -> None:
    code = """async ({ VideoSource }) => {
        const blob = await (await fetch("/web/sample.webm")).blob();
        const source = await VideoSource.open(blob, { rate: 24 });
        const [shown, stop] = [[], new AbortController()];
        const playing = source.play(30, (n) => shown.push(n), stop.signal);
        stop.abort();
        await playing;
        return [shown, source.video.paused];
    }"""
    assert await run_js(code, module="sources.js") == [[], True]


async def test_latencies_and_rates_are_what_they_say(run_js: RunJs) -> None:
    code = """({ Figures }) => {
        const figures = new Figures();
        for (let k = 1; k <= 100; k++) figures.count({ latency: k, inference: 5, now: k * 20 });
        return [figures.latency(0.5), figures.latency(0.95), figures.rate, figures.inference];
    }"""
    assert await run_js(code, module="figures.js") == [50, 95, 50, 5]


async def test_coco_holds_an_annotation_for_each_object_that_is_seen(run_js: RunJs) -> None:
    rle = dict(encode_rle(np.eye(4, dtype=np.bool_)))
    seen = {"rle": rle, "area": 4, "bbox": [0, 0, 4, 4], "confidence": 0.9, "state": "visible"}
    lost = {**seen, "area": 0, "state": "lost"}
    masks = [[0, [{"id": 1, **seen}]], [1, [{"id": 1, **seen}, {"id": 2, **lost}]]]
    code = """({ cocoJson }, masks) => cocoJson(new Map(masks),
        { names: new Map([[1, "cup"], [2, ""]]), size: [4, 4], start: 10 })"""
    coco = await run_js(code, masks, module="downloads.js")
    assert [image["video_frame"] for image in coco["images"]] == [10, 11]
    assert [(item["image_id"], item["category_id"]) for item in coco["annotations"]] == [
        (0, 1),
        (1, 1),
    ]
    assert coco["categories"] == [{"id": 1, "name": "cup"}, {"id": 2, "name": "Object 2"}]


async def test_the_timeline_says_in_words_what_it_shows(run_js: RunJs) -> None:
    masks = [
        [k, [{"id": 1, "state": state}]] for k, state in enumerate(["human", "visible", "lost"])
    ]
    code = "({ describe }, masks) => describe(new Map(masks), [{ id: 1, name: 'Cup' }])"
    said = await run_js(code, masks, module="timeline.js")
    assert said == "Cup: visible in 2 frames, lost in 1, drawn in 1"


def test_the_sample_is_the_built_in_one() -> None:
    facts = json.loads((FOLDER / "sample.json").read_text())
    data = Path(FOLDER / "sample.webm").read_bytes()
    with av.open(io.BytesIO(data), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == facts["rate"]
    assert [frame.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * FRAMES
    cup = decode_rle(facts["object"]["rle"])
    assert frames[0][cup].mean() > 3 * frames[0][~cup].mean()
    assert len(data) < 400_000


FRAME_NAMES = json.loads((Path(__file__).parents[2] / "support/frame_names.json").read_text())


@pytest.mark.parametrize("case", FRAME_NAMES, ids=lambda case: str(case["of"]))
async def test_frames_are_chosen_as_the_commands_choose_them(
    run_js: RunJs, case: dict[str, Any]
) -> None:
    code = """({ chooseFrames }, names) => {
        const { frames, leftOut } = chooseFrames(names.map((name) => ({ name })));
        return [frames, leftOut].map((files) => files.map(({ name }) => name));
    }"""
    frames, left_out = await run_js(code, case["names"], module="frame_files.js")
    assert frames == case["frames"]
    assert sorted([*frames, *left_out]) == sorted(case["names"])
