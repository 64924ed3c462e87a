"""Live pictures, from a camera or a stream's address, recorded as JPEGs while they come.

A thread writes them to a folder. What is there already can be tracked meanwhile, and the folder is
a video like any other afterwards. Every picture is uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import errno
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import BadOption, BadVideo, DamagedVideo
from service.media.images import encode_jpeg
from service.media.video import Source, open_source, turn_upright
from service.media.video_reader import VideoReader, choose_track

WAIT_S: Final = 20.0  # for a connection, and for each next picture
MOST_PICTURES: Final = 100_000  # five digits name them
# What leads nowhere else: a playlist names other addresses, and RTSP goes where it is sent.
PLAIN_SCHEMES: Final = frozenset({"http", "https"})
PLAIN: Final = {
    "protocol_whitelist": "http,https,tcp,tls",
    "format_whitelist": "mov,matroska,mpegts,flv,mjpeg,mpjpeg,h264,hevc",
    "max_redirects": "0",
}
ANY_SCHEMES: Final = PLAIN_SCHEMES | {"rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp"}
ANY: Final = {
    # No file: a playlist could name one.
    "protocol_whitelist": "http,https,httpproxy,tcp,tls,crypto,rtsp,rtmp,rtmps,srt,udp,rtp",
    "rtsp_transport": "tcp",
}

TimedPicture = tuple[float, NDArray[np.uint8]]  # seconds after the first one


class Recording:
    """A folder that is being filled: `00000.jpg` and so on."""

    def __init__(self, folder: Path, *, wait_s: float = WAIT_S) -> None:
        self.folder = folder
        self._wait_s = wait_s
        self.count = 0
        self._last_s = 0.0
        self._ended = False
        self._trouble = ""
        self._stopped = threading.Event()
        self._changed = threading.Condition()

    def stop(self) -> None:
        """Take no further picture."""
        self._stopped.set()

    def arrives(self, number: int) -> bool:
        """Wait for a picture, and return whether it came before the recording ended.

        Raises:
            DamagedVideo: what was recorded from broke off.
        """
        with self._changed:
            # What it reads from gives up earlier, where it can.
            self._changed.wait_for(lambda: self.count > number or self._ended, 2 * self._wait_s)
            if self.count > number:
                return True
            if not self._ended:
                raise DamagedVideo(f"no picture came for {2 * self._wait_s:g} s")
            if self._trouble:
                raise DamagedVideo(self._trouble)
            return False

    def run(self, pictures: Iterator[TimedPicture], *, seconds: float) -> None:
        """Write pictures for so many seconds after the first one."""
        trouble = ""
        try:
            until = None
            for time_s, rgb in pictures:
                until = until or time.monotonic() + seconds
                self._write(time_s, encode_jpeg(rgb))
                if self._stopped.is_set() or time.monotonic() >= until:
                    break
                if self.count == MOST_PICTURES:
                    break
        except BadVideo as error:
            trouble = str(error)
        except OSError as error:
            trouble = f"{str(self.folder)!r} cannot be written: {error.strerror}"
        finally:
            with self._changed:
                self._trouble, self._ended = trouble, True
                self._changed.notify_all()

    def _write(self, time_s: float, image: bytes) -> None:
        unfinished = self.folder / f".{self.count:05d}.part"
        unfinished.write_bytes(image)
        unfinished.replace(self.folder / f"{self.count:05d}.jpg")
        with self._changed:
            self.count, self._last_s = self.count + 1, time_s
            self._changed.notify_all()

    def source(self) -> Source:
        """Return the pictures as they come; how many there will be is not known."""
        images = tuple(self.folder / f"{number:05d}.jpg" for number in range(MOST_PICTURES))
        return Source(self.folder, images, None, arrives=self.arrives)

    def finished(self) -> Source:
        """Return the pictures that were recorded."""
        source = open_source(self.folder)
        return replace(source, fps=(self.count - 1) / self._last_s) if self._last_s else source


@contextmanager
def record(
    address: str,
    folder: Path,
    *,
    seconds: float,
    allow_private: bool = False,
    wait_s: float = WAIT_S,
) -> Iterator[Recording]:
    """Record in the background, until the time is over or the block is left.

    For the connection, and for each next picture, `wait_s` is waited.

    Raises:
        BadOption: an address that may not be reached.
        BadVideo: there is no camera or stream.
    """
    with open_live(address, allow_private=allow_private, wait_s=wait_s) as pictures:
        folder.mkdir(parents=True, exist_ok=True)
        recording = Recording(folder, wait_s=wait_s)
        thread = threading.Thread(
            target=recording.run, args=(pictures,), kwargs={"seconds": seconds}, daemon=True
        )
        thread.start()
        try:
            yield recording
        finally:
            recording.stop()
            thread.join(2 * wait_s)  # what it reads from is closed next


@contextmanager
def open_live(
    address: str, *, allow_private: bool, wait_s: float
) -> Iterator[Iterator[TimedPicture]]:
    """Open the camera of a number, or the stream of an address; raise as `record`."""
    if address.isdecimal():
        camera = cv2.VideoCapture(int(address))
        try:
            if not camera.isOpened():
                raise BadVideo(f"there is no camera {address}, or another program holds it")
            yield read_camera(camera)
        finally:
            camera.release()
        return
    place = check_address(address, allow_private=allow_private)
    options = dict(ANY if allow_private else PLAIN)
    try:
        with av.open(
            address, "r", options=options, timeout=(wait_s, wait_s), metadata_errors="replace"
        ) as container:
            reader = VideoReader(
                container, choose_track(container), cut_off=False, live_wait_s=wait_s
            )
            yield read_stream(reader, wait_s=wait_s)
    except av.FFmpegError as error:
        raise BadVideo(f"{place} gives no video: {explain(error, wait_s)}") from error


def check_address(address: str, *, allow_private: bool) -> str:
    """Return how messages call an address: without its password.

    Raises:
        BadOption: it is none, or one that is reached with `allow_private` alone.
        BadVideo: its host is not known.
    """
    try:
        parts = urlsplit(address)
        port = parts.port or 80
    except ValueError as error:
        raise BadOption(
            f"{address.rpartition('@')[2]!r} is no address of a stream: {error}"
        ) from error
    place = f"{parts.scheme}://{parts.hostname}"
    # FFmpeg must read the same host out of it.
    if parts.scheme not in ANY_SCHEMES or not parts.hostname or re.search(r"[\\\s]", address):
        known = ", ".join(sorted(ANY_SCHEMES))
        raise BadOption(
            f"{place!r} is no address of a stream: read are {known}, or a camera's number"
        )
    if allow_private:
        return place
    if parts.scheme not in PLAIN_SCHEMES:
        raise BadOption(
            f"{place}: a stream of {parts.scheme} goes where it is sent, so that private addresses "
            "may be reached: add --allow-private"
        )
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BadVideo(f"{place}: there is no such host") from error
    for *_, (host, *_) in found:
        ip = ip_address(str(host).partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if not ip.is_global or ip.is_multicast:
            raise BadOption(f"{place} is at a private address, {ip}: add --allow-private")
    return place


def read_stream(reader: VideoReader, *, wait_s: float) -> Iterator[TimedPicture]:
    """Yield pictures as they come; raise BadVideo where they do not."""
    try:
        for picture in reader.pictures():
            yield picture.time_s, turn_upright(picture)
    except av.FFmpegError as error:
        closed = isinstance(error, av.error.OSError) and error.errno == errno.EIO
        why = "its connection was closed" if closed else explain(error, wait_s)
        raise BadVideo(f"the stream broke off: {why}") from error


def read_camera(camera: cv2.VideoCapture) -> Iterator[TimedPicture]:
    """Yield pictures as they come; raise BadVideo where they do not."""
    begun = time.monotonic()
    while True:
        read, bgr = camera.read()
        if not read:
            raise BadVideo("the camera gives no more pictures")
        yield time.monotonic() - begun, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def explain(error: av.FFmpegError, wait_s: float) -> str:
    """Return what FFmpeg says, in words of a person who waited."""
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {wait_s:g} s"
    if isinstance(error, av.error.OSError) and error.errno == errno.EIO:
        return "it is not reached, or sends elsewhere (followed with --allow-private alone)"
    return str(error.strerror).lower()
