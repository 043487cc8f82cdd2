"""Listening to a run from outside, as clients do: server-sent events, resumed where the last ones ended."""

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

import httpx

Told: TypeAlias = tuple[str, str, dict[str, Any]]  # id, type, data


def events(client: httpx.Client, run: str, after: str | None = None) -> Iterator[Told]:
    """The events of a run as they come; raises httpx.TransportError when the stream is cut."""
    headers = {"Last-Event-ID": after} if after else {}
    with client.stream("GET", f"/v1/runs/{run}/events", headers=headers) as answer:
        answer.raise_for_status()
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "event" in fields:
                yield fields["id"], fields["event"], json.loads(fields["data"])
                fields = {}


def text_of(told: list[Told], step: str) -> str:
    """What a client that takes withdrawals seriously holds of a step in the end."""
    held = ""
    for _, kind, data in told:
        if data.get("step") == step:
            held = "" if kind == "step.reset" else held + data.get("text", "")
    return held.strip()
