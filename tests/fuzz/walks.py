"""Random walks of sessions through a real gateway: each step, and what must be true after it.

A walk keeps what it was told and compares it with what the service keeps: after retries, forks,
corrections, deletions, and when the gateway is killed and started again, also within an append.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import httpx

from tests.faults.gateways import Gateway
from tests.faults.sending import happening
from tests.fuzz.parsers import Tally
from tests.support import scene
from tests.support.bad_images import plain
from tests.support.running import PATIENCE_S, Api, problem

MOST_SESSIONS: Final = 4


@dataclass
class Known:
    """What a session was told to be: its newest frame, its objects and each frame's masks."""

    object_ids: set[int]
    next_frame: int = 1
    masks: dict[int, Any] = field(default_factory=dict)
    last_append: range = range(0)
    corrected: bool = False  # since its last append


class Walk:
    """One walk of one seed. `trace` tells its steps so far."""

    def __init__(self, gateway: Gateway, seed: str, tally: Tally) -> None:
        self.trace: list[str] = []
        self._tally = tally
        self._gateway = gateway
        self._random = Random(seed)
        self._sessions: dict[str, Known] = {}

    def run(self, steps: int) -> None:
        """Take so many steps, and delete what is left."""
        for _ in range(steps):
            names = [*STEPS] if self._sessions else ["start"]
            self.take(self._random.choices(names, [STEPS[name] for name in names])[0])
        with httpx.Client(base_url=self._gateway.url, timeout=PATIENCE_S) as http:
            for session in self._sessions:
                assert http.delete(f"/v1/sessions/{session}").status_code == 204

    def take(self, name: str) -> None:
        """Take one step with some session, and compare all of them with what is known."""
        session = self._random.choice([*self._sessions]) if self._sessions else ""
        self.trace.append(f"{name} {session}")
        begin = time.perf_counter()
        with httpx.Client(base_url=self._gateway.url, timeout=PATIENCE_S) as http:
            getattr(self, f"step_{name}")(Api(http), session)
        self.check()
        self._tally.count(refused=name in REFUSED, seconds=time.perf_counter() - begin)

    def check(self) -> None:
        """Compare every session with what is known of it."""
        with httpx.Client(base_url=self._gateway.url, timeout=PATIENCE_S) as http:
            for session, known in self._sessions.items():
                answer = Api(http).masks(session, from_=1) if known.next_frame > 1 else None
                stored = answer.json()["frames"] if answer else []
                assert {each["frame"]: each["objects"] for each in stored} == known.masks
                shown = http.get(f"/v1/sessions/{session}").json()
                assert shown["next_frame"] == known.next_frame
                assert {each["id"] for each in shown["objects"]} == known.object_ids

    def step_start(self, api: Api, _: str) -> None:
        if len(self._sessions) < MOST_SESSIONS:
            objects = self._random.choice((1, 2))
            self._sessions[api.start(objects=objects)] = Known(set(range(1, objects + 1)))

    def step_append(self, api: Api, session: str) -> None:
        known = self._sessions[session]
        first = known.next_frame
        self._append(api, session, range(first, first + self._random.randrange(1, 6)))

    def step_retry(self, api: Api, session: str) -> None:
        known = self._sessions[session]
        if known.last_append and not known.corrected:
            answer = self._append(api, session, known.last_append)
            assert answer.headers["idempotent-replay"] == "true"

    def step_send_ahead(self, api: Api, session: str) -> None:
        first = self._sessions[session].next_frame + self._random.randrange(1, 4)
        answer = api.append(session, [scene.jpeg(first, objects=2)], first=first)
        assert problem(answer) == (409, "frame-ahead")
        assert answer.json()["expected"] == self._sessions[session].next_frame

    def step_send_other(self, api: Api, session: str) -> None:
        newest = self._sessions[session].next_frame - 1
        answer = api.append(session, [plain(scene.HEIGHT, scene.WIDTH)], first=newest)
        assert problem(answer) == (409, "frame-changed")

    def step_correct(self, api: Api, session: str) -> None:
        known = self._sessions[session]
        given = self._random.choice((1, 2))
        body = scene.mask(objects=given)
        kind = {"Content-Type": "image/png"}
        answer = api.http.put(f"/v1/sessions/{session}/objects", content=body, headers=kind)
        if answer.status_code == 409:
            assert problem(answer) == (409, "memory-full")
            return
        assert answer.status_code == 200, answer.text
        found = answer.json()
        known.object_ids |= set(range(1, given + 1))  # what was removed keeps its masks so far
        known.corrected = True
        if known.next_frame > 1:
            known.masks[known.next_frame - 1] = found["objects"]

    def step_remove(self, api: Api, session: str) -> None:
        known = self._sessions[session]
        object_id = self._random.choice(sorted(known.object_ids))
        answer = api.http.delete(f"/v1/sessions/{session}/objects/{object_id}")
        if len(known.object_ids) == 1:
            assert problem(answer) == (409, "last-object")
            return
        assert answer.status_code == 204, answer.text
        known.object_ids.remove(object_id)
        known.corrected = True

    def step_fork(self, api: Api, session: str) -> None:
        if len(self._sessions) == MOST_SESSIONS:
            return
        known = self._sessions[session]
        at = self._random.choice((None, self._random.randrange(known.next_frame)))
        answer = api.http.post(
            f"/v1/sessions/{session}/fork", params={} if at is None else {"at": at}
        )
        assert answer.status_code == 201, answer.text
        found = answer.json()
        following = found["next_frame"]
        assert 1 <= following <= known.next_frame
        assert following == known.next_frame if at is None else following <= at + 1
        fork = Known({each["id"] for each in found["objects"]}, following)
        stored = api.masks(found["session_id"], from_=1).json()["frames"] if following > 1 else []
        fork.masks = {each["frame"]: each["objects"] for each in stored}
        assert sorted(fork.masks) == list(range(1, following))
        # The newest frame may have been corrected since; what is older is as it was told.
        older = range(1, following if at is None else following - 1)
        assert {n: fork.masks[n] for n in older} == {n: known.masks[n] for n in older}
        self._sessions[found["session_id"]] = fork

    def step_delete(self, api: Api, session: str) -> None:
        assert api.http.delete(f"/v1/sessions/{session}").status_code == 204
        assert problem(api.http.get(f"/v1/sessions/{session}")) == (404, "unknown-session")
        del self._sessions[session]

    def step_kill(self, api: Api, session: str) -> None:
        self._gateway.kill()
        self._gateway.start()

    def step_kill_within_append(self, api: Api, session: str) -> None:
        """Kill the gateway while it works: all frames are there or none, and a retry is safe."""
        first = self._sessions[session].next_frame
        numbers = range(first, first + 4)
        kill = happening(self._gateway.kill, after_s=self._random.uniform(0, 0.05))
        with kill, suppress(httpx.TransportError):
            self._append(api, session, numbers)
        self._gateway.start()
        with httpx.Client(base_url=self._gateway.url, timeout=PATIENCE_S) as http:
            next_frame = http.get(f"/v1/sessions/{session}").json()["next_frame"]
            assert next_frame in (numbers.start, numbers.stop)
            self._append(Api(http), session, numbers)

    def _append(self, api: Api, session: str, numbers: range) -> httpx.Response:
        """Send the frames; what comes back is what is known from now on, and never changes."""
        known = self._sessions[session]
        images = [scene.jpeg(number, objects=2) for number in numbers]
        answer = api.append(session, images, first=numbers.start)
        assert answer.status_code == 200, answer.text
        for each in answer.json()["frames"]:
            assert known.masks.setdefault(each["frame"], each["objects"]) == each["objects"]
        known.next_frame, known.last_append, known.corrected = numbers.stop, numbers, False
        return answer


REFUSED: Final = ("send_ahead", "send_other")
# How often a step is taken, in comparison with others.
STEPS: Final = {
    "start": 6,
    "append": 16,
    "retry": 6,
    "send_ahead": 3,
    "send_other": 3,
    "correct": 6,
    "remove": 2,
    "fork": 6,
    "delete": 2,
    "kill": 1,
    "kill_within_append": 1,
}
