"""The browser client in real Chromium: what it reads and writes is what Python reads and writes."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.encoding import decode_rle, encode_rle
from model.core.j_and_f import jaccard
from tamvt_client import wire
from tests.support import scene
from tests.support.running import Api

pytestmark = pytest.mark.anyio

RunJs = Callable[..., Awaitable[Any]]
OBJECT = {"id": 1, "label": "square", "rle": dict(encode_rle(scene.labels(0) == 1))}
IMAGES = """const images = await Promise.all(given.images.map((text) =>
    fetch(`data:image/jpeg;base64,${text}`).then((answer) => answer.blob())));
    const session = await new tamvt.Client().start(images[0], [given.object]);"""


def video(count: int) -> dict[str, Any]:
    """The made-up video's first frames and its object, for JavaScript."""
    images = [base64.b64encode(scene.jpeg(number)).decode() for number in range(count)]
    return {"images": images, "object": OBJECT}


def some_masks() -> list[NDArray[np.bool_]]:
    random = np.random.default_rng(0)
    noise = [random.random((height, 23)) < 0.4 for height in (1, 17, 64)]
    plain = [np.zeros((5, 4), np.bool_), np.ones((5, 4), np.bool_), scene.labels(3) == 1]
    return [*noise, *plain]


async def test_masks_are_decoded_as_python_decodes_them(run_js: RunJs) -> None:
    masks = some_masks()
    code = "(tamvt, rles) => rles.map((rle) => [...tamvt.decodeRle(rle)])"
    found = await run_js(code, [dict(encode_rle(mask)) for mask in masks])
    assert [np.array(flat).tolist() for flat in found] == [
        m.astype(int).ravel().tolist() for m in masks
    ]


async def test_masks_are_encoded_as_python_encodes_them(run_js: RunJs) -> None:
    masks = some_masks()
    code = "(tamvt, all) => all.map(([flat, size]) => tamvt.encodeRle(Uint8Array.from(flat), size))"
    given = [(mask.astype(int).ravel().tolist(), list(mask.shape)) for mask in masks]
    assert await run_js(code, given) == [encode_rle(mask) for mask in masks]


@pytest.mark.parametrize("counts", ["", "3", "~~~", "oooooooo0", "00l3"])
async def test_a_damaged_mask_is_refused(run_js: RunJs, counts: str) -> None:
    code = """(tamvt, counts) => {
        try { return tamvt.decodeRle({ size: [4, 5], counts }).length; }
        catch (error) { return error.name; }
    }"""
    assert await run_js(code, counts) == "RangeError"


async def test_where_objects_overlap_the_lowest_id_is_seen(run_js: RunJs) -> None:
    rle = dict(encode_rle(np.ones((2, 3), np.bool_)))
    objects = [{"id": number, "rle": rle, "area": 6} for number in (3, 1, 2)]
    code = "(tamvt, objects) => [...tamvt.labelMap(objects, [2, 3])]"
    assert await run_js(code, objects) == [1] * 6


async def test_a_frame_is_packed_as_the_service_reads_it(run_js: RunJs) -> None:
    code = (
        "(tamvt, [n, t]) => [...new Uint8Array(tamvt.packFrame(n, t, Uint8Array.of(7, 8).buffer))]"
    )
    message = bytes(await run_js(code, [wire.MAX_NUMBER, wire.MAX_TIMESTAMP]))
    read = wire.read_image(message, kind=wire.FRAME)
    assert read == wire.ImageMessage(wire.MAX_NUMBER, wire.MAX_TIMESTAMP, bytes([7, 8]))


async def test_appended_frames_get_their_masks(run_js: RunJs) -> None:
    code = f"""async (tamvt, given) => {{ {IMAGES}
        return (await session.append(images.slice(1), {{ firstFrame: 1 }})).frames; }}"""
    frames = await run_js(code, video(4))
    assert [frame["frame"] for frame in frames] == [1, 2, 3]
    assert jaccard(decode_rle(frames[2]["objects"][0]["rle"]), scene.labels(3) == 1) > 0.95


STREAM = """const got = []; const states = [];
    const stream = session.stream({ maxWaitMs: 5000, mode: given.mode,
        onMasks: (masks) => got.push(masks), onState: (state) => states.push(state) });"""


async def test_a_stream_answers_every_frame_in_order(run_js: RunJs, api: Api) -> None:
    code = f"""async (tamvt, given) => {{ {IMAGES} {STREAM}
        for (const image of images.slice(1)) await stream.send(image, {{ timestamp: 17 }});
        await stream.end();
        return {{ got, states, id: session.id }}; }}"""
    found = await run_js(code, video(8))
    assert [masks["frame"] for masks in found["got"]] == list(range(1, 8))
    assert {masks["timestamp"] for masks in found["got"]} == {17}
    assert found["states"] == ["open", "closed"]
    stored = api.masks(found["id"], from_=1).json()["frames"]
    assert [masks["objects"] for masks in found["got"]] == [frame["objects"] for frame in stored]


async def test_a_stream_tells_how_it_does_where_it_is_asked_to(run_js: RunJs) -> None:
    code = f"""async (tamvt, given) => {{ {IMAGES}
        const told = [];
        const asked = Promise.withResolvers();
        const onStats = (stats) => {{ told.push(stats); asked.resolve(); }};
        const stream = session.stream({{ maxWaitMs: 0, onStats, onMasks: () => {{}} }});
        for (const image of images.slice(1)) await stream.send(image);
        await asked.promise;
        await stream.end();
        return told; }}"""
    first = (await run_js(code, video(4)))[0]
    assert first["frames_per_s"] > 0
    assert set(first["latency_ms"]) == {"p50", "p95", "p99"}
    assert (first["dropped"], first["queue"]) == (0, 0)


async def test_a_lost_connection_is_resumed_and_no_frame_comes_twice(
    run_js: RunJs, api: Api
) -> None:
    code = f"""async (tamvt, given) => {{ {IMAGES}
        const sockets = [];
        const Real = WebSocket;
        WebSocket = class extends Real {{
            constructor(...all) {{ super(...all); sockets.push(this); }}
        }};
        {STREAM}
        for (const [index, image] of images.slice(1).entries()) {{
            await stream.send(image);
            if (index % 7 === 3) sockets.at(-1).close();
        }}
        await stream.end();
        WebSocket = Real;
        const frames = got.map(({{ frame }}) => frame);
        return {{ frames, connections: sockets.length, id: session.id }}; }}"""
    found = await run_js(code, video(17))
    assert found["frames"] == list(range(1, 17))
    assert found["connections"] == 3
    assert api.state(found["id"])["next_frame"] == 17


async def test_a_service_that_falls_silent_is_connected_to_again(run_js: RunJs) -> None:
    code = f"""async (tamvt, given) => {{ {IMAGES}
        const Real = WebSocket;
        let connections = 0;
        WebSocket = class extends Real {{
            constructor(...all) {{
                super(...all);
                this.deaf = connections++ === 0; // the first one hears "ready" and then no more
            }}
            set onclose(act) {{ if (!this.deaf) super.onclose = act; }}
            set onmessage(act) {{
                super.onmessage = act && ((event) => {{
                    if (!this.deaf || JSON.parse(event.data).type === "ready") act(event);
                }});
            }}
        }};
        const got = [];
        const stream = session.stream({{ silentS: 1, onMasks: ({{ frame }}) => got.push(frame) }});
        for (const image of images.slice(1)) await stream.send(image);
        await tamvt.within(20, "All masks", stream.end());
        WebSocket = Real;
        return [got, connections]; }}"""
    assert await run_js(code, video(4)) == [[1, 2, 3], 2]


async def test_a_request_that_is_not_answered_ends_at_its_deadline(run_js: RunJs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # it accepts, and reads nothing
        code = """async (tamvt, port) => {
            const client = new tamvt.Client(`http://127.0.0.1:${port}`, { deadlineS: 0.3 });
            return client.open("a").catch((error) => error.name);
        }"""
        assert await run_js(code, deaf.getsockname()[1]) == "TimeoutError"


async def test_a_frame_that_is_answered_twice_is_told_once(run_js: RunJs) -> None:
    """The service answers again what it is sent again."""
    code = f"""async (tamvt, given) => {{ {IMAGES}
        const Real = WebSocket;
        let socket;
        WebSocket = class extends Real {{
            constructor(...all) {{ super(...all); socket = this; }}
        }};
        const got = [];
        const onMasks = ({{ frame }}) => got.push(frame);
        const stream = session.stream({{ maxWaitMs: 50, onMasks }});
        await stream.send(images[1]);
        while (!got.length) await new Promise((wake) => setTimeout(wake, 5));
        let answers = 0;
        socket.addEventListener("message", () => answers++);
        socket.send(tamvt.packFrame(1, 0, await images[1].arrayBuffer()));
        while (!answers) await new Promise((wake) => setTimeout(wake, 5));
        await stream.send(images[2]);
        await stream.end();
        WebSocket = Real;
        return got; }}"""
    assert await run_js(code, video(3)) == [1, 2]


async def test_the_latest_mode_answers_the_newest_frame(run_js: RunJs) -> None:
    code = f"""async (tamvt, given) => {{ {IMAGES} {STREAM}
        for (const image of images.slice(1)) await stream.send(image);
        await stream.end();
        return got.map(({{ frame }}) => frame); }}"""
    frames = await run_js(code, {**video(20), "mode": "latest"})
    assert frames == sorted(set(frames))
    assert frames[-1] == 19


async def test_pictures_of_webcodecs_can_be_sent(run_js: RunJs) -> None:
    code = f"""async (tamvt, given) => {{ {IMAGES} {STREAM}
        async function* decoded() {{
            for (const [k, image] of images.slice(1).entries()) {{
                yield new VideoFrame(await createImageBitmap(image), {{ timestamp: k * 40_000 }});
            }}
        }}
        for await (const picture of tamvt.pictures(decoded())) {{
            await stream.send(await tamvt.encodeFrame(picture), {{ timestamp: picture.timestamp }});
        }}
        await stream.end();
        return got.map(({{ timestamp }}) => timestamp); }}"""
    assert await run_js(code, video(4)) == [0, 40_000, 80_000]


async def test_pictures_of_a_video_come_until_it_ends(run_js: RunJs) -> None:
    code = """async (tamvt) => {
        const video = document.createElement("video");
        const sought = new Promise((resolve) => video.addEventListener("seeked", resolve));
        Object.assign(video, { muted: true, src: "/web/sample.webm", currentTime: 2 });
        await sought;
        let count = 0;
        const counting = (async () => {
            for await (const picture of tamvt.pictures(video)) count += picture === video;
        })(); // begun before the video plays: a slow page would miss its end
        await video.play();
        await counting;
        return count;
    }"""
    assert 1 <= await run_js(code) <= 14


async def test_pictures_end_with_their_signal_though_no_other_comes(run_js: RunJs) -> None:
    code = """async (tamvt) => {
        const video = document.createElement("video"); // it shows nothing, and never ends
        const controller = new AbortController();
        const next = tamvt.pictures(video, { signal: controller.signal }).next();
        controller.abort();
        return (await next).done;
    }"""
    assert await run_js(code)


async def test_a_refusal_is_a_problem_with_its_name(run_js: RunJs) -> None:
    code = """async (tamvt) => {
        const client = new tamvt.Client();
        const missing = new tamvt.Session(client, { session_id: "nobody", next_frame: 1 });
        const stream = missing.stream();
        const names = [];
        for (const promise of [client.open("nobody"), stream.opened, stream.done]) {
            await promise.catch((error) => names.push([error.slug, error.status]));
        }
        return names;
    }"""
    assert await run_js(code) == [["unknown-session", 404]] * 3


async def test_an_interval_of_nothing_is_refused_and_not_left_out(run_js: RunJs) -> None:
    code = f"""async (tamvt, given) => {{ {IMAGES}
        const stream = session.stream({{ durableS: 0, retries: 1 }});
        stream.done.catch(() => {{}});
        return stream.opened.catch((error) => error.status); }}"""
    assert await run_js(code, video(2)) == 422


async def test_objects_are_corrected_and_removed(run_js: RunJs, api: Api) -> None:
    code = f"""async (tamvt, given) => {{ {IMAGES}
        const corrected = await session.correct([{{ id: 2, box: [90, 10, 20, 20] }}]);
        await session.remove(1);
        return {{ corrected, id: session.id }}; }}"""
    found = await run_js(code, video(1))
    assert [item["id"] for item in found["corrected"]["objects"]] == [1, 2]
    assert [item["id"] for item in api.state(found["id"])["objects"]] == [2]


async def test_a_point_becomes_a_mask_and_a_stroke_adds_to_it(run_js: RunJs) -> None:
    image = base64.b64encode(scene.jpeg(0, objects=2)).decode()
    y, x = np.argwhere(scene.labels(0, objects=2) == 2).mean(0)
    code = """async (tamvt, { image, x, y }) => {
        const blob = await (await fetch(`data:image/jpeg;base64,${image}`)).blob();
        const client = new tamvt.Client();
        const first = await client.refine(blob, { points: [[18, 18, 1]], strokes: [] });
        const strokes = [{ points: [x - 4, y, x + 4, y] }];
        return [first, await client.refine(blob, { strokes, previous: first.rle })];
    }"""
    first, second = await run_js(code, {"image": image, "x": x, "y": y})
    assert jaccard(decode_rle(first["rle"]), scene.labels(0) == 1) > 0.9
    assert jaccard(decode_rle(second["rle"]), scene.labels(0, objects=2) > 0) > 0.9
    assert len(second["warnings"]) == 1


async def test_a_session_is_rewound_to_a_frame_in_the_middle(run_js: RunJs) -> None:
    code = f"""async (tamvt, given) => {{
        {IMAGES}
        await session.append(images.slice(1), {{ firstFrame: 1 }});
        const sent = [];
        const rewound = await session.rewind(3, (n) => {{ sent.push(n); return images[n]; }});
        await rewound.correct([given.object]);
        const ends = [session, rewound].map((each) => each.state.next_frame);
        return [...ends, sent, rewound.id !== session.id];
    }}"""
    assert await run_js(code, video(7)) == [7, 4, [3], True]


async def test_two_sessions_track_both_ways_as_the_document_says(run_js: RunJs) -> None:
    document = (Path(__file__).parents[3] / "docs" / "browser.md").read_text()
    (program,) = re.findall(r"### Both ways.*?```js\n(.*?)```", document, re.DOTALL)
    code = f"""async (tamvt, given) => {{
        {IMAGES}
        const [client, objects] = [session.client, [given.middle]];
        {re.sub("6([01])", lambda found: str(3 + int(found[1])), program)}
        const left = ({{ objects: [one] }}) => one.bbox[0];
        return [after, before].map(({{ frames }}) => frames.map(left));
    }}"""
    middle = {**OBJECT, "rle": dict(encode_rle(scene.labels(3) == 1))}
    after, before = await run_js(code, {**video(7), "middle": middle})
    left = [int(np.argwhere(scene.labels(number) == 1).min(0)[1]) for number in range(7)]
    assert after == pytest.approx(left[4:], abs=2)
    assert before == pytest.approx(left[2::-1], abs=2)


SESSIONS = """const sessions = async () => {
        const found = [];
        for await (const { session_id } of session.client.sessions()) found.push(session_id);
        return found.join();
    };
    await session.append(images.slice(1), { firstFrame: 1 });
    const before = await sessions();"""


async def test_a_rewind_that_fails_leaves_no_session_behind(run_js: RunJs) -> None:
    code = f"""async (tamvt, given) => {{
        {IMAGES} {SESSIONS}
        const error = await session.rewind(3, () => new Blob(["no image"])).catch((told) => told);
        return [error.slug, await sessions() === before];
    }}"""
    assert await run_js(code, video(5)) == ["bad-image", True]


async def test_a_correction_that_is_refused_leaves_no_session_behind(run_js: RunJs) -> None:
    code = f"""async ({{ Corrections }}, given) => {{
        const tamvt = await import("/web/tamvt.js");
        const {{ Leg }} = await import("/web/legs.js");
        {IMAGES} {SESSIONS}
        const status = Object.assign(document.createElement("p"), {{ id: "status" }});
        document.body.append(status);
        const forward = new Leg({{ session, start: 0 }});
        const drawing = {{ changedIds: () => [1], objects: () => [{{ id: 1 }}] }};
        const bench = {{
            forward, backward: null, names: new Map([[1, "square"]]), results: {{ frames: [] }},
            desk: {{ drawing, drawnAt: 2 }}, encoded: (n) => images[n],
        }};
        const error = await new Corrections(bench).make().catch((told) => told);
        status.remove();
        // It is not waited for there.
        for (let left = 600; left && await sessions() !== before; left--) {{
            await new Promise((resolve) => setTimeout(resolve, 50));
        }}
        return [error.status, bench.forward === forward, await sessions() === before];
    }}"""
    assert await run_js(code, video(5), module="corrections.js") == [422, True, True]
