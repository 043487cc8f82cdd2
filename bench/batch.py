"""Lines into a batch, over HTTP, against a bare COPY of the same lines and against one message per line; and what the
processes hold at their peak when the file is ten times as long.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bench.ground import Ground, until
from bench.house import House
from bench.meter import peak
from bench.table import Row
from cli.servers import free_port

SIZES = (10_000, 100_000)
MESSAGES = 5_000
ENDED = 1_000  # lines that are run of each file
MODEL = "sim-instant+tokens=20"
_TABLE = "create unlogged table plain (number int primary key, body bytea not null)"


def measure(ground: Ground) -> list[Row]:
    seen = {size: _batch(ground, size) for size in SIZES}
    small, large = SIZES
    copied, sent = _copied(ground, large), _sent(ground)
    rate = large / seen[large]["seconds"]
    return [
        Row("batch", f"{large:,} lines uploaded / copied bare", rate / copied, "x"),
        Row("batch", "lines uploaded / messages of plain Celery's delay()", rate / sent, "x"),
        *(
            Row("batch", f"{part}'s peak at {large:,} lines / at {small:,}", seen[large][part] / seen[small][part], "x")
            for part in ("API", "scheduler", "worker")
        ),
        *(
            Row("batch", f"{part}'s peak at {size:,} lines", seen[size][part], "MiB")
            for size in SIZES
            for part in ("API", "scheduler", "worker")
        ),
        Row("batch", "lines uploaded", rate, "/s"),
        Row("batch", "lines copied bare", copied, "/s"),
        Row("batch", "messages by delay()", sent, "/s"),
        Row("batch", "lines run to their end, by one worker", seen[large]["runs"], "/s"),
    ]


def write(file: Path, size: int) -> Path:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say something about a fox, in one sentence."}]}
    with file.open("w") as lines:
        for number in range(size):
            line = {"custom_id": f"n{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.write(json.dumps(line) + "\n")
    return file


def _batch(ground: Ground, size: int) -> Mapping[str, float]:
    """Seconds of the upload, lines ended per second, and the peak of each process in MiB."""
    ground.empty_redis()
    file = write(ground.home / f"{size}.jsonl", size)
    with ground.simulator() as url:
        house = House.build(ground, MODEL, f"{url}/at/bench/openai/v1")
        with _house(ground, house) as (api, pids), httpx.Client(base_url=api, timeout=120, trust_env=False) as client:
            began = time.monotonic()
            with file.open("rb") as content:
                stored = client.post("/v1/files", data={"purpose": "batch"}, files={"file": content}).json()
            seconds = time.monotonic() - began
            request = {"input_file_id": stored["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            batch = client.post("/v1/batches", json=request).json()["id"]
            began = time.monotonic()
            until(lambda: _completed(client, batch) >= ENDED, pause_s=0.2)
            rate = _completed(client, batch) / (time.monotonic() - began)
            peaks = {part: peak(pid) for part, pid in pids.items()}
            client.post(f"/v1/batches/{batch}/cancel")
        house.close()
    return {"seconds": seconds, "runs": rate, **peaks}


@contextmanager
def _house(ground: Ground, house: House) -> Iterator[tuple[str, Mapping[str, int]]]:
    """The API's URL, and the ids of all processes."""
    port = free_port()
    with ExitStack() as taken:

        def start(*arguments: str, ready: str = " ready.", **more: str) -> int:
            return taken.enter_context(
                ground.process("cli.main", *arguments, env={**house.environ, **more}, ready=ready)
            )

        pids = {
            "API": start("api", f"--port={port}", ready="startup complete"),
            "scheduler": start("beat"),
            "worker": start("worker", "--concurrency=50"),
        }
        yield f"http://127.0.0.1:{port}", pids


def _completed(client: httpx.Client, batch: str) -> int:
    counts: Mapping[str, Any] = client.get(f"/v1/batches/{batch}").json()["request_counts"]
    return int(counts["completed"])


def _copied(ground: Ground, size: int) -> float:
    """Lines per second by COPY, cut and sent by a dozen lines of Python, into a table that no crash survives."""
    file = ground.home / f"{size}.jsonl"
    with psycopg.connect(ground.database(), autocommit=True) as connection, file.open("rb") as lines:
        connection.execute(_TABLE)
        began = time.monotonic()
        with connection.cursor().copy("copy plain (number, body) from stdin (format binary)") as copy:
            copy.set_types(["int4", "bytea"])
            for number, line in enumerate(lines):
                copy.write_row((number, line.rstrip(b"\n")))
        return size / (time.monotonic() - began)


def _sent(ground: Ground) -> float:
    """Messages per second by one `delay` after the other."""
    os.environ["PLAIN_REDIS_URL"] = ground.redis_url
    from bench import plain

    ground.empty_redis()
    began = time.monotonic()
    for _ in range(MESSAGES):
        plain.ask.delay(MODEL, "Say something about a fox, in one sentence.")
    rate = MESSAGES / (time.monotonic() - began)
    plain.app.close()
    ground.empty_redis()
    return rate
