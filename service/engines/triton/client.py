"""The connection to one Triton: what it serves, whether it answers, and its errors as ours.

While Triton is away every call fails at once, and a task retries until it is back. Then its models
are compared with the contract again: it may have been restarted with other weights.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from opentelemetry.propagate import inject
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from model.core.contract import ModelSpec, weights_version
from service.engines.pool import QueueWait
from service.engines.triton.models import (
    AWAY,
    CONTROL_DEADLINE_S,
    Served,
    compare,
    line_of,
    name_status,
    register,
)
from service.errors import EngineUnavailable, ModelMismatch, Overloaded
from service.telemetry.call_times import CallTimes

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_MOST_S = 0.1, 1.0
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # A server closes the connection of a client that pings more often than every five minutes.
    ("grpc.keepalive_time_ms", 2**31 - 1),
]


class Lost(EngineUnavailable):
    """No answer: the model may have run, or may still be running."""


class UnknownRegion(Exception):
    """Triton was restarted and does not know the region. The request did not run."""


class UnknownWeights(EngineUnavailable):
    """Triton does not serve these weights any more. The request did not run."""


class Answer(NamedTuple):
    """What Triton answers, and in which time: its own queue included, ours not."""

    result: InferResult
    took_s: float


@asynccontextmanager
async def triton_client(
    url: str,
    name: str,
    *,
    start_deadline_s: float,
    clip_deadline_s: float,
    in_flight: int,
    waiting: int,
) -> AsyncIterator[TritonClient]:
    """Open a client for the model `name`; raise ModelMismatch, EngineUnavailable."""
    client = TritonClient(
        url, name, in_flight=in_flight, waiting=waiting, clip_deadline_s=clip_deadline_s
    )
    try:
        await client.connect(deadline_s=start_deadline_s)
        yield client
    finally:
        await client.close()


class TritonClient:
    """A client of one Triton, for one process and its event loop."""

    def __init__(
        self, url: str, name: str, *, in_flight: int, waiting: int, clip_deadline_s: float
    ) -> None:
        self._url, self._name = url, name
        self._clip_deadline_s = clip_deadline_s
        self._client = InferenceServerClient(url, channel_args=CHANNEL)
        self._served: Served | None = None
        self._away = ""  # why, while Triton is away
        self._recovery: asyncio.Task[None] | None = None
        self._running = asyncio.Semaphore(in_flight)
        self._in_flight, self._most = in_flight, in_flight + waiting
        self._free = self._most  # requests that may still come
        self.wait = QueueWait()  # for one of the requests in flight
        self.calls = CallTimes("triton")

    @property
    def waiting(self) -> int:
        """How many requests wait to be sent."""
        return max(0, self._most - self._free - self._in_flight)

    @property
    def running(self) -> int:
        """How many requests Triton has."""
        return min(self._most - self._free, self._in_flight)

    @property
    def served(self) -> Served:
        """Return what Triton serves, as it was compared last."""
        assert self._served is not None
        return self._served

    async def connect(self, *, deadline_s: float) -> None:
        """Wait for Triton and compare what it serves; raise ModelMismatch, EngineUnavailable."""
        pause_s = RETRY_FIRST_S
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    try:
                        self._served = await compare(self._client, self._name)
                        return
                    except EngineUnavailable as error:
                        self._away = str(error)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, RETRY_MOST_S)
        except TimeoutError as error:
            raise EngineUnavailable(
                f"no Triton with the model {self._name!r} at {self._url} within {deadline_s:g} s: "
                f"{self._away}"
            ) from error
        finally:
            if self._served is not None:
                self._away = ""

    async def close(self) -> None:
        """Close the connection and cancel the requests in flight."""
        self._away = "the engine is shutting down"
        if self._recovery is not None:
            self._recovery.cancel()
            with suppress(asyncio.CancelledError):
                await self._recovery
        await self._client.close()

    async def ready(self) -> None:
        """Raise EngineUnavailable unless Triton serves the model."""
        self._check()
        try:
            served = self.served.spec
            version = str(weights_version(served))
            for verb in ("memorize", "segment"):
                if not await self._client.is_model_ready(
                    served.graph(verb), version, client_timeout=CONTROL_DEADLINE_S
                ):
                    raise EngineUnavailable(f"Triton does not serve {served.graph(verb)}")
        except InferenceServerException as error:
            self._go_away(line_of(error))
            raise EngineUnavailable(f"Triton: {line_of(error)}") from error

    async def infer(
        self,
        spec: ModelSpec,
        verb: str,
        inputs: Sequence[InferInput],
        outputs: Sequence[InferRequestedOutput],
    ) -> Answer:
        """Return the answer of one graph of `spec`.

        Raise UnknownRegion, UnknownWeights, Overloaded or EngineUnavailable if the request did not
        run, and Lost if it may have (decision 27).
        """
        self._check()
        if not self._free:
            raise Overloaded("too many clips wait for Triton")
        self._free -= 1
        deadline_s = self._clip_deadline_s
        started_at = time.monotonic()
        try:
            try:
                async with asyncio.timeout(deadline_s):
                    await self._running.acquire()
            except TimeoutError as error:
                raise Overloaded(f"Triton was busy for {deadline_s:g} s") from error
            sent_at = time.monotonic()
            self.wait.note(sent_at - started_at)
            try:
                left_s = max(0.001, deadline_s - (sent_at - started_at))
                result = await self._infer(spec, verb, inputs, outputs, left_s=left_s)
                return Answer(result, time.monotonic() - sent_at)
            finally:
                self._running.release()
        finally:
            self._free += 1

    async def register(self, name: str, nbytes: int) -> None:
        """See `regions.RegionRegistry`."""
        self._check()
        try:
            await register(self._client, name, nbytes)
        except InferenceServerException as error:
            self._raise_if_away(error)

    async def forget(self, name: str) -> bool:
        """See `regions.RegionRegistry`.

        A newer Triton agrees at once and forgets later, so its list is asked (decision 26).
        """
        self._check()
        try:
            await self._client.unregister_system_shared_memory(  # decision 26
                name, client_timeout=CONTROL_DEADLINE_S
            )
            await self._client.get_system_shared_memory_status(
                name, client_timeout=CONTROL_DEADLINE_S
            )
        except InferenceServerException as error:
            self._raise_if_away(error)
            return name_status(error) == "NOT_FOUND"
        return False

    async def names(self) -> tuple[str, ...]:
        """See `regions.RegionRegistry`."""
        self._check()
        try:
            answer = await self._client.get_system_shared_memory_status(
                client_timeout=CONTROL_DEADLINE_S
            )
        except InferenceServerException as error:
            self._raise_if_away(error)
            return ()
        return tuple(answer.regions)

    async def _infer(
        self,
        spec: ModelSpec,
        verb: str,
        inputs: Sequence[InferInput],
        outputs: Sequence[InferRequestedOutput],
        *,
        left_s: float,
    ) -> InferResult:
        try:
            with self.calls.measure(verb):
                headers: dict[str, str] = {}
                inject(headers)  # Triton goes on with the trace
                return await self._client.infer(
                    spec.graph(verb),
                    list(inputs),
                    model_version=str(weights_version(spec)),
                    outputs=list(outputs),
                    headers=headers,
                    timeout=int(left_s * 1e6),  # of Triton's queue
                    client_timeout=left_s,
                )
        except InferenceServerException as error:
            raise self._translate(error, left_s=left_s) from error

    def _translate(self, error: InferenceServerException, *, left_s: float) -> Exception:
        """Return Triton's error as ours, and start a recovery if Triton seems away."""
        status, line = name_status(error), line_of(error)
        if status == "NOT_FOUND" and "shared memory region" in line:  # decision 27
            return UnknownRegion(line)
        if status == "NOT_FOUND" or "no available versions" in line:
            self._go_away(line)
            return UnknownWeights(f"Triton: {line}")
        if status == "UNAVAILABLE" and ("queue" in line or "timeout expired" in line):
            return Overloaded(f"Triton: {line}")
        if status == "DEADLINE_EXCEEDED":
            if not self._away and (self._recovery is None or self._recovery.done()):
                self._recovery = asyncio.create_task(self._check_alive())
            return Lost(f"no masks within {left_s:.3g} s")
        if status in ("UNAVAILABLE", "CANCELLED"):
            self._go_away(line)
            return Lost(f"Triton: {line}", retry_after_s=RETRY_MOST_S)
        return EngineUnavailable(f"the model failed: {line}")

    def _check(self) -> None:
        """Raise EngineUnavailable while Triton is away."""
        if self._away:
            raise EngineUnavailable(f"Triton is away: {self._away}", retry_after_s=RETRY_MOST_S)

    def _raise_if_away(self, error: InferenceServerException) -> None:
        """Raise EngineUnavailable if the error says that Triton does not answer."""
        if name_status(error) in AWAY:
            self._go_away(line_of(error))
            raise EngineUnavailable(f"Triton: {line_of(error)}") from error

    def _go_away(self, reason: str) -> None:
        """Let every call fail at once, and retry until Triton answers."""
        if not self._away:
            log.warning("Triton is away: %s", reason)
            self._away = reason
            self._recovery = asyncio.create_task(self._recover())

    async def _check_alive(self) -> None:
        """Find out, after a clip that took too long, whether Triton is away."""
        try:
            await self._client.is_server_live(client_timeout=CONTROL_DEADLINE_S)
        except InferenceServerException as error:
            log.warning("Triton is away: %s", line_of(error))
            self._away = line_of(error)
            await self._recover()

    async def _recover(self) -> None:
        """Retry until Triton is back with a model that keeps the contract."""
        pause_s = RETRY_FIRST_S
        while self._away:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MOST_S)
            try:
                self._served = await compare(self._client, self._name)
            except (EngineUnavailable, ModelMismatch) as error:
                self._away = str(error)
            else:
                self._away = ""
                log.warning("Triton is back")
