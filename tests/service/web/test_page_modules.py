"""The page's pure parts in real Chromium: drawing, colors, sizes, figures, COCO."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from model.core.encoding import decode_rle, encode_rle
from model.core.palette import davis_palette
from service.http.page import CLIENT, FOLDER
from service.media.sample import FRAMES, HEIGHT, WIDTH
from tests.support import scene

pytestmark = pytest.mark.anyio

RunJs = Callable[..., Awaitable[Any]]


async def test_colors_are_those_of_the_service(run_js: RunJs) -> None:
    code = "({ davisColor }) => Array.from({ length: 256 }, (_, id) => davisColor(id))"
    assert await run_js(code, module="painter.js") == davis_palette().tolist()


@pytest.mark.parametrize(
    ("size", "sent"),
    [((1080, 1920), [480, 854]), ((1920, 1080), [854, 480]), ((97, 131), [98, 132])],
)
async def test_pictures_are_sent_small_and_even(
    run_js: RunJs, size: tuple[int, int], sent: list[int]
) -> None:
    code = "({ sentSize }, [height, width]) => sentSize(height, width)"
    assert await run_js(code, list(size), module="video.js") == sent


async def test_a_measured_frame_rate_is_the_usual_one_nearby(run_js: RunJs) -> None:
    code = "({ snapRate }, rates) => rates.map(snapRate)"
    rates = [29.9, 24.1, 25.2, 60.4, 7.0]
    assert await run_js(code, rates, module="video.js") == [29.97, 24, 25, 60, 7]


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


def test_the_gallery_is_small_and_says_whose_pictures_it_shows() -> None:
    clips = json.loads((FOLDER / "gallery" / "gallery.json").read_text())
    assert 4 <= len(clips) <= 6
    sizes = []
    for clip in clips:
        assert clip["credits"]
        data = (FOLDER / clip["video"]).read_bytes()
        sizes += [len(data), (FOLDER / clip["poster"]).stat().st_size]
        with av.open(io.BytesIO(data), "r") as container:
            assert sum(1 for _ in container.demux(video=0) if _.size) == clip["frames"]
        assert all(
            0 <= x < WIDTH and 0 <= y < HEIGHT
            for each in clip["objects"]
            for x, y, _ in each["points"]
        )
    assert sum(sizes) < 6_000_000
    assert "SIL Open Font License" in (FOLDER / "figtree-LICENSE.txt").read_text()


async def test_latencies_and_rates_are_what_they_say(run_js: RunJs) -> None:
    code = """({ Figures }) => {
        const figures = new Figures();
        const rates = [];
        for (let k = 1; k <= 100; k++) { // clips of two frames, which arrive together
            const now = Math.ceil(k / 2) * 40;
            figures.count({ sent: now - k, timing: { inference_ms: Math.ceil(k / 2) }, now });
            rates.push(figures.rate);
        }
        const latencies = [0.5, 0.95].map((share) => figures.latency(share));
        return [...latencies, figures.inference, Number.isNaN(rates[1]), rates[3], rates[99]];
    }"""
    assert await run_js(code, module="figures.js") == [50, 95, 25, True, 50, 50]


async def test_a_frame_that_waits_behind_its_own_kind_is_not_late(run_js: RunJs) -> None:
    code = """({ Figures }, ahead) => {
        const figures = new Figures();
        // All are sent at once; a clip of two is answered every 100 ms.
        for (let k = 0; k < 20; k++) {
            const clip = Math.floor(k / 2);
            const now = 100 * (clip + 1) + (k % 2);
            const timing = { inference_ms: 60 + clip / 100, queue_ms: 100 * clip - 20 };
            figures.count({ sent: 0, timing, ahead, now });
        }
        return figures.latency(0.95);
    }"""
    assert await run_js(code, True, module="figures.js") == 121  # it began before its turn
    assert await run_js(code, False, module="figures.js") == 1000  # a camera's is seen late


async def test_a_frame_that_waits_for_other_sessions_is_late(run_js: RunJs) -> None:
    code = """({ Figures }) => {
        const figures = new Figures();
        for (let k = 0; k < 20; k++) {
            const timing = { inference_ms: 60 + k / 100, queue_ms: 430 };
            figures.count({ sent: 500 * k, timing, ahead: true, now: 500 * (k + 1) });
        }
        return figures.latency(0.95);
    }"""
    assert await run_js(code, module="figures.js") == 500


COCO = """async ({ cocoJson }, { masks, full }) => {
    const { Results } = await import("/web/results.js");
    const names = new Map([[1, "cup"], [2, ""]]);
    const results = new Results({ kept: (id) => names.has(id) });
    for (const [frame, objects] of masks) results.put(frame, objects);
    const source = { name: "clip.mp4", kind: "video", size: [4, 4], fullSize: () => full };
    return cocoJson({ names, results, source, start: 10 });
}"""


async def test_coco_holds_an_annotation_for_each_object_that_is_seen(run_js: RunJs) -> None:
    rle = dict(encode_rle(np.eye(4, dtype=np.bool_)))
    seen = {"rle": rle, "area": 4, "bbox": [0, 0, 4, 4], "confidence": 0.9, "state": "visible"}
    lost = {**seen, "area": 0, "state": "lost"}
    masks = [[0, [{"id": 1, **seen}]], [1, [{"id": 1, **seen}, {"id": 2, **lost}]]]
    coco = await run_js(COCO, {"masks": masks, "full": [4, 4]}, module="downloads.js")
    assert [image["video_frame"] for image in coco["images"]] == [10, 11]
    assert [image["file_name"] for image in coco["images"]] == ["00010.jpg", "00011.jpg"]
    assert [(item["image_id"], item["category_id"]) for item in coco["annotations"]] == [
        (0, 1),
        (1, 1),
    ]
    assert coco["annotations"][0]["segmentation"] == rle
    assert coco["categories"] == [{"id": 1, "name": "cup"}, {"id": 2, "name": "Object 2"}]


async def test_coco_has_the_size_of_the_file_not_of_what_was_sent(run_js: RunJs) -> None:
    half = np.zeros((4, 4), np.bool_)
    half[:, 2:] = True
    found = {"id": 1, "rle": dict(encode_rle(half)), "area": 8, "state": "visible"}
    given = {"masks": [[0, [found]]], "full": [12, 16]}
    coco = await run_js(COCO, given, module="downloads.js")
    assert (coco["images"][0]["height"], coco["images"][0]["width"]) == (12, 16)
    (seen,) = coco["annotations"]
    assert (seen["area"], seen["bbox"]) == (12 * 8, [8, 0, 8, 12])
    assert decode_rle(seen["segmentation"]).sum() == 12 * 8


async def test_an_object_that_was_removed_is_in_no_frame_and_its_number_is_not_free(
    run_js: RunJs,
) -> None:
    code = """({ Results }) => {
        const names = new Set([1, 2]);
        const results = new Results({ kept: (id) => names.has(id) });
        results.put(0, [{ id: 1 }, { id: 2 }]);
        names.delete(2);
        results.sift();
        results.put(1, [{ id: 1 }, { id: 2 }]);
        return [[...results.frames.values()].flat().map(({ id }) => id), results.knows(2)];
    }"""
    assert await run_js(code, module="results.js") == [[1, 1], True]


async def test_names_of_masks_are_those_of_the_pictures_and_never_the_same(run_js: RunJs) -> None:
    code = "({ maskNames }) => maskNames(['Bild 3.PNG', 'a.jpg', 'a.png', 'noch.ein.jpg'])"
    assert await run_js(code, module="downloads.js") == [
        "Bild 3.png",
        "a.jpg.png",
        "a.png.png",
        "noch.ein.png",
    ]


async def test_a_png_and_a_zip_of_the_page_are_read_as_written(run_js: RunJs) -> None:
    labels = np.random.default_rng(0).integers(0, 255, (7, 11)).astype(np.uint8)
    code = """async ({ palettePng, zip }, { flat, size }) => {
        const png = await palettePng(Uint8Array.from(flat), size);
        const blob = zip([["Größe.png", png], ["leer.png", new Uint8Array()]]);
        return [...new Uint8Array(await blob.arrayBuffer())];
    }"""
    given = {"flat": labels.ravel().tolist(), "size": [7, 11]}
    data = bytes(await run_js(code, given, module="archives.js"))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["Größe.png", "leer.png"]
        image = Image.open(io.BytesIO(archive.read("Größe.png")))
    assert np.array_equal(np.asarray(image), labels)
    palette = np.array(image.getpalette()).reshape(-1, 3)
    assert np.array_equal(palette, davis_palette())


STEPS = [0.1] * 8 + [1 / 59] * 9


@pytest.mark.parametrize("kind", ["mp4", "mov", "webm", "fragments"])
async def test_every_picture_of_a_video_is_found_at_its_own_time(run_js: RunJs, kind: str) -> None:
    data, times = varied_video(kind)
    code = """async ({ readFrameTimes }, text) => {
        const blob = await (await fetch(`data:;base64,${text}`)).blob();
        return readFrameTimes(blob);
    }"""
    found = await run_js(code, base64.b64encode(data).decode(), module="frame_times.js")
    begin = found["times"][0]  # fragments begin with the pictures that are out of order
    assert [time - begin for time in found["times"]] == pytest.approx(times, abs=0.001)
    assert found["missing"] == 0


def varied_video(kind: str) -> tuple[bytes, list[float]]:
    """Return a video whose frames stay for `STEPS`, and when each is shown."""
    if kind == "fragments":
        return scene.varied_video(STEPS, kind="mp4", movflags="frag_keyframe+empty_moov")
    return scene.varied_video(STEPS, kind=kind)


@pytest.mark.parametrize("kind", ["mp4", "webm", "fragments"])
async def test_every_picture_of_a_video_is_shown_when_it_is_asked_for(
    run_js: RunJs, kind: str
) -> None:
    data, times = varied_video(kind)
    code = """async ({ VideoSource }, text) => {
        const blob = await (await fetch(`data:video/mp4;base64,${text}`)).blob();
        const source = await VideoSource.open(blob, { name: "clip" });
        const context = new OffscreenCanvas(source.size[1], source.size[0]).getContext("2d");
        const lefts = [];
        for (let n = source.count - 1; n >= 0; n--) {
            context.drawImage(await source.picture(n), 0, 0);
            const row = context.getImageData(0, 24, source.size[1], 1).data;
            lefts[n] = row.findIndex((value, at) => at % 4 === 1 && value < 84) >> 2;
        }
        return lefts;
    }"""
    lefts = await run_js(code, base64.b64encode(data).decode(), module="video.js")
    assert len(lefts) == len(times)
    assert lefts == pytest.approx([8 + 2 * number for number in range(len(times))], abs=1)


async def test_what_is_missing_of_a_video_that_was_cut_is_counted(run_js: RunJs) -> None:
    data, times = scene.varied_video(STEPS, kind="mp4")
    code = """async ({ readFrameTimes }, text) => {
        const blob = await (await fetch(`data:;base64,${text}`)).blob();
        return readFrameTimes(blob.slice(0, blob.size - 200));
    }"""
    found = await run_js(code, base64.b64encode(data).decode(), module="frame_times.js")
    assert found["missing"] > 0
    assert len(found["times"]) + found["missing"] == len(times)
    assert {round(time, 2) for time in found["times"]} <= {round(time, 2) for time in times}


async def test_what_is_no_index_is_none(run_js: RunJs) -> None:
    data, _ = scene.varied_video(STEPS[:2], kind="mp4")
    random = np.random.default_rng(0)
    code = """async ({ readFrameTimes }, texts) => {
        const blob = async (text) => (await fetch(`data:;base64,${text}`)).blob();
        const read = async (text) => readFrameTimes(await blob(text));
        return Promise.all(texts.map((text) => read(text).catch((error) => error.name)));
    }"""
    broken = [b"", b"no video", *(damaged(data, random) for _ in range(60))]
    texts = [base64.b64encode(each).decode() for each in broken]
    found = await run_js(code, texts, module="frame_times.js")
    assert found[:2] == [None, None]
    assert all(each is None or isinstance(each, dict) for each in found)


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """Return the bytes with a few of them changed."""
    bytes_ = np.frombuffer(data, np.uint8).copy()
    bytes_[random.integers(0, len(data), 40)] = random.integers(0, 256, 40)
    return bytes_.tobytes()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Object.assign(Error('replaced'))", "another tab"),
        ("new TypeError('Failed to fetch')", "The service does not answer"),
        ("Error('closed (1006)')", "The service does not answer"),
        ("Object.assign(Error(), { status: 503, retry_after_s: 2.5 })", "Wait 3 seconds"),
        ("Object.assign(Error(), { slug: 'memory-full', status: 409 })", "start over from here"),
        ("new DOMException('', 'TimeoutError')", "took too long"),
        ("new TypeError('x is undefined')", "x is undefined"),
        ("Error('clip.mp4 holds no picture, only sound.')", "clip.mp4 holds no picture"),
    ],
)
async def test_what_went_wrong_is_said_in_words_with_the_next_step(
    run_js: RunJs, error: str, said: str
) -> None:
    assert said in await run_js(f"(page) => page.explained({error})", module="messages.js")


async def test_the_timeline_says_in_words_what_it_shows(run_js: RunJs) -> None:
    masks = [
        [k, [{"id": 1, "state": state}]] for k, state in enumerate(["human", "visible", "lost"])
    ]
    code = "({ describe }, masks) => describe(new Map(masks), [{ id: 1, name: 'Cup' }])"
    said = await run_js(code, masks, module="timeline.js")
    assert said == "Cup: visible in 2 frames, lost in 1, drawn in 1"


PROMISED = re.compile(
    r"createImageBitmap\(|video\.play\(|getUserMedia\(|convertToBlob\(|fetch\(|arrayBuffer\(|asked\)"
)


def test_the_page_waits_for_no_browser_without_a_deadline() -> None:
    for path in (*FOLDER.glob("*.js"), CLIENT):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "await " in line and PROMISED.search(line):
                bounded = any(
                    way in line for way in ("within(", "{ signal,", "AbortSignal.timeout(")
                )
                assert bounded, f"{path.name}:{number}: {line.strip()}"


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
