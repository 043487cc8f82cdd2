"""Time that is added between a caller and the first token, and per token, over calling the simulator directly.

One run at a time on an idle worker. The parts are taken from the events' own times and the ledger's; the last event
is read as the API reads it.
"""

import json
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

from bench.ground import Ground, percentile
from bench.house import PROVIDER, House
from bench.table import Row
from workers.stream import key

CALLS, TOKENS, SPEED = 100, 40, 200
MODEL = f"sim-instant+ttft=0.1+speed={SPEED}+tokens={TOKENS}"  # as quick as the quickest vendors
ASK = "say something"
_TOKEN = re.compile(r'"content": ?"[^"]')


@dataclass(frozen=True, slots=True)
class Timing:
    """Moments in Unix seconds; `tokens` are those at which a reader has them."""

    asked: float
    submitted: float
    admitted: float
    started: float  # the call: its event
    written: float  # the first token: its event
    tokens: list[float]

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.tokens[0] - self.asked

    @property
    def late(self) -> float:
        """Seconds that a token comes behind the upstream's pace, on average, the first one being in time."""
        pace = TOKENS / len(self.tokens) / SPEED
        return sum(at - self.tokens[0] - number * pace for number, at in enumerate(self.tokens)) / len(self.tokens)


def measure(ground: Ground) -> list[Row]:
    with ground.simulator() as url:
        direct = [_direct(f"{url}/at/direct/openai/v1/chat/completions") for _ in range(CALLS)]
        house = House.build(ground, MODEL, f"{url}/at/{PROVIDER}/openai/v1")
        with house.workers("cli.main", processes=1, concurrency=8):
            for _ in range(20):
                _through(ground, house)
            ours = [_through(ground, house) for _ in range(CALLS)]
        house.close()
    first, direct_first = [one.first for one in ours], [one.first for one in direct]
    parts = {
        "asked → stored and published": [one.submitted - one.asked for one in ours],
        "asked → admitted": [one.admitted - one.asked for one in ours],
        "admitted → call started": [one.started - one.admitted for one in ours],
        "call started → first token": [one.written - one.started for one in ours],
        "first token → read": [one.tokens[0] - one.written for one in ours],
    }
    return [
        *(
            Row(
                "first_token", f"added to the first token, p{share}", _ms(first, share) - _ms(direct_first, share), "ms"
            )
            for share in (50, 90, 99)
        ),
        Row("first_token", "added to each later token", _mean_late(ours) - _mean_late(direct), "ms"),
        Row("first_token", "direct: first token, p50", _ms(direct_first, 50), "ms"),
        *(Row("first_token", f"{name}, p50", _ms(values, 50), "ms") for name, values in parts.items()),
    ]


def _direct(url: str) -> Timing:
    body = {"model": MODEL, "messages": [{"role": "user", "content": ASK}], "stream": True}
    with httpx.Client() as client:
        client.get(url)  # a warm connection, as ours is
        asked = time.time()
        with client.stream("POST", url, json=body, headers={"authorization": "Bearer none"}) as response:
            tokens = [time.time() for line in response.iter_lines() if _TOKEN.search(line)]
    return Timing(asked, asked, asked, asked, tokens[0], tokens)


def _through(ground: Ground, house: House) -> Timing:
    asked = time.time()
    run = house.submit(f"chat: {ASK}")
    submitted = time.time()
    started = written = 0.0
    tokens: list[float] = []
    last = "0"
    while True:
        for number, event in _events(ground, run, last):
            last, now = number, time.time()
            at, data = int(number.partition("-")[0]) / 1e3, json.loads(event["data"])
            match event["type"]:
                case "step.started":
                    started = at
                case "delta":
                    written = written or at
                    tokens += [now] * data["tokens"]
                case "run.finished":
                    if data["outcome"] != "succeeded":
                        raise ValueError("the run did not succeed")
                    return Timing(asked, submitted, _admitted(house, run), started, written, tokens)


def _events(ground: Ground, run: uuid.UUID, last: str) -> list[tuple[str, dict[str, str]]]:
    found: Any = ground.redis.xread({key(run): last}, block=1_000) or ()
    return [entry for _, entries in found for entry in entries]


def _admitted(house: House, run: uuid.UUID) -> float:
    with psycopg.connect(house.database_url) as connection:
        row = connection.execute(
            "select extract(epoch from started_at) from attempts where run_id = %s", [run]
        ).fetchone()
        return float(row[0]) if row else 0.0


def _mean_late(timings: list[Timing]) -> float:
    return 1e3 * sum(one.late for one in timings) / len(timings)


def _ms(seconds: list[float], share: int) -> float:
    return 1e3 * percentile(seconds, share / 100)
