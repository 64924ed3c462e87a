"""The stream as AsyncAPI 3.1 describes it, made from the messages that client and service share."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, TypeAdapter

from service.stream.routes import StreamQuery, find_streams
from tamvt_client import wire
from tamvt_client.messages import SERVICE_MESSAGE

VERSION: Final = "1"
REFS: Final = "#/components/schemas/{model}"
NUMBER: Final[dict[str, Any]] = {"type": "integer", "minimum": 0, "maximum": wire.MAX_NUMBER}
HEADER: Final = (
    "16 bytes, big endian: u8 kind ({kind}), u8 flags ({flags}), u16 0, u32 frame number, u64 "
    "timestamp in microseconds (below 2^53); then {image}."
)
FLAGS: Final = (
    "0; with durable=interval:S, 1 for a frame whose masks came on an earlier connection, and 3 if "
    "it was the last one of its clip"
)
# What a client sends: the service reads it by hand (`wire.read_client_message`).
CLIENT_SCHEMAS: Final[dict[str, Any]] = {
    "Frame": {
        "type": "string",
        "format": "binary",
        "description": HEADER.format(kind=wire.FRAME, flags=FLAGS, image="a JPEG, PNG or WebP"),
    },
    "Ack": {
        "type": "object",
        "description": "The client has the masks up to this frame. It may be left out.",
        "required": ["type", "frame"],
        "properties": {"type": {"const": "ack"}, "frame": NUMBER},
        "additionalProperties": False,
    },
    "End": {
        "type": "object",
        "description": "The client sends no more frames.",
        "required": ["type"],
        "properties": {"type": {"const": "end"}},
        "additionalProperties": False,
    },
}
LABEL_MAP: Final[dict[str, Any]] = {
    "type": "string",
    "format": "binary",
    "description": "With masks=png, behind its masks. "
    + HEADER.format(kind=wire.LABEL_MAP, flags="0", image="a palette PNG of object ids"),
}
BINARY: Final = frozenset({"Frame", "LabelMap"})
SUMMARIES: Final = {
    "ReadyMessage": "The first message: send nothing before it, and from next_frame on",
    "StreamedMasks": "One frame's masks",
    "DroppedMessage": "Frames that were passed over",
    "DurableMessage": "With durable=interval:S, up to which frame all is committed",
    "StatsMessage": "How the stream does, once a second with stats=true",
    "ErrorMessage": "What went wrong; the connection is closed next",
    "ByeMessage": "The last message: whether to connect again",
}

router = APIRouter(include_in_schema=False)


@router.get("/asyncapi.json")
async def show_asyncapi(request: Request) -> dict[str, Any]:
    """The stream's description for programs; docs/stream.md explains it."""
    (await find_streams(request)).access.check_host(request.headers)
    return describe_stream()


@cache
def describe_stream() -> dict[str, Any]:
    """Return the AsyncAPI document, which is made once."""
    service = SERVICE_MESSAGE.json_schema(ref_template=REFS, mode="serialization")
    schemas: dict[str, Any] = {**service["$defs"], **CLIENT_SCHEMAS, "LabelMap": LABEL_MAP}
    spoken = [reference["$ref"].rpartition("/")[2] for reference in service["oneOf"]] + ["LabelMap"]
    sent = list(CLIENT_SCHEMAS)
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "TAM-VT Serve: the stream",
            "version": VERSION,
            "description": f"Frames in, masks out. Subprotocol {wire.SUBPROTOCOL}, no compression. "
            "Members and kinds of messages that are not known are to be ignored.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:8000", "protocol": "ws"}},
        "channels": {
            "stream": {
                "address": "/v1/sessions/{session_id}/stream",
                "servers": [{"$ref": "#/servers/local"}],
                "parameters": {
                    "session_id": {"description": "of `POST /v1/sessions` (openapi.json)"}
                },
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": _query_schema(StreamQuery),
                        "headers": {
                            "type": "object",
                            "required": ["Sec-WebSocket-Protocol"],
                            "properties": {"Sec-WebSocket-Protocol": {"const": wire.SUBPROTOCOL}},
                        },
                        "bindingVersion": "0.1.0",
                    }
                },
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in (*sent, *spoken)
                },
            }
        },
        "operations": {
            "receiveFrames": _operation("receive", sent),
            "sendMasks": _operation("send", spoken),
        },
        "components": {
            "messages": {name: _message(name) for name in (*sent, *spoken)},
            "schemas": schemas,
        },
    }


def _operation(action: str, names: list[str]) -> dict[str, Any]:
    """Return an operation of the service: it receives from clients, or sends to them."""
    messages = [{"$ref": f"#/channels/stream/messages/{name}"} for name in names]
    return {"action": action, "channel": {"$ref": "#/channels/stream"}, "messages": messages}


def _message(name: str) -> dict[str, Any]:
    kind = "application/octet-stream" if name in BINARY else "application/json"
    summary = {"summary": SUMMARIES[name]} if name in SUMMARIES else {}
    reference = {"$ref": f"#/components/schemas/{name}"}
    return {"name": name, "contentType": kind, "payload": reference, **summary}


def _query_schema(query: type[BaseModel]) -> dict[str, Any]:
    schema = TypeAdapter(query).json_schema(ref_template=REFS)
    schema.pop("title", None)
    return schema
