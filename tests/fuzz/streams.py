"""Streams of changed messages against a running service: each connection ends with a clear code."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tamvt_client import wire
from tests.fuzz import samples
from tests.fuzz.calls import DEADLINE_S
from tests.fuzz.mutations import change_bytes, change_json
from tests.fuzz.parsers import Fault, Tally
from tests.support.running import Api

NEW_SESSION_EACH: Final = 50
INTERNAL_ERROR: Final = 1011
QUERIES: Final = (
    *("", "", "?mode=latest", "?masks=png", "?max_wait_ms=0", "?from=1", "?from=99999999999"),
    *("?durable=interval:5", "?durable=interval:0.5&mode=latest", "?durable=interval:50"),
    *("?mode=LATEST", "?from=-1", "?max_wait_ms=nan", "?ticket=a", "?mode=latest&mode=lossless"),
)
Messages = Sequence[bytes | str]


def make_messages(random: Random, first: int) -> Messages:
    """Return what is sent to a stream that expects the frame `first`, changed in part."""
    found: list[bytes | str] = []
    images = samples.jpegs()[:1]
    for number in range(first, first + random.randrange(1, 5)):
        image = change_bytes(random, images) if random.random() < 0.3 else images[0]
        shown = number + random.choice((0, 0, 0, 0, 1, -1, 1000))
        flags = random.choice((0, 0, *wire.FRAME_FLAGS))
        message = wire.ImageMessage(shown % 2**32, random.randrange(2**53), image, flags)
        whole = wire.write_image(message, kind=wire.FRAME)
        found.append(change_bytes(random, [whole]) if random.random() < 0.2 else whole)
        if random.random() < 0.3:
            text = change_json(random, [{"type": "ack", "frame": number}, {"type": "end"}])
            found.append(text.decode("utf-8", "replace"))
    return [*found, wire.write_end()]


def attack_streams(url: str, seed: int, numbers: Sequence[int], tally: Tally) -> None:
    """Open a stream for each number and send its messages; raise Fault.

    An input is a message. It is refused if the service ends the stream for it.
    """
    with httpx.Client(base_url=url, timeout=DEADLINE_S) as http:
        session = ""
        for number in numbers:
            if not session or number % NEW_SESSION_EACH == 0:
                if session:
                    http.delete(f"/v1/sessions/{session}")
                session = Api(http).start(objects=1)
            random = Random(f"{seed} stream {number}")
            address = f"ws{url.removeprefix('http')}/v1/sessions/{session}/stream"
            sent: list[bytes | str] = []
            begin = time.perf_counter()
            try:
                code = _talk(address + random.choice(QUERIES), random, sent)
            except (OSError, InvalidHandshake) as error:
                reason = f"{type(error).__name__}: {error}"
                raise Fault(tally.name, number, _written(sent), reason) from error
            seconds = time.perf_counter() - begin
            if code == INTERNAL_ERROR or seconds > DEADLINE_S:
                raise Fault(tally.name, number, _written(sent), f"{code} in {seconds:.1f} s")
            for index in range(len(sent)):
                refused = code != 1000 and index == len(sent) - 1
                tally.count(refused=refused, seconds=seconds / len(sent))
        assert http.get("/healthz").status_code == 200
        http.delete(f"/v1/sessions/{session}")


def _talk(address: str, random: Random, sent: list[bytes | str]) -> int:
    """Send the messages and return the close code; TimeoutError where none comes."""
    subprotocols = [Subprotocol(wire.SUBPROTOCOL)]
    with connect(
        address, subprotocols=subprotocols, compression=None, proxy=None, ping_interval=None
    ) as socket:
        try:
            first = _hear(socket).get("next_frame", 1)
            for message in make_messages(random, first):
                sent.append(message)
                socket.send(message)
            while True:
                _hear(socket)
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                raise ConnectionResetError("closed without a code") from closed
            return closed.rcvd.code


def _hear(socket: ClientConnection) -> dict[str, Any]:
    """Return the next message, {} for a binary one; AssertionError for a problem of the service."""
    message = socket.recv(DEADLINE_S)
    content: dict[str, Any] = json.loads(message) if isinstance(message, str) else {}
    if content.get("type") == "error":
        assert content["problem"]["status"] < 500, content
    return content


def _written(sent: Messages) -> bytes:
    """Return the messages as they may be kept in a file."""
    return b"\n".join(
        each.encode() if isinstance(each, str) else each.hex().encode() for each in sent
    )
