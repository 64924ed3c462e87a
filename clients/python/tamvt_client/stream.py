"""The Python client's stream: frames in, masks out, over as many connections as it takes.

docs/stream.md explains the protocol.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from tamvt_client import wire
from tamvt_client.addresses import credential, is_loopback
from tamvt_client.errors import (
    Busy,
    ClientError,
    Replaced,
    UnexpectedResponse,
    Unreachable,
    make_problem_error,
)
from tamvt_client.images import ImageInput, encode_image
from tamvt_client.messages import (
    DroppedMessage,
    DurableMessage,
    ErrorMessage,
    Problem,
    ReadyMessage,
    ServiceMessage,
    StatsMessage,
    StreamedMasks,
)
from tamvt_client.retry import Retry
from tamvt_client.send_window import Newest, Sending, Window


class TimedImage(NamedTuple):
    """An image with a timestamp in microseconds, below 2^53, that comes back with its masks."""

    image: ImageInput
    timestamp_us: int


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """How far a stream is, in frames; `connections` counts the first one and each resume."""

    answered: int = 0
    dropped: int = 0
    connections: int = 0


StreamImage: TypeAlias = ImageInput | TimedImage
StreamMode: TypeAlias = Literal["lossless", "latest"]
StreamMaskFormat: TypeAlias = Literal["rle", "png"]
OnProgress: TypeAlias = Callable[[StreamProgress], None]
OnStats: TypeAlias = Callable[[StatsMessage], None]
Put: TypeAlias = Callable[[StreamedMasks], Awaitable[None]]
GetTicket: TypeAlias = Callable[[], Awaitable[str]]

MAX_MESSAGE_BYTES: Final = 64_000_000
ENDED, IDLE, REPLACED, BROKEN = 1000, 4408, 4001, 1006
REFUSED: Final = 4000  # and the status of the problem


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream is asked for; `first_frame` is the number of the first frame to be sent.

    With `durable_s` the service commits at most so often, in seconds.
    """

    session_id: str
    first_frame: int
    mode: StreamMode
    masks: StreamMaskFormat
    max_wait_ms: float
    stats: bool = False
    durable_s: float | None = None

    def address(self, url: str, *, first: int, ticket: str | None) -> str:
        """Return the WebSocket's address, with masks from frame `first` on replayed."""
        query = f"mode={self.mode}&masks={self.masks}&max_wait_ms={self.max_wait_ms:g}&from={first}"
        ticket_part = f"&ticket={ticket}" if ticket else ""
        query += "&stats=true" if self.stats else ""
        query += f"&durable=interval:{self.durable_s:g}" if self.durable_s is not None else ""
        base = "ws" + url.removeprefix("http").rstrip("/")
        return f"{base}/v1/sessions/{self.session_id}/stream?{query}{ticket_part}"


class ResumingStream:
    """One stream over its connections."""

    def __init__(
        self,
        url: str,
        options: StreamOptions,
        *,
        retry: Retry,
        deadline_s: float,
        on_progress: OnProgress | None = None,
        on_stats: OnStats | None = None,
        get_ticket: GetTicket | None = None,
        key: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._options = options
        self._retry = retry
        self._deadline_s = deadline_s
        self._on_progress = on_progress
        self._on_stats = on_stats
        self._get_ticket = get_ticket
        self._key = key
        self._tls = tls
        sending = Window if options.mode == "lossless" else Newest
        self._sending: Sending = sending(until_committed=options.durable_s is not None)
        self._exhausted = False  # the source
        self._changed = asyncio.Event()
        self._missing = options.first_frame  # the first frame without an answer
        self._uncommitted: int | None = None  # the first frame not known to survive a failure
        self._progress = StreamProgress()

    async def run(self, frames: AsyncIterable[StreamImage], put: Put) -> None:
        """Gives the masks of each frame to `put`, in order, until all frames have an answer.

        Raises:
            ProblemResponse: the service refuses; what it has committed stays.
            Replaced: another stream took the session over.
            Unreachable, Busy: no progress in as many attempts as `retry` allows.
            What the source raised, once the frames before have their masks.
        """
        feeding = asyncio.create_task(self._feed(frames))
        try:
            await self._connect_until_done(put)
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _connect_until_done(self, put: Put) -> None:
        retrying = self._retry.retrying(lambda error: isinstance(error, Unreachable | Busy))
        async for attempt in retrying:
            with attempt:
                missing = self._missing
                try:
                    await self._run_connection(put)
                except (Unreachable, Busy):
                    if self._missing > missing:
                        attempt.retry_state.attempt_number = 1  # progress: counted anew
                    raise

    async def _feed(self, frames: AsyncIterable[StreamImage]) -> None:
        """Takes frames from the source as there is room for them."""
        number = self._options.first_frame
        try:
            async for frame in frames:
                while not self._sending.is_writable:
                    await self._change()
                self._sending.add(await asyncio.to_thread(_image_message, frame, number=number))
                number += 1
                self._changed.set()
        finally:
            self._exhausted = True
            self._changed.set()

    async def _run_connection(self, put: Put) -> None:
        """Run one connection until every frame has an answer."""
        async with self._connected() as socket:
            ready = await self._receive_ready(socket)
            self._sending.ready(next_frame=ready.next_frame, credits=ready.credits)
            self._commit(ready.next_frame - 1)
            self._advance(connections=1)
            sender = asyncio.create_task(self._send(socket))
            try:
                await self._receive_all(socket, put)
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        ticket = await self._get_ticket() if self._get_ticket is not None else None
        # websockets takes no None for wss://, and no context for ws://.
        tls: dict[str, Any] = {"ssl": self._tls or True} if self._url.startswith("https") else {}
        first = self._missing
        if self._options.durable_s is not None and self._uncommitted is not None:
            first = min(first, self._uncommitted)  # what was answered may be gone
        try:
            async with connect(
                self._options.address(self._url, first=first, ticket=ticket),
                subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=self._deadline_s,
                additional_headers=credential(self._key),
                proxy=None if is_loopback(self._url) else True,
                **tls,
            ) as socket:
                yield socket
        except ConnectionClosed as closed:
            raise _closed(closed) from closed
        except InvalidStatus as error:
            raise _refused(error) from error
        except (WebSocketException, OSError, TimeoutError, ImportError) as error:
            raise Unreachable(f"stream: {error or type(error).__name__}") from error

    async def _receive_ready(self, socket: ClientConnection) -> ReadyMessage:
        async with asyncio.timeout(self._deadline_s):
            while True:
                message = _read(await socket.recv())
                if isinstance(message, ReadyMessage):
                    return message
                self._receive(message)

    async def _send(self, socket: ClientConnection) -> None:
        """Send what the source gives, and the end; whether it arrives the answers tell."""
        try:
            while True:
                while (frame := self._sending.take()) is not None:
                    self._changed.set()
                    await socket.send(wire.write_image(frame, kind=wire.FRAME))
                if self._exhausted and self._sending.is_sent:
                    await socket.send(wire.write_end())
                    return
                await self._change()
        except ConnectionClosed:
            return

    async def _receive_all(self, socket: ClientConnection, put: Put) -> None:
        try:
            while True:
                message = _read(await socket.recv())
                if not isinstance(message, StreamedMasks):
                    self._receive(message)
                    continue
                if self._options.masks == "png":
                    message = _with_png(message, await socket.recv())
                self._sending.answered(message.frame, message.clip)
                if message.durable is not None:
                    self._commit(message.durable)
                if self._is_new(message.frame):
                    await put(message)
        except ConnectionClosed as closed:
            if closed.rcvd is None or closed.rcvd.code != ENDED:
                raise

    def _receive(self, message: ServiceMessage | None) -> None:
        match message:
            case ErrorMessage(problem=problem):
                raise make_problem_error(problem)
            case DroppedMessage(frames=frames):
                for frame in frames:
                    self._sending.dropped(frame)
                fresh = sum(frame >= self._missing for frame in frames)
                self._missing = max([self._missing, *(frame + 1 for frame in frames)])
                self._advance(dropped=fresh)
            case DurableMessage(frame=frame):
                self._commit(frame)
            case StatsMessage() if self._on_stats is not None:
                self._on_stats(message)

    def _commit(self, frame: int) -> None:
        """Note that the frames up to this one survive a failure."""
        self._uncommitted = max(self._uncommitted or 0, frame + 1)
        self._sending.committed(frame)
        self._changed.set()

    def _is_new(self, frame: int) -> bool:
        """Return whether these masks have not been given out before; they count as answered."""
        new = frame >= self._missing
        if new:
            self._missing = frame + 1
        self._advance(answered=int(new))
        return new

    def _advance(self, *, answered: int = 0, dropped: int = 0, connections: int = 0) -> None:
        before = self._progress
        self._progress = StreamProgress(
            answered=before.answered + answered,
            dropped=before.dropped + dropped,
            connections=before.connections + connections,
        )
        self._changed.set()
        if self._on_progress is not None and self._progress != before:
            self._on_progress(self._progress)

    async def _change(self) -> None:
        """Wait until something changes."""
        self._changed.clear()
        await self._changed.wait()


async def stream_masks(
    stream: ResumingStream, frames: AsyncIterable[StreamImage]
) -> AsyncGenerator[StreamedMasks, None]:
    """Give the masks as they come; what is not taken yet waits here, and then at the service."""
    ready: asyncio.Queue[StreamedMasks | None] = asyncio.Queue(maxsize=64)

    async def run() -> None:
        try:
            await stream.run(frames, ready.put)
        finally:
            await ready.put(None)

    running = asyncio.create_task(run())
    try:
        while (masks := await ready.get()) is not None:
            yield masks
        await running
    finally:
        running.cancel()
        while not ready.empty():  # room for the None of what is cancelled
            ready.get_nowait()
        await asyncio.gather(running, return_exceptions=True)


def _image_message(frame: StreamImage, *, number: int) -> wire.ImageMessage:
    """Return a frame as it is sent; without a timestamp of its own it gets the time of now."""
    if isinstance(frame, TimedImage):
        return wire.ImageMessage(number, frame.timestamp_us, encode_image(frame.image))
    return wire.ImageMessage(number, time.time_ns() // 1000, encode_image(frame))


def _read(data: str | bytes) -> ServiceMessage | None:
    """Return a text message; None for a kind that is not known here."""
    if isinstance(data, bytes):
        raise UnexpectedResponse("a binary message where none is due")
    try:
        return wire.read_service_message(data)
    except wire.WireError as error:
        raise UnexpectedResponse(str(error)) from error


def _with_png(masks: StreamedMasks, data: str | bytes) -> StreamedMasks:
    """Return the masks with the label map that follows them."""
    if isinstance(data, str):
        raise UnexpectedResponse("masks without the label map that was asked for")
    try:
        image = wire.read_image(data, kind=wire.LABEL_MAP)
    except wire.WireError as error:
        raise UnexpectedResponse(f"masks: {error}") from error
    return masks.model_copy(update={"png": image.image})


def _closed(closed: ConnectionClosed) -> ClientError:
    """Return what a close code means."""
    code = BROKEN if closed.rcvd is None else closed.rcvd.code
    reason = "the connection broke" if closed.rcvd is None else closed.rcvd.reason
    if code == REPLACED:
        return Replaced("another stream took the session over")
    if code > REFUSED and code != IDLE:
        return make_problem_error(Problem(status=code - REFUSED, detail=reason))
    return Unreachable(f"the stream was closed with {code}: {reason}")


def _refused(error: InvalidStatus) -> ClientError:
    """Return the error of a handshake that was answered with a status, at best a problem."""
    response = error.response
    if response.status_code >= 500:
        return Unreachable(f"stream: status {response.status_code}")
    try:
        return make_problem_error(Problem.model_validate_json(response.body or b""))
    except ValidationError:
        return make_problem_error(
            Problem(status=response.status_code, title=response.reason_phrase)
        )
