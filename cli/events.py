"""The events of a run as they come: server-sent events, taken up again with Last-Event-ID when the stream breaks."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from cli.client import Api, part, refused
from goblin.errors import Unavailable

FINISHED = "run.finished"
SILENCE_S = 60.0  # a stream that says nothing for so long, not even a comment, is taken up anew
PATIENCE_S = 60.0  # how long an API may be away
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Event:
    """`id` is what a stream is taken up from; empty when none was given yet."""

    id: str
    type: str
    data: Mapping[str, Any]


def events(api: Api, run: str, after: str = "") -> Iterator[Event]:
    """All events of a run up to its end. Raises Answered, or Unavailable when the API stays away."""
    last_id, pause, away_since = after, FIRST_PAUSE_S, time.monotonic()
    while True:
        try:
            for event in _stream(api, run, last_id):
                last_id, pause, away_since = event.id or last_id, FIRST_PAUSE_S, time.monotonic()
                yield event
                if event.type == FINISHED:
                    return
        except (httpx.HTTPError, Unavailable) as error:
            if time.monotonic() - away_since > PATIENCE_S:
                raise api.unreachable() from error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def read(lines: Iterable[str]) -> Iterator[Event]:
    """Events from the lines of a stream; one that is cut short is not told."""
    kind, last_id = "", ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield Event(last_id, kind or "message", json.loads("\n".join(data)))
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                kind = value
            case "data":
                data.append(value)
            case "id":
                last_id = value


def _stream(api: Api, run: str, last_id: str) -> Iterator[Event]:
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
    wait = httpx.Timeout(SILENCE_S, connect=5)
    with api.client.stream("GET", f"/v1/runs/{part(run)}/events", headers=headers, timeout=wait) as answer:
        if answer.is_success:
            yield from read(answer.iter_lines())
            return
        answer.read()
        error = refused(answer)
        raise Unavailable(error.message) if answer.status_code >= 500 else error
