"""A client that sends its video to the end, whatever happens, and remembers what it was told."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from tests.faults.gateways import Gateway
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, form, problem

DEADLINE_S = 2 * PATIENCE_S
PAUSE_S = 0.05

Chunks = Sequence[range]


def chunks_of(seed: int, *, frames: int = 32) -> Chunks:
    """The video as appends of 1 to 8 frames, the same ones for the same seed."""
    chosen = random.Random(seed)
    found: list[range] = []
    first = 1
    while first <= frames:
        found.append(range(first, first + chosen.randint(1, 8)))
        first = found[-1].stop
    return found


def images(numbers: Sequence[int]) -> list[bytes]:
    return [scene.jpeg(number, objects=2) for number in numbers]


def start(url: str) -> str:
    """The id of a new session that tracks two objects."""
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
        return Api(http).start(objects=2)


def undisturbed(api: Api, chunks: Chunks) -> list[Any]:
    """The masks of the same appends in a service to which nothing happens."""
    session = api.start(objects=2)
    return [
        frame
        for numbers in chunks
        for frame in api.append(session, images(numbers), first=numbers[0]).json()["frames"]
    ]


class Sender:
    """Sends to the gateways in turn, and sends again what was not answered.

    What it is told may be the masks, a clear 503 or 409, or nothing because the gateway is gone.
    """

    def __init__(
        self,
        gateways: Sequence[Gateway],
        session: str,
        *,
        acknowledged: Mapping[int, Any] | None = None,
    ) -> None:
        self.session = session
        self.acknowledged: dict[int, Any] = dict(acknowledged or {})
        self.told: Counter[str] = Counter()
        self.seconds_a_frame = 0.0  # of the last append that was acknowledged at once
        self._gateways = gateways
        self._turn = 0

    def send(self, numbers: Sequence[int]) -> None:
        """Nothing, once these frames are acknowledged."""
        end = time.monotonic() + DEADLINE_S
        while not self.try_once(numbers):
            assert time.monotonic() < end, f"frames {numbers} never arrived: {self.told}"
            time.sleep(PAUSE_S)

    def try_once(self, numbers: Sequence[int]) -> bool:
        """Whether the next gateway in turn acknowledged the frames."""
        gateway = self._gateways[self._turn % len(self._gateways)]
        self._turn += 1
        begin = time.perf_counter()
        try:
            answer = append(gateway.url, self.session, numbers)
        except httpx.TransportError:
            self.told["gone"] += 1
            return False
        if answer.status_code != 200:
            status, slug = problem(answer)
            assert status in (409, 503), answer.text
            assert (status == 503) == ("retry-after" in answer.headers)
            self.told[slug] += 1
            return False
        for frame in answer.json()["frames"]:
            assert self.acknowledged.setdefault(frame["frame"], frame) == frame
        self.seconds_a_frame = (time.perf_counter() - begin) / len(numbers)
        return True

    def stored(self, url: str) -> list[Any]:
        """All masks but the reference's, as the service keeps them."""
        path = f"{url}/v1/sessions/{self.session}/masks"
        answer = httpx.get(path, params={"from": 1}, timeout=PATIENCE_S)
        if answer.status_code == 503:
            time.sleep(PAUSE_S)
            return self.stored(url)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["frames"])

    def check(self, url: str, expected: Sequence[Any]) -> None:
        """Nothing acknowledged was lost or changed, and all is as in the undisturbed run."""
        stored = self.stored(url)
        assert stored == list(self.acknowledged.values())
        assert stored == list(expected)


def append(
    url: str, session: str, numbers: Sequence[int], *, first: int | None = None
) -> httpx.Response:
    """POST clips; `first` gives the pictures other numbers."""
    return httpx.post(
        f"{url}/v1/sessions/{session}/clips",
        params={"first_frame": numbers[0] if first is None else first},
        files=form([("frames", image) for image in images(numbers)]),
        timeout=PATIENCE_S,
    )


@contextmanager
def happening(fault: Callable[[], None], *, after_s: float) -> Iterator[None]:
    """The fault happens so long after the block began, at the same time as the block."""
    failed: list[BaseException] = []

    def happen() -> None:
        time.sleep(after_s)
        try:
            fault()
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not failed
