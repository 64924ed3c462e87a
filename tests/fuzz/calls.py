"""Requests that were right once, changed at random, and sent to a running service.

`{session}` in a path stands for the session that is attacked. Call n of a seed is always the same.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from tests.fuzz import samples
from tests.fuzz.mutations import WORDS, change_bytes, change_json, change_png
from tests.fuzz.parsers import Fault, Tally
from tests.support import scene
from tests.support.running import Api

DEADLINE_S: Final = 20.0  # of one answer; the service's own is half of it
HEALTH_EACH: Final = 100  # calls
NEW_SESSION_EACH: Final = 100
FORM: Final = {"Content-Type": "multipart/form-data; boundary=frontier"}
Parts = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `raw` ones are sent as they are, head and body."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bool = False

    def written(self) -> bytes:
        """Return the request as it may be kept in a file."""
        if self.raw:
            return self.body
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"{self.method} {self.path} HTTP/1.1\r\n{head}\r\n".encode() + self.body


def make_call(seed: int, number: int) -> Call:
    """Return the call with this number of this seed."""
    random = Random(f"{seed} call {number}")
    return random.choice(CALLS)(random)


def attack_rest(url: str, seed: int, numbers: Sequence[int], tally: Tally) -> None:
    """Send these calls one after the other; raise Fault for a 500, a hang or silence."""
    with httpx.Client(base_url=url, timeout=DEADLINE_S) as http:
        session = ""
        for number in numbers:
            if not session or number % NEW_SESSION_EACH == 0:
                if session:
                    http.delete(f"/v1/sessions/{session}")
                session = Api(http).start(objects=2)
            call = make_call(seed, number)
            begin = time.perf_counter()
            try:
                status = _send_raw(url, call) if call.raw else _send(http, call, session)
            except (httpx.HTTPError, OSError) as error:
                reason = f"{type(error).__name__}: {error}"
                raise Fault(tally.name, number, call.written(), reason) from error
            seconds = time.perf_counter() - begin
            if status >= 500 or seconds > DEADLINE_S:
                raise Fault(tally.name, number, call.written(), f"{status} in {seconds:.1f} s")
            tally.count(refused=status >= 400, seconds=seconds)
            if number % HEALTH_EACH == 0:
                assert http.get("/healthz").status_code == 200
        http.delete(f"/v1/sessions/{session}")


def _send(http: httpx.Client, call: Call, session: str) -> int:
    """Return the status; a session that was started is deleted."""
    path = call.path.replace("{session}", session)
    answer = http.request(call.method, path, headers=call.headers, content=call.body)
    if answer.status_code == 201 and "location" in answer.headers:
        http.delete(answer.headers["location"])
    return answer.status_code


def _send_raw(url: str, call: Call) -> int:
    """Return the status of the first answer, 400 where the connection is closed without one."""
    address = urlsplit(url)
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=DEADLINE_S) as wire:
        try:
            wire.sendall(call.body)
            wire.shutdown(socket.SHUT_WR)
            while piece := wire.recv(65_536):
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    words = received.split(maxsplit=2)
    return int(words[1]) if len(words) > 1 and received.startswith(b"HTTP/1.1 ") else 400


def _form(random: Random, parts: Parts) -> bytes:
    """Return the multipart body of these parts, in one case of four changed as a whole."""
    body = b"".join(
        b'--frontier\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n\r\n%s\r\n'
        % (name.encode(), data)
        for name, data in parts
    )
    body += b"--frontier--\r\n"
    return change_bytes(random, [body]) if random.random() < 0.25 else body


def _image(random: Random) -> bytes:
    """Return a frame, in half of the cases changed."""
    change: Callable[[Random, Sequence[bytes]], bytes]
    change, images = random.choice(
        (
            (change_bytes, samples.jpegs()),
            (change_png, samples.frame_pngs()),
            (change_bytes, samples.webps()),
        )
    )
    return change(random, images) if random.random() < 0.5 else images[0]


def _given(random: Random) -> Parts:
    """Return a mask or a list of objects, changed."""
    if random.random() < 0.5:
        return [("mask", change_png(random, samples.mask_images()))]
    return [("objects", change_json(random, samples.objects()))]


def _value(random: Random) -> str:
    """Return what a number in a query or a path may be replaced by."""
    words = ("0", "1", "2", "3", "-1", "1e3", "", "%00", "%ff", "9" * 25, "%E0%A5%A7", *WORDS)
    return quote(random.choice(words)[:500], safe="%")


def _query(random: Random, **given: object) -> str:
    """Return a query with one of its values replaced in half of the cases."""
    values = {name: str(value) for name, value in given.items()}
    if random.random() < 0.5:
        values[random.choice([*values, "other"])] = _value(random)
    return "?" + "&".join(f"{name}={value}" for name, value in values.items())


def _start(random: Random) -> Call:
    parts = [("frame", _image(random)), *_given(random)]
    if random.random() < 0.5:
        parts.append(("options", change_json(random, samples.options())))
    return Call("POST", "/v1/sessions", FORM, _form(random, parts))


def _append(random: Random) -> Call:
    where = "/v1/sessions/{session}/clips"
    path = where + _query(random, first_frame=random.randrange(4), format="rle")
    if random.random() < 0.3:
        return Call("POST", path, {"Content-Type": "image/jpeg"}, _image(random))
    parts = [("frames", _image(random)) for _ in range(random.randrange(4))]
    return Call("POST", path, FORM, _form(random, parts))


def _append_video(random: Random) -> Call:
    path = "/v1/sessions/{session}/clips" + _query(random, first_frame=1, skip=0, count=2)
    return Call(
        "POST", path, FORM, _form(random, [("video", change_bytes(random, samples.videos()))])
    )


def _correct(random: Random) -> Call:
    path = "/v1/sessions/{session}/objects" + _query(random, format="rle")
    (name, data), *_ = _given(random)
    if random.random() < 0.5:
        kind = "image/png" if name == "mask" else "application/json"
        return Call("PUT", path, {"Content-Type": kind}, data)
    return Call("PUT", path, FORM, _form(random, [(name, data)]))


def _refine(random: Random) -> Call:
    prompts: dict[str, list[Any]] = {
        "box": samples.boxes(),
        "points": [[[8, 8, 1], [40, 30, 0]]],
        "strokes": [[{"points": [8, 8, 20, 20], "label": 1}]],
        "polygon": [[4, 4, 40, 4, 40, 40]],
    }
    name = random.choice(list(prompts))
    parts = [("image", _image(random)), (name, change_json(random, prompts[name]))]
    return Call("POST", "/v1/masks/refine", FORM, _form(random, parts))


def _convert(random: Random) -> Call:
    runs = {"size": [96, 128], "counts": [0, 40, 12248]}
    shape = random.choice([runs, [[1, 1, 9, 1, 9, 9]]])
    document = {
        "images": [{"id": 0, "width": 128, "height": 96, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 0, "category_id": 1, "segmentation": shape}],
        "categories": [{"id": 1, "name": "cup"}],
    }
    form = random.choice(("cvat", "coco-video", "davis", "label-studio", "mots", "yolo"))
    path = "/v1/masks/convert" + _query(random, format=form)
    kind = {"Content-Type": "application/json"}
    return Call("POST", path, kind, change_json(random, [document]))


def _read(random: Random) -> Call:
    form = random.choice(("rle", "polygons", "png"))
    paths = (
        "/v1/sessions/{session}/masks" + _query(random, **{"from": 0, "to": 2, "format": form}),
        "/v1/sessions/{session}/masks/" + _value(random) + ".png",
        "/v1/sessions/" + _value(random),
        "/web/" + _value(random),
        "/" + _value(random),
    )
    ranges = {"Range": f"bytes={random.choice(('0-9', '5-', '-5', '9' * 400 + '-', 'a-b', '9-0'))}"}
    headers = ranges if random.random() < 0.3 else {}
    return Call(random.choice(("GET", "GET", "HEAD", "OPTIONS")), random.choice(paths), headers)


def _change_session(random: Random) -> Call:
    return random.choice(
        (
            Call("POST", "/v1/sessions/{session}/fork" + _query(random, at=random.randrange(4))),
            Call("DELETE", "/v1/sessions/{session}/objects/" + _value(random)),
            Call("POST", "/v1/sessions/{session}/tickets"),
            Call("DELETE", "/v1/sessions/" + _value(random)),
        )
    )


def _head(random: Random) -> Call:
    image = scene.jpeg(1)
    line = random.choice(
        (b"POST /v1/sessions/a/clips?first_frame=1", b"GET /healthz", b"GET /v1/sessions/a/stream")
    )
    upgrade = (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tamvt.v1\r\n"
    )
    extra = random.choice(
        (b"", upgrade, b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n")
    )
    head = b"%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n%sContent-Length: %d\r\n"
    whole = head % (line, extra, len(image)) + b"\r\n" + image
    return Call("", "", body=change_bytes(random, [whole]), raw=True)


CALLS: Final[Sequence[Callable[[Random], Call]]] = (
    *(_start, _append, _append_video, _correct, _refine, _convert, _read, _change_session, _head),
)
