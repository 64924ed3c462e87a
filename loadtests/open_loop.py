"""Streams whose frames come when a camera would give them, however late the answers are.

    python -m loadtests.open_loop URL [--sessions 4] [--fps 10] [--seconds 60] [--objects 1]

Each frame has a due time, and its latency counts from that: a service that is behind makes later
frames wait, and that they waited is told, not hidden (an open loop). Sessions begin at different
moments of a frame's time. Before the first due frame each fills its memory, which is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections import deque
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from loadtests.addresses import require_loopback
from loadtests.figures import Latency, Row, latency_of, percentile, write_table
from loadtests.load_video import LoadVideo
from tamvt_client import AsyncClient, ClientError, SessionOptions, wire
from tamvt_client.addresses import credential

DRAIN_S = 5.0  # for answers after the last due frame
READY_S = 60.0  # until a session has started, and for each message while it warms up
SEED = 0  # of when in a frame's time each session begins


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoopOptions:
    """What is sent: so many sessions, each with so many frames a second, for so long."""

    sessions: int
    fps: float
    seconds: float
    mode: Literal["lossless", "latest"] = "lossless"
    clip_length: int = 1
    key: str = ""

    @property
    def frames(self) -> int:
        """How many frames each session sends."""
        return max(1, round(self.fps * self.seconds))


@dataclass(slots=True)
class DueFrame:
    """One frame: seconds of one clock at which it was due, could be sent, was sent and answered."""

    due_s: float
    possible_s: float = float("nan")  # due, and a credit for it
    sent_s: float = float("nan")
    answered_s: float | None = None
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class OpenLoopResult:
    """What came of it. A frame without an answer counts with the time that was waited for it."""

    options: OpenLoopOptions
    latency: Latency
    late_ms: float  # p95 of the client's own delays: a frame could be sent, and was not yet
    answered: int
    dropped: int
    refusals: tuple[str, ...]  # of sessions that did not start or ended early
    fps: float  # answered frames a second, of all
    slowest_fps: float  # of the session that got least
    client_cpu: float  # share of the machine's processors that the client computed on

    @property
    def lost(self) -> int:
        """How many frames were neither answered nor dropped."""
        return self.options.sessions * self.options.frames - self.answered - self.dropped

    def is_live(self, *, p95_ms: float) -> bool:
        """Return whether each frame had its masks, and so many of them in time."""
        everything = self.lost == self.dropped == 0 and not self.refusals
        return everything and self.latency.p95_ms < p95_ms

    def row(self) -> Row:
        """Return the result as a row of a table."""
        options = asdict(self.options)
        return {
            **{name: options[name] for name in ("sessions", "fps", "mode", "seconds")},
            **{f"{name} ms": getattr(self.latency, f"{name}_ms") for name in LATENCIES},
            "frames/s": self.fps,
            "slowest": self.slowest_fps,
            "dropped": self.dropped,
            "lost": self.lost,
            "refused": len(self.refusals),
            "client late ms": self.late_ms,
            "client CPU": self.client_cpu,
        }


LATENCIES = ("p50", "p95", "p99", "max")


@dataclass(slots=True)
class CameraStream:
    """One session's frames over one WebSocket."""

    options: OpenLoopOptions
    video: LoadVideo
    frames: list[DueFrame] = field(default_factory=list)
    refusal: str = ""
    _next: int = 1
    _returned_s: deque[float] = field(default_factory=deque)  # of each credit, when it came back
    _credits: asyncio.Semaphore | None = None  # None: as many as one likes

    async def warm_up(self, socket: ClientConnection, *, frames: int) -> None:
        """Send so many frames, each when the one before has its masks."""
        ready = await _receive(socket)
        images = self.video.endless(self._next)
        for _ in range(frames):
            await self._send(socket, next(images))
            while (await _receive(socket))["type"] not in ("masks", "dropped"):
                pass
        if ready["credits"] is not None:
            self._credits = asyncio.Semaphore(ready["credits"])
            self._returned_s = deque([0.0] * ready["credits"])

    async def run(self, socket: ClientConnection, *, begin_s: float) -> None:
        """Send each frame when it is due, and note when its masks come."""
        period_s, first = 1 / self.options.fps, self._next
        self.frames = [DueFrame(begin_s + n * period_s) for n in range(self.options.frames)]
        reading = asyncio.create_task(self._read(socket, first=first))
        left_s = self.frames[-1].due_s + DRAIN_S - time.perf_counter()
        try:
            with suppress(TimeoutError):  # what has no answer by then is lost
                async with asyncio.timeout(left_s):
                    await self._send_when_due(socket)
                    await reading
        except WebSocketException as error:
            self.refusal = str(error)
        finally:
            reading.cancel()
            (ended,) = await asyncio.gather(reading, return_exceptions=True)
            if isinstance(ended, WebSocketException):  # while a credit was waited for
                self.refusal = str(ended)

    async def _send_when_due(self, socket: ClientConnection) -> None:
        images = self.video.endless(self._next)
        for frame in self.frames:
            await asyncio.sleep(frame.due_s - time.perf_counter())
            frame.possible_s = frame.due_s
            if self._credits is not None:
                await self._credits.acquire()
                frame.possible_s = max(frame.due_s, self._returned_s.popleft())
            frame.sent_s = time.perf_counter()
            await self._send(socket, next(images))

    async def _send(self, socket: ClientConnection, image: bytes) -> None:
        message = wire.ImageMessage(self._next, 0, image)
        self._next += 1
        await socket.send(wire.write_image(message, kind=wire.FRAME))

    async def _read(self, socket: ClientConnection, *, first: int) -> None:
        """Note each answer until all frames have one; raise WebSocketException if it ends first."""
        missing = len(self.frames)
        while missing:
            message = json.loads(await socket.recv())
            now_s = time.perf_counter()
            if message["type"] == "masks":
                self.frames[message["frame"] - first].answered_s = now_s
                missing -= 1
                if self._credits is not None:
                    self._returned_s.append(now_s)
                    self._credits.release()
            elif message["type"] == "dropped":
                for number in message["frames"]:
                    self.frames[number - first].dropped = True
                missing -= len(message["frames"])
            elif message["type"] in ("error", "bye"):
                raise WebSocketException(json.dumps(message))


async def _receive(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(READY_S):
        message: dict[str, Any] = json.loads(await socket.recv())
    if message["type"] in ("error", "bye"):
        raise WebSocketException(json.dumps(message))
    return message


async def send_open_loop(url: str, video: LoadVideo, options: OpenLoopOptions) -> OpenLoopResult:
    """Start the sessions, fill their memories, send what is due, and delete them."""
    streams = [CameraStream(options, video) for _ in range(options.sessions)]
    async with (
        AsyncClient(url, key=options.key, deadline_s=READY_S) as client,
        AsyncExitStack() as stack,
    ):
        opened = []
        for stream in streams:
            try:
                opened.append((stream, await _open(stack, client, url, stream)))
            except (ClientError, OSError, TimeoutError, WebSocketException) as error:
                stream.refusal = f"{type(error).__name__}: {error}"
        random_state, begin_s = random.Random(SEED), time.perf_counter() + 0.1
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        await asyncio.gather(
            *(
                stream.run(socket, begin_s=begin_s + random_state.random() / options.fps)
                for stream, socket in opened
            )
        )
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    share = cpu_s / wall_s / len(os.sched_getaffinity(0))
    return sum_up(streams, options, client_cpu=share)


async def _open(
    stack: AsyncExitStack, client: AsyncClient, url: str, stream: CameraStream
) -> ClientConnection:
    """Start a session, which is deleted when the stack is left, and fill its memory."""
    options, video = stream.options, stream.video
    session = await client.start(
        video.frames[0], video.mask, options=SessionOptions(clip_length=options.clip_length)
    )

    async def delete() -> None:
        with suppress(ClientError):
            await client.delete(session.session_id)

    stack.push_async_callback(delete)
    query = f"mode={options.mode}&max_wait_ms=50"
    socket = await stack.enter_async_context(
        connect(
            f"ws{url.removeprefix('http')}/v1/sessions/{session.session_id}/stream?{query}",
            subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
            additional_headers=credential(options.key),
            compression=None,
            max_size=None,
            proxy=None,
        )
    )
    await stream.warm_up(socket, frames=session.memory_size * session.clip_length)
    return socket


def sum_up(
    streams: list[CameraStream], options: OpenLoopOptions, *, client_cpu: float
) -> OpenLoopResult:
    """Return what came of all streams."""
    waited_ms, late_ms, rates = list[float](), list[float](), list[float]()
    for stream in streams:
        for frame in stream.frames:
            answered_s = frame.answered_s or stream.frames[-1].due_s + DRAIN_S
            if not frame.dropped:
                waited_ms.append(1000 * (answered_s - frame.due_s))
            if frame.sent_s == frame.sent_s:  # it was sent
                late_ms.append(1000 * (frame.sent_s - frame.possible_s))
        answers = [frame.answered_s for frame in stream.frames if frame.answered_s is not None]
        begin_s = min((frame.due_s for frame in stream.frames), default=0.0)
        end_s = max((*answers, *(frame.due_s for frame in stream.frames)), default=0.0)
        rates.append(len(answers) / (end_s - begin_s + 1 / options.fps))
    frames = [frame for stream in streams for frame in stream.frames]
    return OpenLoopResult(
        options,
        latency_of(waited_ms),
        percentile(late_ms, 0.95),
        answered=sum(frame.answered_s is not None for frame in frames),
        dropped=sum(frame.dropped for frame in frames),
        refusals=tuple(stream.refusal for stream in streams if stream.refusal),
        fps=sum(rates),
        slowest_fps=min(rates, default=0.0),
        client_cpu=client_cpu,
    )


def main() -> None:
    """Print what a service makes of so many sessions."""
    from loadtests.videos import sample_video

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="of the service")
    parser.add_argument("--allow-remote", action="store_true", help="it may be another machine's")
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--mode", choices=("lossless", "latest"), default="lossless")
    parser.add_argument("--clip-length", type=int, default=1)
    parser.add_argument("--key", default="")
    words = vars(parser.parse_args())
    url = require_loopback(words.pop("url"), allow_remote=words.pop("allow_remote"))
    video = sample_video(objects=words.pop("objects"), size=(480, 854))
    result = asyncio.run(send_open_loop(url, video, OpenLoopOptions(**words)))
    print(write_table([result.row()]))
    for refusal in result.refusals:
        print(f"refused: {refusal}")


if __name__ == "__main__":
    main()
