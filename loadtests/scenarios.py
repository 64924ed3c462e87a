"""What Locust's users do to a service in each scenario, and what happens to it meanwhile."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from loadtests.bad_network import BadNetwork, NetworkFaults, bad_network_to
from loadtests.fairness import two_clients
from loadtests.gateways import gateway
from loadtests.guards import Costly, list_requests
from scripts.deploy.stack import StackGateway, running_redis
from service.local.supervisor import find_free_port

READY_S = 60.0
NEIGHBOR_TIMEOUT_S = 60.0
Beside = Callable[[threading.Event], None]


@dataclass(slots=True)
class LoadTarget:
    """Where the users go, and what happens beside them until an event is set."""

    url: str
    gateways: Sequence[str]  # their own addresses, for metrics
    hosts: Sequence[str] = ()  # to go on with, where one is away
    keys: Sequence[str] = ()
    metrics_key: str = ""
    beside: Beside | None = None
    told: list[str] = field(default_factory=list)  # what happened beside them


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Users by their class's name, Locust's options, and the service that they meet."""

    name: str
    about: str
    users: Sequence[str]
    count: int
    options: Mapping[str, str] = field(default_factory=dict)
    serve: Callable[[], AbstractContextManager[LoadTarget]]


@contextmanager
def one_gateway(**settings: str) -> Iterator[LoadTarget]:
    """A gateway as it comes."""
    with gateway(threads=0, **settings) as (url, _):
        yield LoadTarget(url, [url])


@contextmanager
def behind_a_bad_network() -> Iterator[LoadTarget]:
    """A gateway that is reached through a relay only."""
    faults = NetworkFaults(stall_every_s=2.0, stall_s=0.5, drop_every_s=3.0)
    with (
        gateway(threads=0) as (url, _),
        bad_network_to(int(url.rpartition(":")[2]), faults) as network,
    ):
        near = f"http://127.0.0.1:{network.port}"
        target = LoadTarget(near, [url], hosts=[near, near])
        target.beside = lambda ended: tell_about(network, target, ended)
        yield target


def tell_about(network: BadNetwork, target: LoadTarget, ended: threading.Event) -> None:
    """Add what the network did to what is told, once the users are done."""
    ended.wait()
    target.told.append(
        f"{network.accepted} connections, {network.dropped} cut, {network.stalled} stalls"
    )


@contextmanager
def two_tenants(*, limit: float = 8.0) -> Iterator[LoadTarget]:
    """A gateway with two tenants, each with so many frames a second."""
    with two_clients(limit) as (url, modest, greedy, metrics_key):
        yield LoadTarget(url, [url], keys=[modest, greedy], metrics_key=metrics_key)


@contextmanager
def two_gateways(*, pause_s: float = 2.0) -> Iterator[LoadTarget]:
    """Two gateways on one Redis, of which one after the other is drained and started again."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tamvt-load-")))
        redis_url = stack.enter_context(running_redis(folder))
        environment = {**os.environ, "TAMVT_REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
        gateways = [
            StackGateway(find_free_port(), folder / f"gateway-{number}.log", environment)
            for number in range(2)
        ]
        # Children end with the thread that started them: those live as long as they may.
        threads = stack.enter_context(ThreadPoolExecutor(len(gateways)))
        for each in gateways:
            stack.callback(each.stop)
        list(threads.map(StackGateway.start, gateways))
        urls = [each.url for each in gateways]
        target = LoadTarget(urls[0], urls, hosts=urls)
        target.beside = lambda ended: threads.submit(
            restart_one_by_one, gateways, target, ended, pause_s=pause_s
        ).result()
        yield target


def restart_one_by_one(
    gateways: Sequence[StackGateway], target: LoadTarget, ended: threading.Event, *, pause_s: float
) -> None:
    """Drain and start one gateway after the other, at least one, until the users are done."""
    restarts, longest_s = 0, 0.0
    for each in itertools.cycle(gateways):
        if ended.wait(pause_s) and restarts:
            break
        begin_s = time.monotonic()
        each.stop()
        each.start()
        while not each.is_ready() and time.monotonic() < begin_s + READY_S:
            time.sleep(0.1)
        restarts, longest_s = restarts + 1, max(longest_s, time.monotonic() - begin_s)
    target.told.append(f"{restarts} restarts, each {longest_s:.1f} s at most")


@contextmanager
def beside_a_bad_neighbor() -> Iterator[LoadTarget]:
    """A gateway that somebody else sends the costliest requests that are known."""
    with gateway(threads=0) as (url, _):
        target = LoadTarget(url, [url])
        target.beside = lambda ended: send_costly(url, target, ended)
        yield target


def send_costly(
    url: str,
    target: LoadTarget,
    ended: threading.Event,
    *,
    list_requests: Callable[[httpx.Client], Iterator[Costly]] = list_requests,
) -> None:
    """Send one costly request after the other until the users are done."""
    statuses = Counter[str]()
    with httpx.Client(base_url=url, timeout=NEIGHBOR_TIMEOUT_S, trust_env=False) as http:
        requests = list(list_requests(http))
        for request in itertools.cycle(requests):
            if ended.is_set():
                break
            try:
                statuses[str(request.send(http).status_code)] += 1
            except httpx.HTTPError as error:
                statuses[type(error).__name__] += 1
    told = ", ".join(f"{count} times {status}" for status, count in sorted(statuses.items()))
    target.told.append(f"the neighbor sent {statuses.total()} costly requests: {told}")


STREAM = {"--clip-length": "1"}
SCENARIOS = (
    Scenario(
        name="rest",
        about="appends of 8 frames, as fast as they are answered",
        users=("RestUser",),
        count=4,
        serve=one_gateway,
    ),
    Scenario(
        name="lossless",
        about="a stream of 30 frames/s",
        users=("StreamUser",),
        count=1,
        options=STREAM,
        serve=one_gateway,
    ),
    Scenario(
        name="latest",
        about="four streams of 30 frames/s, the newest frame wins",
        users=("StreamUser",),
        count=4,
        options={**STREAM, "--mode": "latest"},
        serve=one_gateway,
    ),
    Scenario(
        name="mixed",
        about="sizes, numbers of objects and models by chance; streams of 5 frames/s and REST",
        users=("StreamUser", "RestUser"),
        count=4,
        options={"--fps": "5", "--session-frames": "16", "--models": "all"},
        serve=one_gateway,
    ),
    Scenario(
        name="churn",
        about="sessions of two frames: deleted, forked, or left without a word",
        users=("ChurnUser",),
        count=6,
        serve=one_gateway,
    ),
    Scenario(
        name="restart",
        about="two gateways are drained and started again in turns",
        users=("StreamUser",),
        count=2,
        options={**STREAM, "--fps": "10"},
        serve=two_gateways,
    ),
    Scenario(
        name="neighbor",
        about="streams of 5 frames/s beside one that sends costly requests",
        users=("StreamUser",),
        count=2,
        options={**STREAM, "--fps": "5"},
        serve=beside_a_bad_neighbor,
    ),
    Scenario(
        name="tenants",
        about="a tenant with a stream of 8 frames/s, its limit, beside one that has five",
        users=("ModestUser", "GreedyUser"),
        count=6,
        options={**STREAM, "--fps": "8"},
        serve=two_tenants,
    ),
    Scenario(
        name="network",
        about="`latest` at 30 frames/s through a relay that delays, stalls and cuts connections",
        users=("StreamUser",),
        count=2,
        options={**STREAM, "--mode": "latest", "--session-frames": "150"},
        serve=behind_a_bad_network,
    ),
)
