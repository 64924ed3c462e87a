"""The recorded streams of clients/conformance: the service still says what they say."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from model.core.encoding import decode_rle
from model.core.image_headers import ImageLimits
from model.core.palette import read_label_map
from scripts.record_stream import DESCRIPTION, TRANSCRIPT, record
from service.stream.asyncapi import describe_stream
from tamvt_client import wire
from tamvt_client.messages import StreamedMasks
from tests.support import scene
from tests.support.running import Api, Running

LINES: list[dict[str, Any]] = [json.loads(line) for line in TRANSCRIPT.read_text().splitlines()]


def spoken(side: str, form: str) -> list[str]:
    return [line[side][form] for line in LINES if form in line.get(side, {})]


def test_the_service_says_what_was_recorded(running: Running) -> None:
    heard = list(record(running.url))
    assert [comparable(line) for line in heard] == [comparable(line) for line in LINES]


def comparable(line: dict[str, Any]) -> Any:
    """Return a line without what differs from run to run: times, and an edge's last pixel."""
    if "binary" in line.get("service", {}):
        image = wire.read_image(base64.b64decode(line["service"]["binary"]), kind=wire.LABEL_MAP)
        return "label map", image.number, image.timestamp_us
    if "text" not in line.get("service", {}):
        return line
    message = json.loads(line["service"]["text"])
    match message["type"]:
        case "masks":
            message["timing"] = sorted(message["timing"])
            for each in message["objects"]:
                each["confidence"] = round(each["confidence"])
                each["area"] = each["bbox"] = each["rle"] = sorted(each)
        case "stats":
            message["frames_per_s"] = message["latency_ms"] = None
        case "error":
            message["problem"].pop("instance", None)
    return message


def test_every_message_is_as_it_is_described() -> None:
    described = describe_stream()
    kinds = {
        "ready": "ReadyMessage",
        "masks": "StreamedMasks",
        "dropped": "DroppedMessage",
        "durable": "DurableMessage",
        "stats": "StatsMessage",
        "error": "ErrorMessage",
        "bye": "ByeMessage",
        "ack": "Ack",
        "end": "End",
    }
    seen = set()
    for text in spoken("service", "text") + spoken("client", "text"):
        message = json.loads(text)
        name = kinds[message["type"]]
        seen.add(name)
        schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
        jsonschema_rs.validator_for(schema).validate(message)
    assert seen == set(kinds.values())


def test_the_python_client_reads_every_message() -> None:
    frames = []
    for text in spoken("service", "text"):
        message = wire.read_service_message(text)
        assert message is not None
        if isinstance(message, StreamedMasks) and message.objects[0].rle:
            frames.append(message.frame)
            mask = decode_rle(dict(message.objects[0].rle))
            assert (mask == (scene.labels(message.frame) == 1)).mean() > 0.97
    assert frames == [1, 2, 3, 4, 3, 4, 5, 6, 12, 13, 14, 15]
    for data in spoken("service", "binary"):
        image = wire.read_image(base64.b64decode(data), kind=wire.LABEL_MAP)
        assert (read_label_map(image.image, ImageLimits()) > 0).any()


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_the_description_is_served_current_and_whole(api: Api) -> None:
    described = api.http.get("/asyncapi.json").json()
    assert described == json.loads(DESCRIPTION.read_text())
    for reference in references(described):
        found = described
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert found
    query = described["channels"]["stream"]["bindings"]["ws"]["query"]["properties"]
    assert set(query) == {"mode", "masks", "from", "max_wait_ms", "stats", "durable", "ticket"}


@pytest.mark.parametrize("name", ["ReadyMessage", "Frame", "StatsMessage"])
def test_the_description_tells_what_messages_are_for(name: str) -> None:
    described = json.loads(DESCRIPTION.read_text())["components"]
    assert described["messages"][name]["payload"]["$ref"] == f"#/components/schemas/{name}"
    assert described["schemas"][name]["description"]
