"""Videos of strangers become pictures, in a process of its own for each (decision 65).

FFmpeg cannot be stopped, nor kept from what its decoders do with memory: so it runs where it can
be killed. Pictures come back through shared memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from service import errors
from service.media.images import turned
from service.media.shared_files import make_file, make_files
from service.media.video_index import format_of
from service.media.video_process import ANSWER, COMMAND
from service.media.video_reader import Turn
from service.server.workers import Workers

T = TypeVar("T")
Take = Callable[[int, NDArray[np.uint8]], T]

PACKAGE_ROOT: Final = Path(__file__).resolve().parents[2]
CPU_S: Final = 60  # decodes 64 MB and 1,000 frames of 4K with one thread twice over
# Small videos need 100 MB; large ones some 20 pictures of 3 bytes a pixel, to refer to.
MEMORY_BYTES: Final = 512_000_000
MEMORY_BYTES_A_PIXEL: Final = 64
LEAST_SLOTS, MOST_SLOTS = 3, 16
SLOT_BYTES: Final = 32_000_000
# Ready in every child that waits: six pictures of 854x480, or sixteen small ones.
ROOM_BYTES: Final = 8 << 20
START_S: Final = 20.0  # until the process has imported FFmpeg, on a busy machine
CHECK_S: Final = 1.0
MESSAGE_BYTES: Final = 4096
ENDED: Final = "the process that decodes the video has ended"
KEPT_VARIABLES: Final = ("PATH", "LANG", "LD_LIBRARY_PATH")
# A picture's memory is used for the next one, in place of given back and asked for again.
MALLOC: Final = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=268435456"
ERRORS: Final = {
    error.__name__: error
    for error in (
        errors.BadVideo,
        errors.UnknownCodec,
        errors.DamagedVideo,
        errors.WrongFrameSize,
    )
}
LIMITED: Final = {error.__name__: error for error in (errors.PictureTooLarge, errors.CostlyVideo)}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """A video file, and which pictures of it are wanted.

    They are `count` (None: all) after the first `skip`, of `size` (height, width) as they are
    shown; `largest` is the largest size that is looked at. `check` raises when nobody waits any
    more.
    """

    data: bytes
    size: tuple[int, int]
    largest: tuple[int, int]
    skip: int = 0
    count: int | None = None
    check: Callable[[], Awaitable[None]] | None = None


class Written(NamedTuple):
    """A picture in shared memory: its number, how it is to be turned, and the bytes of a row."""

    number: int
    turn: Turn
    row_bytes: int

    @classmethod
    def read(cls, message: dict[str, Any]) -> Self:
        """Return the picture that a message tells of; raise ValueError, TypeError or KeyError."""
        flags = [bool(flag) for flag in message["turn"]]
        return cls(int(message["number"]), Turn(*flags), int(message["row_bytes"]))

    def pixels(self, slot: memoryview, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return it (H, W, 3) as it is shown, of this size; raise BadVideo if it is not there."""
        height, width = size[::-1] if self.turn.transposed else size
        if not 3 * width <= self.row_bytes <= len(slot) // height:
            raise errors.BadVideo("the decoder failed on this video")
        rows = np.frombuffer(slot, np.uint8, count=height * self.row_bytes)
        packed = rows.reshape(height, self.row_bytes)[:, : 3 * width]
        return turned(packed.reshape(height, width, 3), *self.turn)


class Child(NamedTuple):
    """A process that decodes one video, and the memory that we share with it for pictures."""

    pid: int
    connection: socket.socket
    room: mmap.mmap


class VideoDecoder:
    """Decodes at most `processes` videos at once. The process that forks them starts when needed.

    Its 35 MB and a fifth of a second are not spent where no video comes.
    """

    def __init__(
        self, *, processes: int = 2, memory_bytes: int = MEMORY_BYTES, cpu_s: int = CPU_S
    ) -> None:
        self._memory_bytes = memory_bytes
        self._cpu_s = cpu_s
        self._processes = processes
        self._warm: list[Child] = []
        self._closed = False
        self._places = asyncio.Semaphore(processes)
        self._decoding = 0
        self._forking = asyncio.Lock()
        self._parent: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._told = False

    async def decode(self, request: VideoRequest, take: Take[T], workers: Workers) -> list[T]:
        """Return what `take` makes of each picture; it gets its number and pixels, in a worker.

        The pixels (H, W, 3) are only there during the call.

        Raises:
            BadVideo: neither MP4, MOV nor WebM, or unreadable; UnknownCodec, DamagedVideo.
            PictureTooLarge, WrongFrameSize: found before a picture is converted.
            CostlyVideo: it takes too much memory or processor time.
            DecoderUnavailable: there is no process to decode it.
        """
        kind = format_of(request.data[:16])
        if kind is None:  # FFmpeg guesses playlists, which fetch (decision 17)
            raise errors.BadVideo("the video is neither MP4, MOV nor WebM")
        height, width = request.size
        # FFmpeg's rows end at a multiple of 64 bytes; a picture may lie on its side.
        picture_bytes = max(
            rows * ceil(3 * row / 64) * 64 for rows, row in ((height, width), (width, height))
        )
        # A few for small pictures, so that neither side waits for the other one each time.
        slots = min(MOST_SLOTS, ROOM_BYTES // picture_bytes)
        if own_room := slots < LEAST_SLOTS:
            slots = max(2, min(MOST_SLOTS, SLOT_BYTES // picture_bytes))
        room_bytes = slots * picture_bytes if own_room else 0
        asked = self._write_request(request, kind, slots, picture_bytes, room_bytes)
        found: list[T] = []
        async with self._child() as child:
            files = await workers.start(make_files, request.data, room_bytes)
            try:
                pictures = mmap.mmap(files[1], 0) if room_bytes else child.room
                socket.send_fds(child.connection, [asked], files)
            except BrokenPipeError as error:
                raise errors.DecoderUnavailable(ENDED) from error
            finally:
                for file in files:
                    os.close(file)

            def take_all(told: list[Written]) -> list[T]:
                taken: list[T] = []
                for each in told:
                    start = (len(found) + len(taken)) % slots * picture_bytes
                    slot = memoryview(pictures)[start : start + picture_bytes]
                    taken.append(take(each.number, each.pixels(slot, request.size)))
                return taken

            async for told in self._messages(child, request.check):
                found += await workers.start(take_all, told)
                with suppress(OSError):  # it has told all, and ended
                    child.connection.send(b"." * len(told))
        return found

    def _write_request(
        self, request: VideoRequest, kind: str, slots: int, picture_bytes: int, room_bytes: int
    ) -> bytes:
        """Return what a child is asked for, with the memory and time that it may take."""
        height, width = request.size
        asked = {
            "kind": kind,
            "size": request.size,
            "largest": request.largest,
            "skip": request.skip,
            "count": request.count,
            "slots": slots,
            "video_bytes": len(request.data),
            "picture_bytes": picture_bytes,
            "memory_bytes": self._memory_bytes
            + len(request.data)
            + room_bytes
            + MEMORY_BYTES_A_PIXEL * height * width,
            "cpu_s": self._cpu_s,
        }
        return json.dumps(asked).encode()

    @property
    def children(self) -> int:
        """How many processes decode or are ready to."""
        return len(self._warm) + self._decoding

    async def close(self) -> None:
        """End the process that forks, and with it every child."""
        self._closed = True
        async with self._forking:
            await self._forget()
        while self._ending:
            await asyncio.wait(self._ending)

    async def _forget(self) -> None:
        """End the process that forks; another one is started when it is needed."""
        control, parent, warm = self._control, self._parent, self._warm
        self._control, self._parent, self._warm = None, None, []
        for connection in (child.connection for child in warm):
            connection.close()
        if control is not None:
            control.close()
        if parent is not None:
            with suppress(ProcessLookupError):
                parent.kill()  # its children end with it
            await parent.wait()

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[Child]:
        """Yield a process that waits for a request; it is killed after the block."""
        await self._places.acquire()
        self._decoding += 1
        # Whatever happens to this task: a child that was forked is ended, and nobody waits for it.
        coming = asyncio.create_task(self._take_child())
        try:
            child = await asyncio.shield(coming)
            yield child
        finally:
            ending = asyncio.create_task(self._end(coming))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _take_child(self) -> Child:
        """Return a child that is ready, or a new one."""
        return self._warm.pop() if self._warm else await self._fork()

    async def _fork(self) -> Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        room = make_file("tamvt-pictures", size=ROOM_BYTES)
        try:
            with theirs:
                pid = await self._exchange(b"f", 0, theirs.fileno())
            socket.send_fds(ours, [b"r"], [room])
            return Child(pid, ours, mmap.mmap(room, 0))
        except OSError as error:  # it has ended already
            ours.close()
            raise errors.DecoderUnavailable(ENDED) from error
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(room)

    async def _end(self, coming: asyncio.Task[Child]) -> None:
        """Kill a child and give its place back; another one gets ready for the next video."""
        try:
            with suppress(errors.DecoderUnavailable):
                child = await coming
                child.connection.close()
                await self._exchange(b"e", child.pid)
        finally:
            self._decoding -= 1
            self._places.release()
        with suppress(errors.DecoderUnavailable):
            if len(self._warm) < self._processes and not self._closed:
                spare = await self._fork()
                if self._closed:
                    spare.connection.close()
                else:
                    self._warm.append(spare)

    async def _messages(
        self, child: Child, check: Callable[[], Awaitable[None]] | None
    ) -> AsyncIterator[list[Written]]:
        """Yield the pictures that are new in shared memory, until the child's last word.

        Raise what it tells, or what it ended of.
        """
        loop = asyncio.get_running_loop()
        due, received = loop.time() + CHECK_S, b""
        while True:
            if check is not None and loop.time() >= due:
                await check()
                due = loop.time() + CHECK_S
            *lines, received = received.split(b"\n")
            try:
                messages: list[dict[str, Any]] = [json.loads(line) for line in lines]
                new = [Written.read(each) for each in messages if "turn" in each]
            except (ValueError, TypeError, KeyError) as error:  # it is no longer ours
                raise errors.BadVideo("the decoder failed on this video") from error
            if new:
                yield new
            for message in messages:
                if "confined" in message:
                    self._tell(message["confined"])
                if "error" in message:
                    raise read_error(message)
                if "end" in message:
                    return
            try:
                async with asyncio.timeout(CHECK_S):
                    more = await loop.sock_recv(child.connection, MESSAGE_BYTES)
            except TimeoutError:
                continue
            except ConnectionError:  # it ended without having read all that we sent
                more = b""
            if not more or len(received) > MESSAGE_BYTES:
                raise self._reason(await self._exchange(b"e", child.pid))
            received += more

    def _reason(self, status: int) -> errors.TamvtError:
        """Return why a child has ended without a word; `status` is its signal, negative."""
        if status == -signal.SIGXCPU:
            return errors.CostlyVideo(
                f"the video takes more than {self._cpu_s} s of processor time to decode",
                limit=self._cpu_s,
            )
        if status in (0, -signal.SIGKILL):
            return errors.DecoderUnavailable("the process that decodes the video was killed")
        return errors.BadVideo(f"the decoder failed on this video (signal {-status})")

    def _tell(self, confined: list[bool]) -> None:
        """Log once where the kernel does not keep the children from files and network."""
        files, network = confined
        if not self._told and not (files and network):
            log.warning(
                "videos are decoded in processes that are kept from %s: landlock or seccomp is "
                "missing here",
                "files only" if files else "the network only" if network else "nothing",
            )
        self._told = True

    async def _exchange(self, word: bytes, pid: int, *descriptors: int) -> int:
        """Send a command to the process that forks, which is started if need be."""
        async with self._forking:
            for _ in range(2):  # it may have been killed since the last time
                if self._control is None and word == b"e":
                    return 0  # its children have ended with it
                if self._closed:
                    break
                control = self._control or await self._start()
                with suppress(OSError, TimeoutError):
                    socket.send_fds(control, [COMMAND.pack(word, pid)], list(descriptors))
                    async with asyncio.timeout(START_S):
                        answer = await asyncio.get_running_loop().sock_recv(control, ANSWER.size)
                    if answer:
                        return int(ANSWER.unpack(answer)[0])
                await self._forget()
        raise errors.DecoderUnavailable("the process that decodes videos does not start")

    async def _start(self) -> socket.socket:
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        search = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
        # Not our environment: it may hold the password of Redis.
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        with theirs:
            self._parent = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "service.media.video_process"),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**kept, "PYTHONPATH": search, "GLIBC_TUNABLES": MALLOC},
                start_new_session=True,  # Ctrl-C in the terminal is for us to handle
            )
        return self._control


def read_error(message: dict[str, Any]) -> errors.TamvtError:
    """Return the error that a child tells of."""
    name, text = message["error"], str(message["text"])[:MESSAGE_BYTES]
    if name in LIMITED:
        return LIMITED[name](text, limit=int(message["limit"]))
    if name in ERRORS:
        return ERRORS[name](text)
    log.error("a video process failed: %s: %s", name, text)
    return errors.BadVideo("the decoder failed on this video")
