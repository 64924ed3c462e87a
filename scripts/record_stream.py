"""Record what client and service say on streams: `python -m scripts.record_stream`.

The lines go to clients/conformance/stream.jsonl, from which somebody writes a client in another
language; a test plays them against the service that it is tested with, and compares.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from model.core.encoding import encode_rle
from service.stream.asyncapi import describe_stream
from tamvt_client import wire
from tests.support import scene
from tests.support.running import ROOT, running_service
from tests.support.toy_model import write_toy_model

FOLDER: Final = ROOT / "clients" / "conformance"
TRANSCRIPT: Final = FOLDER / "stream.jsonl"
DESCRIPTION: Final = FOLDER / "asyncapi.json"
PATIENCE_S: Final = 60.0

# A step is what the client says (a number of a frame, with flags or without, or text), or how many
# messages it waits for.
Step = int | str | tuple[str, int] | tuple[int, int]
HEAR: Final = "hear"
CONNECTIONS: Final[tuple[tuple[str, str, tuple[Step, ...]], ...]] = (
    (
        "frames in, masks out; the client goes away without a word",
        "mode=lossless&max_wait_ms=60000",
        ((HEAR, 1), 1, 2, (HEAR, 2), wire.write_ack(2), 3, 4, (HEAR, 2)),
    ),
    (
        "it comes back: masks from frame 3 on are replayed, and it goes on",
        "mode=lossless&from=3&max_wait_ms=60000",
        ((HEAR, 3), 5, 6, (HEAR, 2), wire.write_end(), (HEAR, 2)),
    ),
    (
        "a label map behind each message",
        "mode=lossless&masks=png&max_wait_ms=60000",
        ((HEAR, 1), 7, 8, (HEAR, 4), wire.write_end(), (HEAR, 2)),
    ),
    (
        "the newest frame wins: 9 to 11 are passed over",
        "mode=latest&max_wait_ms=0",
        ((HEAR, 1), 12, (HEAR, 2), wire.write_end(), (HEAR, 2)),
    ),
    (
        "a frame that leaves others out is refused",
        "mode=lossless",
        ((HEAR, 1), 20, (HEAR, 2)),
    ),
    (
        "once a second, how the stream does",
        "mode=lossless&stats=true",
        ((HEAR, 2), wire.write_end(), (HEAR, 2)),
    ),
    (
        "commits at intervals: 13 and 14 were answered by a gateway that was killed, and are sent "
        "again in the clips in which they were; 15 is new",
        "mode=lossless&from=13&durable=interval:5&max_wait_ms=0",
        (
            (HEAR, 1),
            (13, wire.RESENT | wire.CLIP_END),
            (14, wire.RESENT | wire.CLIP_END),
            15,
            (HEAR, 3),
            wire.write_end(),
            (HEAR, 3),
        ),
    ),
)


def record(url: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a new session on the service at `url`."""
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
        mask = {"id": 1, "rle": encode_rle(scene.labels(0) == 1)}
        form: dict[str, Any] = {
            "frame": ("0.jpg", scene.jpeg(0)),
            "objects": (None, json.dumps([mask])),
        }
        answer = http.post("/v1/sessions", files=form)
        answer.raise_for_status()
        session = answer.json()
        shown = {key: session[key] for key in ("frame_size", "objects", "clip_length")}
        yield {"session": shown}
        for what, query, steps in CONNECTIONS:
            yield {"what": what, "connect": f"/v1/sessions/{{session_id}}/stream?{query}"}
            address = f"{url.replace('http', 'ws', 1)}/v1/sessions/{session['session_id']}/stream"
            yield from converse(f"{address}?{query}", steps)
        http.delete(f"/v1/sessions/{session['session_id']}")


def converse(address: str, steps: tuple[Step, ...]) -> Iterator[dict[str, Any]]:
    """Yield what both say on one connection, and how it is closed."""
    with connect(
        address,
        subprotocols=[wire.SUBPROTOCOL],  # type: ignore[list-item]
        compression=None,
        proxy=None,
        close_timeout=PATIENCE_S,
    ) as socket:
        for step in steps:
            match (step, 0) if isinstance(step, int) else step:
                case int(number), flags:
                    message = wire.ImageMessage(number, number * 40_000, scene.jpeg(number), flags)
                    data = wire.write_image(message, kind=wire.FRAME)
                    socket.send(data)
                    yield {"client": {"binary": base64.b64encode(data).decode()}}
                case str(text):
                    socket.send(text)
                    yield {"client": {"text": text}}
                case _, count:
                    for _ in range(count):
                        try:
                            heard = socket.recv(timeout=PATIENCE_S)
                        except ConnectionClosed:
                            closed = {"code": socket.close_code, "reason": socket.close_reason}
                            yield {"closed": closed}
                            return
                        if isinstance(heard, str):
                            yield {"service": {"text": heard}}
                        else:
                            yield {"service": {"binary": base64.b64encode(heard).decode()}}
    yield {"closed": {"by": "client"}}


def main() -> None:
    """Write the transcript and the description anew."""
    with tempfile.TemporaryDirectory() as folder:
        write_toy_model(Path(folder))
        with running_service(state=Path(folder) / "state", weights=Path(folder)) as service:
            lines = [json.dumps(line) for line in record(service.url)]
    TRANSCRIPT.write_text("\n".join(lines) + "\n")
    DESCRIPTION.write_text(json.dumps(describe_stream(), indent=1) + "\n")
    print(f"{len(lines)} lines in {TRANSCRIPT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
