"""The ML backend of Label Studio over its own protocol, on a real service.

`make test-label-studio` runs it behind a real Label Studio.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.media.formats import label_studio
from tamvt_client import Client
from tamvt_label_studio.__main__ import main
from tamvt_label_studio.backend import Backend
from tamvt_label_studio.brush import encode_brush
from tamvt_label_studio.media import MediaStore
from tamvt_label_studio.regions import answered
from tamvt_label_studio.server import open_server
from tamvt_label_studio.tracking import VideoTracker
from tests.support import scene
from tests.support.running import PATIENCE_S, Running

FRAMES = 20
VIDEO_CONFIG = """<View><Labels name="label" toName="video"><Label value="square"/></Labels>
<Video name="video" value="$film" frameRate="24"/>
<VideoRectangle name="box" toName="video"/></View>"""
IMAGE_CONFIG = """<View><Image name="image" value="$picture"/>
<BrushLabels name="brush" toName="image"><Label value="square"/></BrushLabels>
<KeyPointLabels name="click" toName="image" smart="true"><Label value="square"/></KeyPointLabels>
<RectangleLabels name="around" toName="image" smart="true"><Label value="square"/></RectangleLabels>
</View>"""
Predict = Callable[..., httpx.Response]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the media of the tasks are, as Label Studio would serve them."""
    folder = tmp_path_factory.mktemp("media")
    (folder / "square.mp4").write_bytes(scene.video(range(FRAMES)))
    (folder / "square.png").write_bytes(scene.png(0))
    (folder / "no.mp4").write_bytes(b"nothing to see")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))) as url:
        yield url


@contextmanager
def backend(url: str, state: Path, *, seconds: float = 60.0) -> Iterator[str]:
    with Client(url, deadline_s=PATIENCE_S) as client:
        media = MediaStore(state / "media", url=None, key=None)
        made = Backend(client, media, VideoTracker(client, state, seconds=seconds))
        with serving(open_server(made, host="127.0.0.1", port=0)) as address:
            yield address


@pytest.fixture
def predict(running: Running, site: str, tmp_path: Path) -> Iterator[Predict]:
    with backend(running.url, tmp_path) as address:
        yield partial(ask, address, site)


def ask(
    address: str, site: str, config: str, drawn: list[dict[str, Any]], **data: str
) -> httpx.Response:
    setup = {"hostname": site, "access_token": "secret", "schema": config}
    httpx.post(f"{address}/setup", json=setup, timeout=PATIENCE_S)
    task = {"id": 1, "data": data or {"film": "/square.mp4", "picture": "/square.png"}}
    params = {"context": {"result": drawn}}
    body = {"tasks": [task], "label_config": config, "params": params}
    return httpx.post(f"{address}/predict", json=body, timeout=PATIENCE_S)


def true_box(picture: int) -> list[float]:
    rows, columns = (scene.labels(picture) == 1).nonzero()
    return [
        100 * columns.min() / scene.WIDTH,
        100 * rows.min() / scene.HEIGHT,
        100 * scene.SIDE / scene.WIDTH,
        100 * scene.SIDE / scene.HEIGHT,
    ]


def keyframe(frame: int, box: list[float]) -> dict[str, Any]:
    sides = dict(zip(("x", "y", "width", "height"), box, strict=True))
    return {"frame": frame, "enabled": True, "rotation": 0, **sides}


def region(*keys: dict[str, Any], name: str = "a") -> dict[str, Any]:
    return {
        "id": name,
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "value": {"sequence": list(keys), "labels": ["square"]},
    }


def drawn_box(picture: int) -> dict[str, Any]:
    """Return what a person draws around the square, who leaves some room."""
    x, y, width, height = true_box(picture)
    return keyframe(picture + 1, [x - 3, y - 3, width + 6, height + 6])


def tracked(answer: httpx.Response) -> dict[int, list[float]]:
    assert answer.status_code == 200, answer.reason_phrase
    (result,) = answer.json()["results"][0]["result"]
    return {
        key["frame"]: [key[side] for side in ("x", "y", "width", "height")]
        for key in result["value"]["sequence"]
    }


def test_a_box_is_followed_to_the_end_of_the_video(predict: Predict) -> None:
    answer = predict(VIDEO_CONFIG, [region(drawn_box(0))])
    boxes = tracked(answer)
    assert sorted(boxes) == list(range(1, FRAMES + 1))
    for picture in range(1, FRAMES):
        assert np.abs(np.subtract(boxes[picture + 1], true_box(picture))).max() < 5
    (result,) = answer.json()["results"][0]["result"]
    assert (result["id"], result["value"]["framesCount"]) == ("a", FRAMES)


def test_what_was_answered_is_not_tracked_again(predict: Predict, running: Running) -> None:
    first = predict(VIDEO_CONFIG, [region(drawn_box(0))])
    before = appended(running)
    again = predict(VIDEO_CONFIG, first.json()["results"][0]["result"])
    assert tracked(again) == tracked(first)
    assert appended(running) == before


def appended(running: Running) -> float:
    text = httpx.get(f"{running.url}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("tamvt_frames_total")]
    return sum(float(line.split()[-1]) for line in lines)


def test_a_call_that_had_no_more_time_is_gone_on_with(
    running: Running, site: str, tmp_path: Path
) -> None:
    with backend(running.url, tmp_path, seconds=0.0) as address:
        first = ask(address, site, VIDEO_CONFIG, [region(drawn_box(0))])
        assert len(tracked(first)) == 9
    # The backend was started anew in between.
    with backend(running.url, tmp_path) as address:
        whole = ask(address, site, VIDEO_CONFIG, first.json()["results"][0]["result"])
    assert sorted(tracked(whole)) == list(range(1, FRAMES + 1))


def test_a_box_that_is_drawn_later_corrects_from_there(predict: Predict) -> None:
    first = predict(VIDEO_CONFIG, [region(drawn_box(0))])
    (sent,) = first.json()["results"][0]["result"]
    keys = [key for key in sent["value"]["sequence"] if key["frame"] != 11]
    mended = predict(VIDEO_CONFIG, [region(*keys, drawn_box(10))])
    boxes = tracked(mended)
    assert sorted(boxes) == list(range(1, FRAMES + 1))
    assert boxes[11] == [drawn_box(10)[side] for side in ("x", "y", "width", "height")]
    assert [boxes[n] for n in range(1, 11)] == [tracked(first)[n] for n in range(1, 11)]
    assert np.abs(np.subtract(boxes[FRAMES], true_box(FRAMES - 1))).max() < 5


def test_a_drawn_box_that_is_deleted_is_tracked_again(predict: Predict, running: Running) -> None:
    known = session_ids(running)
    first = predict(VIDEO_CONFIG, [region(drawn_box(0), drawn_box(10))])
    (sent,) = first.json()["results"][0]["result"]
    keys = [key for key in sent["value"]["sequence"] if key["frame"] != 11]
    again = tracked(predict(VIDEO_CONFIG, [region(*keys)]))
    assert sorted(again) == list(range(1, FRAMES + 1))
    assert (
        np.abs(np.subtract(again[11], true_box(10))).max() < 2.5
    )  # what is drawn has 3 more on each side
    assert [again[n] for n in range(1, 11)] == [tracked(first)[n] for n in range(1, 11)]
    # The session that was gone back from is deleted.
    assert len(session_ids(running) - known) == 1


def session_ids(running: Running) -> set[str]:
    with Client(running.url) as client:
        return {each.session_id for each in client.sessions()}


def test_a_box_that_is_drawn_on_the_last_frame_is_kept(predict: Predict, running: Running) -> None:
    (sent,) = predict(VIDEO_CONFIG, [region(drawn_box(0))]).json()["results"][0]["result"]
    keys = [key for key in sent["value"]["sequence"] if key["frame"] != FRAMES]
    mended = predict(VIDEO_CONFIG, [region(*keys, drawn_box(FRAMES - 1))])
    before = session_ids(running), appended(running)
    again = predict(VIDEO_CONFIG, mended.json()["results"][0]["result"])
    assert tracked(again) == tracked(mended)
    assert (session_ids(running), appended(running)) == before


def test_a_box_ends_before_the_frame_where_it_is_lost_at_any_rate() -> None:
    boxes = dict.fromkeys((1, 3, 7), (0.0, 0.0, 1.0, 1.0))
    found = answered(region(), boxes, [5], frames_count=9, duration=0.18, rate=50)
    assert [key["enabled"] for key in found["value"]["sequence"]] == [True, False, True]


def test_several_objects_are_tracked_together(predict: Predict) -> None:
    other = keyframe(1, [0, 60, 20, 38])
    answer = predict(VIDEO_CONFIG, [region(drawn_box(0)), region(other, name="b")])
    results = answer.json()["results"][0]["result"]
    assert [each["id"] for each in results] == ["a", "b"]


@pytest.mark.parametrize("kind", ["keypointlabels", "rectanglelabels"])
def test_a_click_or_a_box_becomes_a_brush(predict: Predict, kind: str) -> None:
    x, y, width, height = true_box(0)
    value = {"x": x - 3, "y": y - 3, "width": width + 6, "height": height + 6, kind: ["square"]}
    if kind == "keypointlabels":
        value |= {"x": x + width / 2, "y": y + height / 2, "width": 0.5, "height": 0}
    drawn = {
        "id": "p",
        "type": kind,
        "from_name": "click",
        "to_name": "image",
        "original_width": scene.WIDTH,
        "original_height": scene.HEIGHT,
        "value": value,
    }
    answer = predict(IMAGE_CONFIG, [drawn])
    assert answer.status_code == 200, answer.reason_phrase
    (found,) = answer.json()["results"][0]["result"]
    assert (found["from_name"], found["value"]["brushlabels"]) == ("brush", ["square"])
    mask = label_studio.decode_brush(found["value"]["rle"], (scene.HEIGHT, scene.WIDTH))
    assert (mask == (scene.labels(0) == 1)).mean() > 0.98


def test_a_brush_is_written_as_the_service_writes_it() -> None:
    random = np.random.default_rng(5)
    for shape in ((1, 1), (7, 13), (96, 700)):
        mask = random.random(shape) < random.random()
        assert encode_brush(mask) == label_studio.encode_brush(mask)


@pytest.mark.parametrize(
    ("config", "drawn", "data", "told"),
    [
        (VIDEO_CONFIG, [region()], {}, "draw a box around each object first"),
        (VIDEO_CONFIG, [region(drawn_box(0))], {"film": "/missing.mp4"}, "cannot be fetched"),
        (VIDEO_CONFIG, [region(drawn_box(0))], {"film": "/no.mp4"}, "the video cannot be read"),
        (VIDEO_CONFIG, [region(drawn_box(0))], {"film": "file:///etc/passwd"}, "cannot be fetched"),
        ("<View><Text/></View>", [region(drawn_box(0))], {}, "neither a <Video> nor an <Image>"),
        (IMAGE_CONFIG, [region(drawn_box(0))], {}, "click on an object"),
    ],
)
def test_what_cannot_be_predicted_is_told_in_the_reason(
    predict: Predict, config: str, drawn: list[dict[str, Any]], data: dict[str, str], told: str
) -> None:
    answer = predict(config, drawn, **data)
    assert answer.status_code >= 400
    assert told in answer.reason_phrase


def test_a_key_goes_to_the_site_that_told_it_alone(tmp_path: Path) -> None:
    heard: list[str | None] = []

    class Listening(Quiet):
        def do_GET(self) -> None:
            heard.append(self.headers["Authorization"])
            super().do_GET()

    (tmp_path / "square.png").write_bytes(scene.png(0))
    media = MediaStore(tmp_path / "media", url=None, key=None)
    for key in ("secret", None):
        site = ThreadingHTTPServer(("127.0.0.1", 0), partial(Listening, directory=tmp_path))
        with serving(site) as url:
            media.told(url, key)
            media.path_of("/square.png")
    assert heard == ["Token secret", None]


def test_a_key_without_its_site_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tamvt-label-studio", "--port", "0"])
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret")
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    with pytest.raises(SystemExit):
        main()
    assert "set LABEL_STUDIO_URL too" in capsys.readouterr().err


def test_what_any_page_in_a_browser_could_send_is_refused(tmp_path: Path) -> None:
    with backend("http://127.0.0.1:9", tmp_path) as address:
        answer = httpx.post(
            f"{address}/setup", content="{}", headers={"Content-Type": "text/plain"}
        )
    assert answer.status_code == 415


def test_a_task_without_a_box_has_no_prediction(predict: Predict) -> None:
    answer = predict(VIDEO_CONFIG, [])
    assert answer.json()["results"] == [{"result": [], "score": 0.0, "model_version": "tamvt"}]


def test_a_service_that_is_away_is_told_to_label_studio(site: str, tmp_path: Path) -> None:
    with backend("http://127.0.0.1:9", tmp_path) as address:
        assert httpx.get(f"{address}/health").json()["status"] == "UP"
        answer = ask(address, site, VIDEO_CONFIG, [region(drawn_box(0))])
    assert answer.status_code == 503
    assert answer.reason_phrase.startswith("TAM-VT Serve is away or busy")
