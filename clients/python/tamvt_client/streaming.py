"""The Python client's stream: frames in, masks out, over as many connections as it takes.

`Streaming` does the work for `AsyncClient.stream` and, in a thread of its own, for
`Client.stream`. docs/stream.md explains the protocol.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypedDict

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from service.errors import BadMessage
from tamvt_client import wire
from tamvt_client.calls import Retry, image_bytes
from tamvt_client.errors import (
    Busy,
    ClientError,
    Problem,
    Replaced,
    UnexpectedResponse,
    Unreachable,
    problem_error,
)
from tamvt_client.send_window import Newest, Sending, Window
from tamvt_client.values import Image, Progress, StreamedMasks, TimedImage

StreamImage: TypeAlias = Image | TimedImage
Mode: TypeAlias = Literal["lossless", "latest"]
MaskKind: TypeAlias = Literal["rle", "png"]
OnProgress: TypeAlias = Callable[[Progress], None]
Put: TypeAlias = Callable[[StreamedMasks], Awaitable[None]]
GetTicket: TypeAlias = Callable[[], Awaitable[str]]

MAX_ANSWER_BYTES: Final = 64_000_000
ENDED, IDLE, REPLACED, BROKEN = 1000, 4408, 4001, 1006
REFUSED: Final = 4000  # and the status of the problem


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream is asked for; `first_frame` is the number of the first frame to be sent."""

    session_id: str
    first_frame: int = 1
    mode: Mode = "lossless"
    masks: MaskKind = "rle"
    max_wait_ms: float = 50.0

    def address(self, url: str, *, first: int, ticket: str | None) -> str:
        """The WebSocket's address, with masks from frame `first` on replayed."""
        query = f"mode={self.mode}&masks={self.masks}&max_wait_ms={self.max_wait_ms:g}&from={first}"
        ticket_part = f"&ticket={ticket}" if ticket else ""
        base = "ws" + url.removeprefix("http").rstrip("/")
        return f"{base}/v1/sessions/{self.session_id}/stream?{query}{ticket_part}"


class StreamOptionsDict(TypedDict, total=False):
    """The members of `StreamOptions` that a client's user may give."""

    first_frame: int
    mode: Mode
    masks: MaskKind
    max_wait_ms: float


class Streaming:
    """One stream over its connections."""

    def __init__(
        self,
        url: str,
        options: StreamOptions,
        *,
        retry: Retry,
        deadline_s: float,
        on_progress: OnProgress | None = None,
        get_ticket: GetTicket | None = None,
    ) -> None:
        self._url = url
        self._options = options
        self._retry = retry
        self._deadline_s = deadline_s
        self._on_progress = on_progress
        self._get_ticket = get_ticket
        self._sending: Sending = Window() if options.mode == "lossless" else Newest()
        self._exhausted = False  # the source
        self._changed = asyncio.Event()
        self._missing = options.first_frame  # the first frame without an answer
        self._progress = Progress()

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
        attempt = 0
        while True:
            missing = self._missing
            try:
                await self._connection(put)
            except (Unreachable, Busy) as error:
                attempt = 1 if self._missing > missing else attempt + 1
                if attempt >= self._retry.attempts:
                    raise
                at_least_s = error.retry_after_s if isinstance(error, Busy) else 0.0
                await asyncio.sleep(self._retry.wait_s(attempt, at_least_s=at_least_s))
            else:
                return

    async def _feed(self, frames: AsyncIterable[StreamImage]) -> None:
        """Takes frames from the source as there is room for them."""
        number = self._options.first_frame
        try:
            async for frame in frames:
                while not self._sending.is_writable:
                    await self._change()
                self._sending.add(await asyncio.to_thread(_picture, frame, number=number))
                number += 1
                self._changed.set()
        finally:
            self._exhausted = True
            self._changed.set()

    async def _connection(self, put: Put) -> None:
        """One connection; it returns where every frame has an answer."""
        async with self._connected() as socket:
            ready = await self._ready(socket)
            self._sending.ready(next_frame=ready["next_frame"], credits=ready["credits"])
            self._advance(connections=1)
            sender = asyncio.create_task(self._send(socket))
            try:
                await self._hear_all(socket, put)
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        ticket = await self._get_ticket() if self._get_ticket is not None else None
        try:
            async with connect(
                self._options.address(self._url, first=self._missing, ticket=ticket),
                subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
                compression=None,
                max_size=MAX_ANSWER_BYTES,
                open_timeout=self._deadline_s,
            ) as socket:
                yield socket
        except ConnectionClosed as closed:
            raise _closed(closed) from closed
        except InvalidStatus as error:
            raise _refused(error) from error
        except (WebSocketException, OSError, TimeoutError) as error:
            raise Unreachable(f"stream: {error or type(error).__name__}") from error

    async def _ready(self, socket: ClientConnection) -> dict[str, Any]:
        async with asyncio.timeout(self._deadline_s):
            while True:
                message = _message(await socket.recv())
                if message["type"] == "ready":
                    return message
                self._hear(message)

    async def _send(self, socket: ClientConnection) -> None:
        """Sends what the source gives, and the end; whether it arrives the answers tell."""
        try:
            while True:
                while (picture := self._sending.take()) is not None:
                    self._changed.set()
                    await socket.send(wire.write_picture(picture, kind=wire.FRAME))
                if self._exhausted and self._sending.is_sent:
                    await socket.send(wire.write_end())
                    return
                await self._change()
        except ConnectionClosed:
            return

    async def _hear_all(self, socket: ClientConnection, put: Put) -> None:
        try:
            while True:
                message = _message(await socket.recv())
                if message["type"] != "masks":
                    self._hear(message)
                    continue
                png = await socket.recv() if self._options.masks == "png" else None
                masks = _masks(message, png)
                if self._is_new(masks.frame):
                    await put(masks)
        except ConnectionClosed as closed:
            if closed.rcvd is None or closed.rcvd.code != ENDED:
                raise

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"type": "error", "problem": dict(problem)}:
                raise problem_error(Problem.model_validate(problem))
            case {"type": "dropped", "frames": list(frames)}:
                for frame in frames:
                    self._sending.answered(frame)
                fresh = sum(frame >= self._missing for frame in frames)
                self._missing = max([self._missing, *(frame + 1 for frame in frames)])
                self._advance(dropped=fresh)
            case {"type": "credit", "n": int(more)}:
                self._sending.credit(more)
                self._changed.set()

    def _is_new(self, frame: int) -> bool:
        """Whether these masks have not been given out before; they count as answered."""
        self._sending.answered(frame)
        new = frame >= self._missing
        if new:
            self._missing = frame + 1
        self._advance(answered=int(new))
        return new

    def _advance(self, *, answered: int = 0, dropped: int = 0, connections: int = 0) -> None:
        before = self._progress
        self._progress = Progress(
            answered=before.answered + answered,
            dropped=before.dropped + dropped,
            connections=before.connections + connections,
        )
        self._changed.set()
        if self._on_progress is not None and self._progress != before:
            self._on_progress(self._progress)

    async def _change(self) -> None:
        """Nothing, once something has changed since the last call."""
        self._changed.clear()
        await self._changed.wait()


async def stream_masks(
    streaming: Streaming, frames: AsyncIterable[StreamImage]
) -> AsyncGenerator[StreamedMasks, None]:
    """The masks as they come; what is not taken yet waits here, and then at the service."""
    found: asyncio.Queue[StreamedMasks | None] = asyncio.Queue(maxsize=64)

    async def run() -> None:
        try:
            await streaming.run(frames, found.put)
        finally:
            await found.put(None)

    running = asyncio.create_task(run())
    try:
        while (masks := await found.get()) is not None:
            yield masks
        await running
    finally:
        running.cancel()
        while not found.empty():  # room for the last word of what is cancelled
            found.get_nowait()
        await asyncio.gather(running, return_exceptions=True)


def _picture(frame: StreamImage, *, number: int) -> wire.Picture:
    """A frame as it is sent; without a timestamp of its own it gets the time of now."""
    if isinstance(frame, TimedImage):
        return wire.Picture(number, frame.timestamp_us, image_bytes(frame.image))
    return wire.Picture(number, time.time_ns() // 1000, image_bytes(frame))


def _message(data: str | bytes) -> dict[str, Any]:
    try:
        message = json.loads(data) if isinstance(data, str) else None
    except ValueError as error:
        raise UnexpectedResponse(f"a message that is no JSON: {error}") from error
    if not isinstance(message, dict) or "type" not in message:
        raise UnexpectedResponse("a message without a type")
    return message


def _masks(message: dict[str, Any], png: str | bytes | None) -> StreamedMasks:
    try:
        masks = StreamedMasks.model_validate(message)
        if not isinstance(png, bytes):
            return masks
        picture = wire.read_picture(png, kind=wire.LABEL_MAP)
    except (ValidationError, BadMessage) as error:
        raise UnexpectedResponse(f"masks: {error}") from error
    return masks.model_copy(update={"png": picture.image})


def _closed(closed: ConnectionClosed) -> ClientError:
    """What a close code means."""
    code = BROKEN if closed.rcvd is None else closed.rcvd.code
    reason = "the connection broke" if closed.rcvd is None else closed.rcvd.reason
    if code == REPLACED:
        return Replaced("another stream took the session over")
    if code > REFUSED and code != IDLE:
        return problem_error(Problem(status=code - REFUSED, detail=reason))
    return Unreachable(f"the stream was closed with {code}: {reason}")


def _refused(error: InvalidStatus) -> ClientError:
    """A handshake that was answered with a status; the service's own come with a problem."""
    response = error.response
    if response.status_code >= 500:
        return Unreachable(f"stream: status {response.status_code}")
    try:
        return problem_error(Problem.model_validate_json(response.body or b""))
    except ValidationError:
        return problem_error(Problem(status=response.status_code, title=response.reason_phrase))
