"""Messages to bytes and back."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamvt_client import wire

numbers = st.integers(0, wire.MAX_NUMBER)
timestamps, images = st.integers(0, wire.MAX_TIMESTAMP), st.binary(max_size=64)
pictures = st.builds(wire.ImageMessage, numbers, timestamps, images, st.just(0))
frames = st.builds(
    wire.ImageMessage, numbers, timestamps, images, st.sampled_from(wire.FRAME_FLAGS)
)


@given(picture=pictures, kind=st.sampled_from([wire.FRAME, wire.LABEL_MAP]))
def test_a_picture_survives_the_round_trip(picture: wire.ImageMessage, kind: int) -> None:
    assert wire.read_image(wire.write_image(picture, kind=kind), kind=kind) == picture


@given(picture=frames)
def test_a_frame_is_what_the_service_reads(picture: wire.ImageMessage) -> None:
    message = wire.write_image(picture, kind=wire.FRAME)
    assert wire.read_client_message(message) == picture


@given(frame=numbers)
def test_an_ack_survives_the_round_trip(frame: int) -> None:
    assert wire.read_client_message(wire.write_ack(frame)) == wire.Ack(frame)


def test_an_end_survives_the_round_trip() -> None:
    assert wire.read_client_message(wire.write_end()) == wire.End()


@given(message=st.binary(max_size=40) | st.text(max_size=40))
def test_whatever_comes_is_read_or_refused(message: bytes | str) -> None:
    with suppress(wire.WireError):
        wire.read_client_message(message)


@given(value=st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()))
def test_no_other_json_is_taken_for_a_message(value: object) -> None:
    with pytest.raises(wire.WireError):
        wire.read_client_message(json.dumps(value))


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (b"", "header"),
        (bytes(15), "header"),
        (bytes(16), "kind 0"),
        (b"\x02" + bytes(15), "kind 2"),
        (b"\x01\x02" + bytes(14), "flags"),
        (b"\x01\x04" + bytes(14), "flags"),
        (b"\x01\x00\x00\x01" + bytes(12), "flags"),
        (b"\x01" + bytes(7) + b"\x00\x20" + bytes(6), "timestamp"),
        ("", "no JSON"),
        ("frame", "no JSON"),
        ("[" * 1000, "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "binary"),
        ('{"type": "credit", "n": 3}', "binary"),
        ('{"type": "end", "now": true}', "binary"),
        ('{"type": "ack"}', "binary"),
        ('{"type": "ack", "frame": true}', "binary"),
        ('{"type": "ack", "frame": -1}', "binary"),
        ('{"type": "ack", "frame": 1.5}', "binary"),
        ('{"type": "end", "type": "ack", "frame": 1}', "no JSON"),
        ('{"type": "ack", "frame": NaN}', "no JSON"),
        (json.dumps({"type": "end", "more": "x" * 1024}), "characters"),
    ],
)
def test_a_message_that_makes_no_sense_is_explained(message: bytes | str, word: str) -> None:
    with pytest.raises(wire.WireError, match=word):
        wire.read_client_message(message)


def test_the_largest_timestamp_is_read() -> None:
    picture = wire.ImageMessage(1, 2**53 - 1, b"")
    message = wire.write_image(picture, kind=wire.FRAME)
    assert wire.read_image(message, kind=wire.FRAME) == picture
