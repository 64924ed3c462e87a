"""Stopping a gateway under load: real processes, one Redis, nothing lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.image_headers import ImageLimits
from model.core.palette import read_label_map
from tamvt_client import (
    AsyncClient,
    FrameMasksOut,
    ImageInput,
    Retry,
    StreamedMasks,
    StreamMaskFormat,
    StreamProgress,
)
from tests.service.stream.balancer import balanced
from tests.service.stream.talk import PATIENT, small_socket, talk
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, Running, problem, running_service

pytestmark = pytest.mark.anyio
PATIENT_RETRY = Retry(attempts=40, first_s=0.05, most_s=0.5)
FRAMES = 200
SIZE = (scene.HEIGHT, scene.WIDTH)
LAST_ONES = 181  # from this frame on they wait for the last restart


def test_streams_end_with_a_goodbye_and_what_is_whole(tmp_path: Path, toy_folder: Path) -> None:
    settings = {"TAMVT_SHUTDOWN_GRACE_S": "1000"}
    with running_service(state=tmp_path, weights=toy_folder, settings=settings) as running:
        with httpx.Client(base_url=running.url, timeout=PATIENCE_S) as http:
            session = Api(http).start()
        with talk(running.url, session) as stream:
            stream.send_frames([1, 2, 3, 4, 5])
            stream.hear_masks(4)
            running.process.send_signal(signal.SIGTERM)
            assert stream.hear() == {"type": "bye", "reason": "shutdown", "resume": True}
            assert stream.hear_close() == 1012
        assert running.process.wait(timeout=PATIENCE_S) == 0  # far less than its grace
    with (
        running_service(state=tmp_path, weights=toy_folder) as running,
        talk(running.url, session, from_=1) as stream,
    ):
        assert stream.heard[0]["next_frame"] == 5
        stream.hear_masks(4)


def test_readiness_fails_before_anything_is_closed(tmp_path: Path, toy_folder: Path) -> None:
    settings = {"TAMVT_SHUTDOWN_DELAY_S": "5"}
    with (
        running_service(state=tmp_path, weights=toy_folder, settings=settings) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE_S) as http,
    ):
        session = Api(http).start()
        with talk(running.url, session) as stream:
            running.process.send_signal(signal.SIGTERM)
            while (answer := http.get("/readyz")).status_code == 200:
                time.sleep(0.02)
            assert problem(answer) == (503, "overloaded")
            stream.send_frames([1, 2])
            stream.hear_masks(2)
            assert stream.hear_close() == 1012
        assert running.process.wait(timeout=PATIENCE_S) == 0


def test_a_client_that_does_not_read_delays_no_shutdown(tmp_path: Path, toy_folder: Path) -> None:
    settings = {"TAMVT_SHUTDOWN_GRACE_S": "2", "TAMVT_STREAM_STALL_S": "1000"}
    with running_service(state=tmp_path, weights=toy_folder, settings=settings) as running:
        with httpx.Client(base_url=running.url, timeout=PATIENCE_S) as http:
            api = Api(http)
            session = api.start()
            for first in range(1, 301, 60):
                api.append(session, [scene.jpeg(n) for n in range(first, first + 60)], first=first)
        with (
            small_socket(running.url) as wire,
            talk(running.url, session, ready=False, sock=wire, from_=0, masks="png"),
        ):
            time.sleep(0.5)  # more is on its way than the client takes
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(timeout=PATIENCE_S) == 0  # about three alone


async def test_a_rolling_restart_loses_no_mask(
    tmp_path: Path, toy_folder: Path, redis_url: str
) -> None:
    settings = {"TAMVT_REDIS_URL": redis_url}
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:

        def gateway(name: str) -> Running:
            service = running_service(state=tmp_path / name, weights=toy_folder, settings=settings)
            return stack.enter_context(service)

        async with balanced() as balancer, asyncio.TaskGroup() as group:
            old = [gateway("a"), gateway("b")]
            balancer.targets = [running.url for running in old]
            clients = [Viewer(), Viewer()]
            kinds: tuple[StreamMaskFormat, ...] = ("rle", "png")
            tasks = [
                group.create_task(client.track(balancer.url, masks=masks))
                for client, masks in zip(clients, kinds, strict=True)
            ]
            for index, running in enumerate(old):
                await asyncio.gather(*(client.hears_more() for client in clients))
                fresh = await loop.run_in_executor(None, gateway, f"new{index}")
                running.process.send_signal(signal.SIGTERM)
                balancer.targets.insert(0, fresh.url)
                balancer.targets.remove(running.url)
                assert await loop.run_in_executor(None, running.process.wait, PATIENCE_S) == 0
            for client in clients:
                client.may_end.set()
            found = await asyncio.gather(*tasks)
            for masks in found:
                assert [item.frame for item in masks] == list(range(1, FRAMES + 1))
            assert all(client.progress.connections > 1 for client in clients)
            undisturbed = await appended(balancer.url)
            expected = [item.label_map(SIZE) for item in undisturbed]
            for masks in found:
                assert all(map(np.array_equal, map(labels_of, masks), expected))


def labels_of(item: FrameMasksOut) -> NDArray[np.uint8]:
    """The label map (H, W) of one answer, from its RLEs or its PNG."""
    if isinstance(item, StreamedMasks) and item.png is not None:
        return read_label_map(item.png, ImageLimits())
    return item.label_map(SIZE)


class Viewer:
    """Somebody whose stream goes on for as long as gateways are restarted."""

    def __init__(self) -> None:
        self.progress = StreamProgress()
        self.may_end = asyncio.Event()

    async def hears_more(self) -> None:
        """Nothing, once some more frames are answered, if they are not almost all."""
        enough = min(self.progress.answered + 16, LAST_ONES - 8)
        while self.progress.answered < enough:  # noqa: ASYNC110  (told by a plain function)
            await asyncio.sleep(0.01)

    async def track(self, url: str, *, masks: StreamMaskFormat) -> list[FrameMasksOut]:
        """The masks of a stream that is interrupted."""
        async with AsyncClient(url, retry=PATIENT_RETRY) as client:
            session = await client.start(scene.png(0), scene.mask())
            stream = client.stream(
                session.session_id,
                self._paced(),
                masks=masks,
                max_wait_ms=PATIENT,
                on_progress=self._watch,
            )
            found: list[FrameMasksOut] = [item async for item in stream]
            stored = [item async for item in client.masks(session.session_id, first=1)]
            assert [item.frame for item in stored] == [item.frame for item in found]
        return found

    def _watch(self, now: StreamProgress) -> None:
        self.progress = now

    async def _paced(self) -> AsyncIterator[ImageInput]:
        for number in range(1, FRAMES + 1):
            if number == LAST_ONES:
                await self.may_end.wait()
            await asyncio.sleep(0.03)
            yield scene.jpeg(number)


async def appended(url: str) -> list[FrameMasksOut]:
    async def frames() -> AsyncIterator[ImageInput]:
        for number in range(1, FRAMES + 1):
            yield scene.jpeg(number)

    async with AsyncClient(url) as client:
        session = await client.start(scene.png(0), scene.mask())
        return [item async for item in client.track(session.session_id, frames())]
