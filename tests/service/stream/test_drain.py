"""Stopping a gateway under load: real processes, one Redis, nothing lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.client import AsyncClient
from service.client_calls import Retry
from service.client_types import FrameMasks, Image, Progress
from tests import scene
from tests.running import Api, Running, problem, running_service
from tests.service.stream.balancer import balanced
from tests.service.stream.talk import PATIENT, small_socket, talk

pytestmark = pytest.mark.anyio
PATIENT_RETRY = Retry(attempts=40, first_s=0.05, most_s=0.5)
FRAMES = 200


def test_streams_end_with_a_goodbye_and_what_is_whole(tmp_path: Path, toy_folder: Path) -> None:
    with running_service(state=tmp_path, weights=toy_folder) as running:
        with httpx.Client(base_url=running.url, timeout=30) as http:
            session = Api(http).start()
        with talk(running.url, session) as stream:
            stream.send_frames([1, 2, 3, 4, 5])
            stream.hear_masks(4)
            begin = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            assert stream.hear() == {"type": "bye", "reason": "shutdown", "resume": True}
            assert stream.hear_close() == 1012
        assert running.process.wait(timeout=20) == 0
        assert time.monotonic() - begin < 5
    with (
        running_service(state=tmp_path, weights=toy_folder) as running,
        talk(running.url, session, from_=1) as stream,
    ):
        assert stream.heard[0]["next_frame"] == 5
        stream.hear_masks(4)


def test_readiness_fails_before_anything_is_closed(tmp_path: Path, toy_folder: Path) -> None:
    settings = {"TAMVT_SHUTDOWN_DELAY_S": "1"}
    with (
        running_service(state=tmp_path, weights=toy_folder, settings=settings) as running,
        httpx.Client(base_url=running.url, timeout=30) as http,
    ):
        session = Api(http).start()
        with talk(running.url, session) as stream:
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert problem(http.get("/readyz")) == (503, "overloaded")
            stream.send_frames([1, 2])
            stream.hear_masks(2)
            assert stream.hear_close() == 1012
        assert running.process.wait(timeout=20) == 0


def test_a_client_that_does_not_read_delays_no_shutdown(tmp_path: Path, toy_folder: Path) -> None:
    settings = {"TAMVT_SHUTDOWN_GRACE_S": "2", "TAMVT_STREAM_STALL_S": "100"}
    with running_service(state=tmp_path, weights=toy_folder, settings=settings) as running:
        with httpx.Client(base_url=running.url, timeout=30) as http:
            api = Api(http)
            session = api.start()
            for first in range(1, 301, 60):
                api.append(session, [scene.jpeg(n) for n in range(first, first + 60)], first=first)
        with (
            small_socket(running.url) as wire,
            talk(running.url, session, ready=False, sock=wire, from_=0, masks="png"),
        ):
            time.sleep(0.5)  # more is on its way than the client takes
            begin = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(timeout=40) == 0
            assert time.monotonic() - begin < 20  # on a busy machine; about three alone


async def test_a_rolling_restart_loses_no_mask(
    tmp_path: Path, toy_folder: Path, redis_url: str
) -> None:
    settings = {"TAMVT_REDIS_URL": redis_url}
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:

        def gateway(name: str) -> Running:
            service = running_service(state=tmp_path / name, weights=toy_folder, settings=settings)
            return stack.enter_context(service)

        async with balanced() as balancer:
            old = [gateway("a"), gateway("b")]
            balancer.targets = [running.url for running in old]
            clients = [asyncio.create_task(track(balancer.url, masks)) for masks in ("rle", "png")]
            for index, running in enumerate(old):
                await asyncio.sleep(0.7)
                fresh = await loop.run_in_executor(None, gateway, f"new{index}")
                running.process.send_signal(signal.SIGTERM)
                balancer.targets.insert(0, fresh.url)
                balancer.targets.remove(running.url)
                assert await loop.run_in_executor(None, running.process.wait, 20) == 0
            found = await asyncio.gather(*clients)
            for masks, connections in found:
                assert [item.frame for item in masks] == list(range(1, FRAMES + 1))
                assert connections > 1
            undisturbed = await appended(balancer.url)
            areas = [[item.area for item in masks.objects] for masks in undisturbed]
            for masks, _ in found:
                assert [[part.area for part in item.objects] for item in masks] == areas


async def track(url: str, masks: str) -> tuple[list[FrameMasks], int]:
    """The masks of a stream that is interrupted, and how many connections it took."""
    progress = Progress()

    def watch(now: Progress) -> None:
        nonlocal progress
        progress = now

    async with AsyncClient(url, retry=PATIENT_RETRY) as client:
        session = await client.start(scene.png(0), scene.mask())
        stream = client.stream(
            session.session_id,
            paced(),
            masks="png" if masks == "png" else "rle",
            max_wait_ms=PATIENT,
            on_progress=watch,
        )
        found: list[FrameMasks] = [item async for item in stream]
        stored = [item async for item in client.masks(session.session_id, first=1)]
        assert [item.frame for item in stored] == [item.frame for item in found]
    return found, progress.connections


async def paced() -> AsyncIterator[Image]:
    for number in range(1, FRAMES + 1):
        await asyncio.sleep(0.03)
        yield scene.jpeg(number)


async def appended(url: str) -> list[FrameMasks]:
    async def frames() -> AsyncIterator[Image]:
        for number in range(1, FRAMES + 1):
            yield scene.jpeg(number)

    async with AsyncClient(url) as client:
        session = await client.start(scene.png(0), scene.mask())
        return [item async for item in client.track(session.session_id, frames())]
