"""How vendors put an answer into bytes: frames, events, chunks and blocks, to write transcripts with."""

import json
from dataclasses import dataclass
from struct import pack
from typing import Any
from zlib import crc32

from providers.message import Event


@dataclass(frozen=True)
class Transcript:
    name: str
    dialect: str
    body: bytes
    events: tuple[Event, ...]


def sse(*payloads: Any, end: str = "") -> bytes:
    return ("".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads) + end).encode()


def named(*payloads: Any) -> bytes:
    return "".join(f"event: {payload['type']}\ndata: {json.dumps(payload)}\n\n" for payload in payloads).encode()


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame of an event stream as Amazon sends it."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    lengths = pack(">II", 16 + len(head) + len(payload), len(head))
    said = lengths + pack(">I", crc32(lengths)) + head + payload
    return said + pack(">I", crc32(said))


def framed(*events: tuple[str, Any]) -> bytes:
    return b"".join(
        frame({":message-type": "event", ":event-type": name}, json.dumps(payload).encode()) for name, payload in events
    )


def excepted(name: str, message: str = "x") -> bytes:
    headers = {":message-type": "exception", ":exception-type": name}
    return frame(headers, json.dumps({"message": message}).encode())


def content(**said: str) -> dict[str, Any]:
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": said}}}


def ended(reason: str, **more: Any) -> dict[str, Any]:
    return {"type": "message-end", "delta": {"finish_reason": reason, **more}}


def lines(*payloads: Any) -> bytes:
    return "".join(json.dumps(payload) + "\n" for payload in payloads).encode()


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m-1", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


DONE = "data: [DONE]\n\n"
PLAIN_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
MESSAGE_START = {
    "type": "message_start",
    "message": {
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "usage": {
            "input_tokens": 9,
            "output_tokens": 1,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 2,
        },
    },
}


def block(kind: str, **said: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **said}}


def partial(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": list(parts)}}
    return {"candidates": [{**candidate, "finishReason": finish} if finish else candidate], **more}
