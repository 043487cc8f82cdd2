"""Batches in a ledger without an API: lines stored, begun, and their results read."""

import json
import uuid
from collections.abc import Iterable
from typing import Any

from goblin.clock import new_id
from ledger import batches, files
from ledger.batches import BatchView, NewBatch
from ledger.files import Bounds
from ledger.session import Ledger

COMPLETIONS = "/v1/chat/completions"
BOUNDS = Bounds(2**30, 2**20, 1_000_000)


def completion(name: str, said: str = "hello", *, model: str, **more: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": said}], **more}
    return json.dumps({"custom_id": name, "method": "POST", "url": COMPLETIONS, "body": body}).encode()


def store(ledger: Ledger, lines: Iterable[bytes], key: uuid.UUID | None = None) -> uuid.UUID:
    file = new_id()
    with files.receive(ledger, file, key, "lines.jsonl", BOUNDS) as intake:
        for line in lines:
            intake.write(line + b"\n")
    return file


def begin(ledger: Ledger, lines: Iterable[bytes], **more: Any) -> uuid.UUID:
    key = more.get("key_id")
    asked: dict[str, Any] = {"endpoint": COMPLETIONS, "window": "24h", "window_s": 86_400, **more}
    return batches.create(ledger, NewBatch(store(ledger, lines, key), **asked))


def is_over(ledger: Ledger, batch: uuid.UUID) -> BatchView | None:
    found = batches.view(ledger, batch, None)
    return found if found.status.is_final else None


def read(ledger: Ledger, file: uuid.UUID | None) -> list[dict[str, Any]]:
    if file is None:
        return []
    known = files.view(ledger, file, None)
    return [json.loads(line) for line in b"".join(files.content(ledger, known)).splitlines()]
