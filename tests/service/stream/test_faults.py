"""What a stream does with input that is wrong: a clear error, and the session unharmed."""

from __future__ import annotations

from collections.abc import Callable
from socket import SHUT_RDWR
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.service.stream.talk import frame, talk, text
from tests.support import scene
from tests.support.running import Api, Running

LARGEST = 8_000_000


@pytest.fixture
def session(api: Api) -> str:
    """A session with frames 1 and 2."""
    session = api.start()
    api.append(session, [scene.jpeg(1), scene.jpeg(2)], first=1)
    return session


@pytest.mark.parametrize(
    ("message", "code", "name"),
    [
        (b"", 4400, "bad-message"),
        (bytes(15), 4400, "bad-message"),
        (b"\x07" + frame(3)[1:], 4400, "bad-message"),
        (b"\x01\x80" + frame(3)[2:], 4400, "bad-message"),
        ("frame 3", 4400, "bad-message"),
        (text("ready"), 4400, "bad-message"),
        (text("ack", frame="2"), 4400, "bad-message"),
        (text("ack", frame=3), 4400, "bad-message"),
        (text("end", at=3), 4400, "bad-message"),
        ("x" * 5000, 4400, "bad-message"),
        (frame(5), 4409, "frame-ahead"),
        (frame(2**32 - 1), 4409, "frame-ahead"),
        (frame(2, scene.jpeg(9)), 4409, "frame-changed"),
        (frame(0, scene.jpeg(9)), 4409, "frame-changed"),
        (frame(3, bytes(LARGEST + 1)), 4413, "too-large"),
    ],
)
def test_a_wrong_message_is_explained(
    running: Running, api: Api, session: str, message: bytes | str, code: int, name: str
) -> None:
    before = api.state(session)
    with talk(running.url, session) as stream:
        stream.send(message)
        assert stream.hear_error() == (code, name)
    assert api.state(session) == before


@pytest.mark.parametrize(
    ("image", "code", "name"),
    [
        (b"no image", 4422, "bad-image"),
        (scene.jpeg(3)[:-100], 4422, "truncated-image"),
        (scene.encode(scene.picture(3)[:64], ".jpg"), 4422, "wrong-frame-size"),
    ],
)
@pytest.mark.parametrize("mode", ["lossless", "latest"])
def test_a_wrong_image_is_explained(
    running: Running, api: Api, session: str, image: bytes, code: int, name: str, mode: str
) -> None:
    before = api.state(session)
    with talk(running.url, session, mode=mode, max_wait_ms=0) as stream:
        stream.send(frame(3, image))
        assert stream.hear_error() == (code, name)
    assert api.state(session) == before


def test_frames_before_a_wrong_image_are_answered(running: Running, api: Api, session: str) -> None:
    with talk(running.url, session) as stream:
        stream.send(frame(3), frame(4), frame(5, b"no image"), frame(6))
        stream.hear_masks(2)
        assert stream.hear_error() == (4422, "bad-image")
    assert api.state(session)["next_frame"] == 5


def test_a_message_beyond_all_bounds_ends_the_connection(
    running: Running, api: Api, session: str
) -> None:
    before = api.state(session)
    with talk(running.url, session) as stream:
        # The head of a WebSocket frame that announces too much; the rest is never sent.
        head = b"\x82\xff" + (LARGEST + 100_000).to_bytes(8, "big") + bytes(4)
        stream.socket.socket.sendall(head)
        assert stream.hear_close() == 1009
    assert api.state(session) == before


@pytest.mark.parametrize(
    ("numbers", "name"),
    [([3, 3], "conflict"), ([3, 5], "frame-ahead"), ([4, 3], "frame-ahead")],
)
def test_numbers_out_of_order_name_the_one_that_is_due(
    running: Running, session: str, numbers: list[int], name: str
) -> None:
    with talk(running.url, session) as stream:
        stream.send(*(frame(number) for number in numbers))
        assert stream.hear_error() == (4409, name)
        expected = 3 if numbers[0] == 4 else 4
        assert stream.heard[-1]["problem"]["expected"] == expected


@pytest.mark.parametrize("message", [frame(4), text("end")])
def test_nothing_comes_after_the_end(running: Running, session: str, message: bytes | str) -> None:
    with talk(running.url, session) as stream:
        # Both arrive at once; the answer to the end has not been sent by then.
        with stream.socket.protocol_mutex:
            for said in (frame(3), text("end"), message):
                if isinstance(said, bytes):
                    stream.socket.protocol.send_binary(said)
                else:
                    stream.socket.protocol.send_text(said.encode())
            stream.socket.socket.sendall(b"".join(stream.socket.protocol.data_to_send()))
        assert stream.hear_error() == (4400, "bad-message")


@pytest.mark.parametrize("first", [4, 100])
def test_a_resume_from_nowhere_is_refused(running: Running, session: str, first: int) -> None:
    with talk(running.url, session, ready=False, from_=first) as stream:
        assert stream.hear_error() == (4409, "conflict")
        assert stream.heard[-1]["problem"]["expected"] == 3


def test_an_unknown_session_is_told(running: Running) -> None:
    with talk(running.url, "unknown", ready=False) as stream:
        assert stream.hear_error() == (4404, "unknown-session")


def test_a_deleted_session_is_told(running: Running, api: Api, session: str) -> None:
    with talk(running.url, session) as stream:
        api.http.delete(f"/v1/sessions/{session}")
        stream.send_frames([3, 4])
        assert stream.hear_error() == (4404, "unknown-session")


@pytest.mark.parametrize(
    "query",
    [
        {"mode": "fast"},
        {"masks": "gif"},
        {"from_": -1},
        {"from_": "first"},
        {"max_wait_ms": "nan"},
        {"max_wait_ms": 60_001},
        {"clip_length": 2},
        {"masks": "png&masks=rle"},
    ],
)
def test_a_wrong_parameter_is_told(running: Running, session: str, query: Any) -> None:
    with talk(running.url, session, ready=False, **query) as stream:
        assert stream.hear_error() == (4422, "bad-option")


def test_a_client_of_another_protocol_is_refused(running: Running, session: str) -> None:
    address = f"ws{running.url.removeprefix('http')}/v1/sessions/{session}/stream"
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(address, subprotocols=[Subprotocol("chat")], proxy=None),
    ):
        pass
    assert caught.value.response.status_code == 422
    assert b"tamvt.v1" in (caught.value.response.body or b"")


def test_a_plain_request_is_no_stream(api: Api, session: str) -> None:
    assert api.http.get(f"/v1/sessions/{session}/stream").status_code == 404


@pytest.mark.parametrize("end", ["close", "drop"])
def test_a_client_may_leave_at_any_time(running: Running, api: Api, session: str, end: str) -> None:
    leave: dict[str, Callable[[Any], None]] = {
        "close": lambda connection: connection.close(),
        "drop": lambda connection: connection.socket.shutdown(SHUT_RDWR),
    }
    for _ in range(3):
        with talk(running.url, session) as stream:
            stream.send_frames([3])
            leave[end](stream.socket)
            with pytest.raises(ConnectionClosed):
                stream.hear()
    assert api.state(session)["next_frame"] == 3
