"""What a running service holds: memory, descriptors, tasks, child processes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import httpx
import psutil

from tests.faults.gateways import Gateway
from tests.support import scene
from tests.support.running import Api, form

GROWTH_MB: Final = 50.0
WARM_UPS: Final = 20
DECODERS: Final = 2  # of the service as it is set: one for each thread
SETTLE_S: Final = 15.0  # for connections to end


@dataclass(frozen=True, slots=True)
class Vitals:
    """One look at a service and its children."""

    rss_mb: float
    descriptors: int
    tasks: int
    children: int

    def growth_since(self, before: Vitals) -> list[str]:
        """Return what has grown beyond what is allowed."""
        names = ("descriptors", "tasks", "children")
        found = [
            f"{getattr(self, name) - getattr(before, name)} more {name}"
            for name in names
            if getattr(self, name) > getattr(before, name)
        ]
        if self.rss_mb > before.rss_mb + GROWTH_MB:
            found.append(f"{self.rss_mb - before.rss_mb:.0f} MB more")
        return found


def warm_up(gateway: Gateway) -> None:
    """Send videos two at a time until both decoders that may wait for the next one do."""
    url = gateway.url
    with httpx.Client(base_url=url, timeout=SETTLE_S) as http, ThreadPoolExecutor(2) as threads:
        sessions = [Api(http).start() for _ in range(2)]
        for _ in range(WARM_UPS):
            paths = [f"{url}/v1/sessions/{each}/clips?first_frame=1" for each in sessions]
            video = [("video", scene.video(range(1, 9)))]
            send = partial(httpx.post, files=form(video), timeout=SETTLE_S)
            assert [answer.status_code for answer in threads.map(send, paths)] == [200, 200]
            time.sleep(0.1)
            if look(gateway).children == 1 + DECODERS:
                break
        for each in sessions:
            http.delete(f"/v1/sessions/{each}")


def look(gateway: Gateway) -> Vitals:
    """Return what the service holds now.

    Its connections to Redis are no descriptors that grow: the pool, which is bounded, opens another
    where two requests happen to need one at once.
    """
    assert gateway.process is not None
    text = httpx.get(f"{gateway.url}/metrics", timeout=SETTLE_S).text
    tasks = next(line for line in text.splitlines() if line.startswith("tamvt_tasks "))
    redis = urlsplit(gateway.settings["TAMVT_REDIS_URL"]).port or 6379
    service = psutil.Process(gateway.process.pid)
    children = service.children(recursive=True)
    return Vitals(
        rss_mb=sum(each.memory_info().rss for each in (service, *children)) / 1e6,
        descriptors=service.num_fds() - gateway.connections(redis),
        tasks=round(float(tasks.split()[1])),
        children=len(children),
    )


def check_growth(gateway: Gateway, before: Vitals) -> Vitals:
    """Return what the service holds; AssertionError if it is more than before and stays."""
    end = time.monotonic() + SETTLE_S
    while (found := look(gateway)).growth_since(before) and time.monotonic() < end:
        time.sleep(0.2)
    assert not found.growth_since(before), f"{found.growth_since(before)}: {before}, now {found}"
    return found
