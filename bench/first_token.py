"""Time that is added between a caller and the first token, and per token, over calling the simulator directly.

One run at a time on an idle worker. The parts are taken from the events' own times and the ledger's; the last event
is read as the API reads it.
"""

import json
import time
import uuid
from dataclasses import dataclass

import httpx
import psycopg

from bench.ground import Ground, percentile
from bench.house import PROVIDER, House
from bench.table import Row
from workers.stream import key

CALLS, TOKENS, SPEED = 200, 40, 400
MODEL = f"sim-instant+tokens={TOKENS}+speed={SPEED}"


@dataclass(frozen=True, slots=True)
class Timing:
    """Moments in Unix seconds."""

    asked: float
    submitted: float
    claimed: float
    started: float  # the call: its event
    written: float  # the first token: its event
    read: float  # the first token, by a reader
    last_read: float


def measure(ground: Ground) -> list[Row]:
    with ground.simulator() as url:
        direct = [_direct(f"{url}/at/direct/openai/v1/chat/completions") for _ in range(CALLS)]
        house = House.build(ground, MODEL, f"{url}/at/{PROVIDER}/openai/v1")
        with house.workers("cli.main", processes=1, concurrency=8):
            for _ in range(20):
                _through(ground, house)
            ours = [_through(ground, house) for _ in range(CALLS)]
        house.close()
    first = [one.read - one.asked for one in ours]
    token = [(one.last_read - one.read) / TOKENS for one in ours]
    plain_first, plain_token = [one[0] for one in direct], [one[1] for one in direct]
    parts = {
        "submit": [one.submitted - one.asked for one in ours],
        "submitted → step claimed": [one.claimed - one.submitted for one in ours],
        "claimed → call started": [one.started - one.claimed for one in ours],
        "call started → first token": [one.written - one.started for one in ours],
        "first token → read": [one.read - one.written for one in ours],
    }
    return [
        *(
            Row("first_token", f"added to first token, p{share}", _ms(first, share) - _ms(plain_first, share), "ms")
            for share in (50, 90, 99)
        ),
        Row("first_token", "added per token, p50", _ms(token, 50) - _ms(plain_token, 50), "ms"),
        Row("first_token", "direct: first token, p50", _ms(plain_first, 50), "ms"),
        *(Row("first_token", f"{name}, p50", _ms(values, 50), "ms") for name, values in parts.items()),
    ]


def _direct(url: str) -> tuple[float, float]:
    """Seconds to the first token, and per token after it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "say something"}], "stream": True}
    with httpx.Client() as client:
        client.get(url)  # a warm connection, as ours is
        asked = time.time()
        moments = []
        with client.stream("POST", url, json=body, headers={"authorization": "Bearer none"}) as response:
            moments = [
                time.time() for line in response.iter_lines() if '"content":"' in line and '"content":""' not in line
            ]
    return moments[0] - asked, (moments[-1] - moments[0]) / TOKENS


def _through(ground: Ground, house: House) -> Timing:
    asked = time.time()
    run = house.submit("chat: say something")
    submitted = time.time()
    started = written = read = last_read = 0.0
    last = "0"
    while True:
        for number, event in _events(ground, run, last):
            last, now = number, time.time()
            at = int(number.partition("-")[0]) / 1e3
            match event["type"]:
                case "step.started":
                    started = at
                case "delta":
                    written, read, last_read = written or at, read or now, now
                case "run.finished":
                    if json.loads(event["data"])["outcome"] != "succeeded":
                        raise ValueError("the run did not succeed")
                    return Timing(asked, submitted, _claimed(house, run), started, written, read, last_read)


def _events(ground: Ground, run: uuid.UUID, last: str) -> list[tuple[str, dict[str, str]]]:
    return [entry for _, entries in ground.redis.xread({key(run): last}, block=1_000) or () for entry in entries]


def _claimed(house: House, run: uuid.UUID) -> float:
    with psycopg.connect(house.database_url) as connection:
        row = connection.execute(
            "select extract(epoch from started_at) from attempts where run_id = %s", [run]
        ).fetchone()
        return float(row[0]) if row else 0.0


def _ms(seconds: list[float], share: int) -> float:
    return 1e3 * percentile(seconds, share / 100)
