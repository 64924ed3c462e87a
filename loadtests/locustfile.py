"""Locust's users of the service: over REST, over streams, and those that come and go.

`python -m loadtests` starts them; by hand:

    PYTHONPATH=.:clients/python .venv/tools/loadtests/bin/locust -f loadtests/locustfile.py \
        --host http://127.0.0.1:8000 --videos FOLDER RestUser StreamUser

A stream's frames have due times (`--fps`), and the latency of `masks` counts from those. What the
service refuses as it may (429, 503) is counted apart from failures, under `refused`.
"""

from __future__ import annotations

import json
import random
import time
from argparse import ArgumentParser
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import gevent
import websocket
from gevent.event import Event
from locust import HttpUser, events, task
from locust.env import Environment

from loadtests.addresses import require_loopback
from loadtests.load_video import LoadVideo, read_load_videos
from tamvt_client import wire
from tamvt_client.send_window import Newest, Sending, Window

APPEND = 8  # frames
DEADLINE_S = 60.0
MOST_ATTEMPTS = 20  # to connect again, with a pause that doubles
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
REFUSED = {429, 503}


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Add what the users need to know."""
    parser.add_argument("--videos", required=True, help="folder that LoadVideo.write filled")
    parser.add_argument("--hosts", default="", help="gateways to go on with, with commas")
    parser.add_argument("--fps", type=float, default=30.0, help="of a stream")
    parser.add_argument("--mode", default="lossless", choices=("lossless", "latest"))
    parser.add_argument("--session-frames", type=int, default=90)
    parser.add_argument("--clip-length", type=int, default=0, help="0: the model's")
    parser.add_argument("--models", default="", help="with commas, or all; none: the default")
    parser.add_argument("--keys", default="", help="of tenants, with commas")
    parser.add_argument("--allow-remote", action="store_true", help="load another machine")
    parser.add_argument("--result", default="", help="file for what was seen, as JSON")


@events.init.add_listener
def check_addresses(environment: Environment, **_: Any) -> None:
    """End the program if an address is another machine's."""
    options = environment.parsed_options
    for url in filter(None, [environment.host, *options.hosts.split(",")]):
        require_loopback(url, allow_remote=options.allow_remote)
    gevent.get_hub().loop.update_now()  # imports took seconds, which are none of the run time


@events.quitting.add_listener
def write_result(environment: Environment, **_: Any) -> None:
    """Write what each kind of call took, and how each kind of failure was explained."""
    path = environment.parsed_options.result
    if not path:
        return
    rows = [
        {
            "what": entry.name,
            "count": entry.num_requests,
            "failed": entry.num_failures,
            "per s": round(entry.total_rps, 2),
            **{
                f"p{share} ms": entry.get_response_time_percentile(share / 100)
                for share in (50, 95, 99)
            },
            "max ms": round(entry.max_response_time, 1),
        }
        for entry in environment.stats.entries.values()
    ]
    failures = [
        f"{error.occurrences} times {error.name}: {error.error}"
        for error in environment.stats.errors.values()
    ]
    Path(path).write_text(json.dumps({"rows": rows, "failures": failures}), encoding="utf-8")


class StreamEnded(Exception):
    """A stream ended before its frames had answers; `retry` says whether to connect again."""

    def __init__(self, text: str, *, retry: bool) -> None:
        super().__init__(text)
        self.retry = retry


class SessionUser(HttpUser):
    """A user with sessions of its own; `tenant` picks the key."""

    abstract = True
    tenant = 0
    videos: list[LoadVideo]

    def on_start(self) -> None:
        """Read the videos, and call nobody but the service."""
        self.options = self.environment.parsed_options
        self.client.trust_env = False
        self.videos = read_load_videos(Path(self.options.videos))
        keys = list(filter(None, self.options.keys.split(",")))
        if keys:
            self.client.headers["Authorization"] = f"Bearer {keys[self.tenant % len(keys)]}"
        self.hosts = list(filter(None, self.options.hosts.split(","))) or [self.host]
        self.attempt = 0
        self.models = list(filter(None, self.options.models.split(",")))
        if self.models == ["all"]:
            served = self.call("GET", "/v1/models", name="models") or {"models": []}
            self.models = [each["name"] for each in served["models"]]

    def call(self, method: str, path: str, *, name: str, **more: Any) -> dict[str, Any] | None:
        """Return a call's JSON; None where it was refused or failed, after a pause if it was."""
        url = self.hosts[self.attempt % len(self.hosts)] + path
        arguments = {"name": name, "catch_response": True, "timeout": DEADLINE_S, **more}
        with self.client.request(method, url, allow_redirects=False, **arguments) as answer:
            if 200 <= answer.status_code < 300:
                answer.success()
                return dict(answer.json()) if answer.content else {}
            if answer.status_code in REFUSED:
                answer.success()
                self.note(f"refused {name}", 0.0)
                pause_s = float(answer.headers.get("Retry-After", 1))
            elif answer.status_code == 0 and len(self.hosts) > 1:  # the other gateway is there
                answer.success()
                self.note("connected again", 0.0)
                pause_s = FIRST_PAUSE_S
            else:
                answer.failure(f"{answer.status_code} {(answer.text or '')[:200]}")
                pause_s = FIRST_PAUSE_S
        self.attempt += 1
        gevent.sleep(min(pause_s, LONGEST_PAUSE_S) * random.random())
        return None

    def open_session(self, video: LoadVideo) -> dict[str, Any] | None:
        """Start a session of one of the models; None where none was started."""
        options: dict[str, Any] = {}
        if self.options.clip_length:
            options["clip_length"] = self.options.clip_length
        if self.models:
            options["model"] = random.choice(self.models)
        return self.call(
            "POST",
            "/v1/sessions",
            name="start",
            files={"frame": ("0.jpg", video.frames[0]), "mask": ("0.png", video.mask)},
            data={"options": json.dumps(options)},
        )

    def append(self, session_id: str, images: list[bytes], *, first: int) -> bool:
        """Append frames; return whether they have masks."""
        files = [("frames", (f"{number}.jpg", image)) for number, image in enumerate(images)]
        path = f"/v1/sessions/{session_id}/clips?first_frame={first}"
        return self.call("POST", path, name=f"append {len(images)}", files=files) is not None

    def delete(self, session_id: str) -> None:
        """Delete a session."""
        self.call("DELETE", f"/v1/sessions/{session_id}", name="delete")

    def note(self, name: str, ms: float, error: Exception | None = None) -> None:
        """Count something that is no call of REST."""
        events.request.fire(
            request_type="STREAM",
            name=name,
            response_time=ms,
            response_length=0,
            exception=error,
            context={},
        )


class RestUser(SessionUser):
    """Track a video by appends, as fast as they are answered."""

    @task
    def track(self) -> None:
        video = random.choice(self.videos)
        session = self.open_session(video)
        if session is None:
            return
        source, first = video.endless(), 1
        while first <= self.options.session_frames:
            images = list(islice(source, APPEND))
            attempts = (
                self.append(session["session_id"], images, first=first)
                for _ in range(MOST_ATTEMPTS)
            )
            if not any(attempts):
                self.note("append", 0.0, StreamEnded("given up", retry=False))
                break
            first += len(images)
        self.delete(session["session_id"])


class ChurnUser(SessionUser):
    """Come and go: a few frames, and then delete the session, fork it, or just leave."""

    @task
    def come_and_go(self) -> None:
        video = random.choice(self.videos)
        session = self.open_session(video)
        if session is None:
            return
        session_id = session["session_id"]
        self.append(session_id, video.frames[1:3], first=1)
        leave = random.choice((self.delete, self.fork, self.break_off))
        leave(session_id)

    def fork(self, session_id: str) -> None:
        """Go on in a copy, and delete both."""
        copy = self.call("POST", f"/v1/sessions/{session_id}/fork", name="fork")
        for each in filter(None, [session_id, (copy or {}).get("session_id")]):
            self.delete(each)

    def break_off(self, session_id: str) -> None:
        """Open a stream, send a frame, and leave without a word; the session expires by itself."""
        with suppress(OSError, websocket.WebSocketException):
            socket = connect(self, session_id, first=3)
            image = wire.ImageMessage(3, 0, self.videos[0].frames[0])
            socket.recv()
            socket.send_binary(wire.write_image(image, kind=wire.FRAME))
            socket.sock.close()
        self.note("left", 0.0)


class StreamUser(SessionUser):
    """A camera over a stream; it connects again, to the next gateway, when the stream breaks."""

    label = "masks"

    @task
    def stream(self) -> None:
        video = random.choice(self.videos)
        session = self.open_session(video)
        if session is None:
            return
        camera = Camera(self, session["session_id"], video)
        try:
            camera.run()
        except StreamEnded as error:
            self.note(self.label, 0.0, error)
        self.delete(session["session_id"])


class ModestUser(StreamUser):
    """A tenant that sends what it may."""

    fixed_count = 1
    tenant = 0
    label = "masks of the modest tenant"


class GreedyUser(StreamUser):
    """A tenant with several streams."""

    fixed_count = 5
    tenant = 1
    label = "masks of the greedy tenant"


class Camera:
    """One session's frames, each due at its time, over as many connections as it takes."""

    def __init__(self, user: StreamUser, session_id: str, video: LoadVideo) -> None:
        self._user = user
        self._session_id = session_id
        self._images = video.endless()
        self._sending: Sending = Newest() if user.options.mode == "latest" else Window()
        self._begin_s = time.perf_counter()
        self._missing = 1  # the first frame without an answer
        self._given = 0
        self._changed = Event()

    @property
    def last(self) -> int:
        """The number of the last frame."""
        return int(self._user.options.session_frames)

    def run(self) -> None:
        """Return when each frame is answered or passed over; raise StreamEnded if that fails."""
        feeding = gevent.spawn(self._feed)
        pause_s, attempts = FIRST_PAUSE_S, 0
        try:
            while self._missing <= self.last:
                before = self._missing
                try:
                    self._run_connection()
                except (OSError, websocket.WebSocketException, StreamEnded) as error:
                    if isinstance(error, StreamEnded) and not error.retry:
                        raise
                    attempts = 0 if self._missing > before else attempts + 1
                    if attempts == MOST_ATTEMPTS:
                        raise StreamEnded(f"no way back: {error}", retry=False) from error
                    pause_s = FIRST_PAUSE_S if attempts == 0 else min(2 * pause_s, LONGEST_PAUSE_S)
                    self._user.note("connected again", 0.0)
                    self._user.attempt += 1
                    gevent.sleep(pause_s * random.random())
        finally:
            feeding.kill()

    def _due_s(self, number: int) -> float:
        return self._begin_s + (number - 1) / float(self._user.options.fps)

    def _feed(self) -> None:
        for number in range(1, self.last + 1):
            gevent.sleep(max(0.0, self._due_s(number) - time.perf_counter()))
            while not self._sending.is_writable:
                self._wait()
            self._sending.add(wire.ImageMessage(number, 0, next(self._images)))
            self._given = number
            self._changed.set()

    def _wait(self) -> None:
        self._changed.clear()
        self._changed.wait()

    def _run_connection(self) -> None:
        socket = connect(self._user, self._session_id, first=self._missing)
        sending = None
        try:
            ready = self._read(socket)
            self._sending.ready(next_frame=ready["next_frame"], credits=ready["credits"])
            sending = gevent.spawn(self._send, socket)
            while self._missing <= self.last:
                self._read(socket)
        finally:
            if sending is not None:
                sending.kill()
            with suppress(OSError, websocket.WebSocketException):
                socket.close(timeout=1)

    def _send(self, socket: websocket.WebSocket) -> None:
        with suppress(OSError, websocket.WebSocketException):
            while True:
                while (frame := self._sending.take()) is not None:
                    socket.send_binary(wire.write_image(frame, kind=wire.FRAME))
                    self._changed.set()
                if self._given == self.last and self._sending.is_sent:
                    socket.send(wire.write_end())
                    return
                self._wait()

    def _read(self, socket: websocket.WebSocket) -> dict[str, Any]:
        """Note what the next message says and return it; raise StreamEnded if it is the last."""
        text = socket.recv()
        if not text:
            raise StreamEnded("the connection ended", retry=True)
        message: dict[str, Any] = json.loads(text)
        match message:
            case {"type": "masks", "frame": frame}:
                late_ms = 1000 * (time.perf_counter() - self._due_s(frame))
                if frame >= self._missing:
                    self._user.note(self._user.label, late_ms)
                self._sending.answered(frame)
                self._advance(frame)
            case {"type": "dropped", "frames": frames}:
                for frame in frames:
                    if frame >= self._missing:
                        self._user.note("dropped", 0.0)
                    self._sending.dropped(frame)
                    self._advance(frame)
            case {"type": "error", "problem": problem}:
                raise StreamEnded(json.dumps(problem), retry=problem["status"] in REFUSED)
            case {"type": "bye", "reason": "end"} if self._user.options.mode == "latest":
                self._missing = self.last + 1  # the last ones were lost with a connection
            case {"type": "bye", "resume": resume}:
                raise StreamEnded(text, retry=bool(resume) or self._missing > self.last)
        return message

    def _advance(self, frame: int) -> None:
        self._missing = max(self._missing, frame + 1)
        self._changed.set()


def connect(user: SessionUser, session_id: str, *, first: int) -> websocket.WebSocket:
    """Open a session's stream at the user's present gateway."""
    host = user.hosts[user.attempt % len(user.hosts)]
    query = f"mode={user.options.mode}&max_wait_ms=50&from={first}"
    key = user.client.headers.get("Authorization")
    return websocket.create_connection(
        f"ws{host.removeprefix('http')}/v1/sessions/{session_id}/stream?{query}",
        timeout=DEADLINE_S,
        subprotocols=[wire.SUBPROTOCOL],
        header=[f"Authorization: {key}"] if key else [],
        http_no_proxy=["*"],
        redirect_limit=0,
        enable_multithread=True,
    )
