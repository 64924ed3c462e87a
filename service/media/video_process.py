"""The process in which videos are decoded: `python -m service.media.video_process`.

It has imported what a decoder needs and does nothing but fork: a child for each video, which
decodes that one in confinement and ends. So no video can do harm to the service or see another,
and a child is there in milliseconds.

On its standard input, a socket: `f` with the child's end of a connection, answered by the child's
process id; `e` and a process id to end that child, answered by how it ended. It ends with the
socket. A child that has ended stays a zombie until it is asked for, so that an id is never reused.
On its connection a child gets room for pictures at once, and later its video.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import mmap
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final, cast

import av.logging
import av.subtitles.codeccontext
import av.subtitles.stream  # imported now: a child cannot open files

from service import errors
from service.media.confinement import confine, end_with_parent, limit, measure_address_space, tried
from service.media.video_index import check_index
from service.media.video_reader import Picture, open_video

# What is read of the videos of strangers; the names are FFmpeg's.
CODECS: Final = frozenset(["h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "prores"])
COMMAND: Final = struct.Struct("!cI")
ANSWER: Final = struct.Struct("!i")
REQUEST_BYTES: Final = 4096
ROOM_BYTES: Final = 16_000_000


class AllocationWatch(logging.Handler):
    """Notes whether FFmpeg was out of memory: its decoders report that as invalid data."""

    failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one line of FFmpeg's log."""
        text = record.getMessage()
        self.failed |= "alloc" in text or "get_buffer() failed" in text


def main() -> None:
    """Fork a child for each connection that arrives, until the socket closes."""
    av.logging.set_level(av.logging.ERROR)
    sample = encode_sample()
    gc.freeze()  # a child's collections would copy all the memory that it shares with us
    control = socket.socket(fileno=0)
    children: set[int] = set()
    try:
        while True:
            try:
                command, descriptors, _, _ = socket.recv_fds(control, COMMAND.size, 1)
            except ConnectionResetError:
                return
            if not command:
                return
            word, child = COMMAND.unpack(command)
            if word == b"f":
                child = os.fork()
                if child == 0:
                    control.close()
                    run_child(socket.socket(fileno=descriptors[0]), sample)
                os.close(descriptors[0])
                children.add(child)
                control.sendall(ANSWER.pack(child))
                continue
            status = 0
            if child in children:
                os.kill(child, signal.SIGKILL)
                children.remove(child)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            control.sendall(ANSWER.pack(status))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def encode_sample() -> bytes:
    """Return a video of one small picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for packet in (*stream.encode(av.VideoFrame(320, 192, "yuv420p")), *stream.encode()):
            container.mux(packet)
    return file.getvalue()


def run_child(connection: socket.socket, sample: bytes) -> None:
    """Decode the one video that is asked for, and leave the process."""
    end_with_parent()
    try:
        # What is written to for the first time is copied page by page: done before a video waits.
        with open_video(io.BytesIO(sample), kind="mov", codecs=CODECS) as reader:
            for picture in reader.pictures():
                picture.rgb()
        answer_request(connection)
    except OSError:
        pass  # the service has gone
    except Exception as error:
        with suppress(OSError):
            send(connection, {"error": type(error).__name__, "text": str(error)})
    os._exit(0)


def answer_request(connection: socket.socket) -> None:
    """Confine the process, wait for a request with its files, and tell what becomes of it.

    The room for pictures comes before. A request whose pictures need more brings its own.
    """
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if not descriptors:
        return
    # All of it at once, while nobody waits: page by page takes as long as decoding.
    at_once = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    pictures = mmap.mmap(descriptors[0], 0, flags=at_once)
    used = measure_address_space()
    confine()
    send(connection, {"confined": tried()})
    line, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 2)
    if not line:
        return
    request = json.loads(line)
    limit(memory_bytes=used + request["memory_bytes"], cpu_s=request["cpu_s"])
    file = os.fdopen(descriptors[0], "rb")
    index = mmap.mmap(descriptors[0], request["video_bytes"], access=mmap.ACCESS_READ)
    if len(descriptors) > 1:
        pictures = mmap.mmap(descriptors[1], request["slots"] * request["picture_bytes"])
    memory = AllocationWatch()
    logging.getLogger("libav").addHandler(memory)
    logging.getLogger("libav").propagate = False
    try:
        if request["kind"] == "mov":
            check_index(index)
        decode(request, file, pictures, connection)
    except (MemoryError, errors.BadVideo, errors.PictureTooLarge, errors.WrongFrameSize) as error:
        if isinstance(error, MemoryError) or memory.failed:
            megabytes = request["memory_bytes"] // 1_000_000
            text = f"the video takes more than {megabytes} MB to decode"
            send(connection, {"error": "CostlyVideo", "text": text, "limit": megabytes})
        else:
            told = {"limit": error.limit} if isinstance(error, errors.PictureTooLarge) else {}
            send(connection, {"error": type(error).__name__, "text": str(error), **told})
    else:
        send(connection, {"end": True})


def decode(
    request: dict[str, Any], file: BinaryIO, pictures: mmap.mmap, connection: socket.socket
) -> None:
    """Write the pictures that are asked for into shared memory, and tell of each.

    Raise what `open_video` and its pictures raise, PictureTooLarge and WrongFrameSize.
    """
    skip, count, slots = request["skip"], request["count"], request["slots"]
    slot_bytes = request["picture_bytes"]
    with open_video(file, kind=request["kind"], codecs=CODECS) as reader:
        check_size(*reader.size, request["largest"])
        # Pictures may grow within a video: the decoder gives up before it allocates a huge one.
        reader.restrict(max_pixels=2 * request["largest"][0] * request["largest"][1])
        written, told = 0, list[dict[str, object]]()
        for picture in watch_memory(reader.pictures()):
            if picture.number < skip:
                continue
            height, width = picture.size[::-1] if picture.turn.transposed else picture.size
            if [height, width] != request["size"]:
                expected = "{1}x{0}".format(*request["size"])
                raise errors.WrongFrameSize(
                    f"picture {picture.number} of the video is {width}x{height}, "
                    f"but the session's frames are {expected}"
                )
            if written >= slots and not connection.recv(1):
                return  # the service has gone
            plane = picture.rgb().planes[0]
            start = written % slots * slot_bytes
            # Whole, with what FFmpeg leaves free at the end of each row.
            pictures[start : start + plane.buffer_size] = cast("bytes", memoryview(plane))
            told.append(
                {"number": picture.number, "turn": picture.turn, "row_bytes": plane.line_size}
            )
            written += 1
            if len(told) >= slots // 2 or written == count:
                send(connection, *told)
                told.clear()
            if written == count:
                return
    send(connection, *told)


def watch_memory(pictures: Iterator[Picture]) -> Iterator[Picture]:
    """Yield the pictures; raise MemoryError in place of damage where there is no memory left.

    FFmpeg tells of large allocations that fail, in its log, but not of small ones.
    """
    try:
        yield from pictures
    except errors.DamagedVideo as error:
        try:
            mmap.mmap(-1, ROOM_BYTES).close()
        except OSError:
            raise MemoryError from error
        raise


def check_size(height: int, width: int, largest: list[int]) -> None:
    """Raise PictureTooLarge beyond the limits; a picture may be turned, so sides are sorted."""
    pairs = zip(sorted((height, width)), sorted(largest), strict=True)
    if any(side > most for side, most in pairs):
        raise errors.PictureTooLarge(
            f"the video is {width}x{height}; at most {largest[1]}x{largest[0]} is allowed",
            limit=max(largest),
        )


def send(connection: socket.socket, *messages: dict[str, object]) -> None:
    """Send messages, each a line of JSON."""
    connection.sendall(b"".join(json.dumps(each).encode() + b"\n" for each in messages))


if __name__ == "__main__":
    main()
