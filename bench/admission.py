"""Admissions per second and their p99, beside two floors of Redis and its client.

One is a script of the same size, which makes as many calls and decides nothing, the other does nothing at all.
The floors are sent the same values and answer as much; one client, so the round trip is in all.
"""

import time
from collections.abc import Callable
from itertools import chain

import redis

from bench.ground import Ground, median, percentile
from bench.table import Row
from goblin import kv
from goblin.clock import new_id
from routing import budget
from routing.admission import Admission, Admitted, Used
from routing.ask import Ask, Place, Rate, as_values
from routing.script import PREFIX, Scripts, server_of, written

CALLS, ROUNDS = 1_000, 7
LARGE = 10**15
SOMEBODY = new_id()
NOTHING = "return {'admitted', 0, 1700000000000, 'generation', 0}"
SAME_SIZE = (
    """
local root, attempt = KEYS[1] .. ":floor:", string.sub(ARGV[1], 13, 48)
redis.call("MGET", root .. "generation", root .. "server")
redis.call("TIME")
redis.call("GET", root .. "hold:" .. attempt)
for _, name in ipairs({"provider", "candidate"}) do
  redis.call("HMGET", root .. name, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12")
end
redis.call("HMGET", root .. "money", "1", "2", "3", "4", "5", "6", "7")
redis.call("HMGET", root .. "window", "1", "2", "3", "4", "5", "6", "7", "8")
redis.call("ZCARD", root .. "slots")
redis.call("HSET", root .. "window", "1", 1, "2", 2, "3", 3, "4", 4, "5", 5, "6", 6)
redis.call("ZADD", root .. "slots", 1, attempt)
redis.call("ZADD", root .. "idle", 1, attempt)
redis.call("ZRANGEBYSCORE", root .. "idle", "-inf", 0, "LIMIT", 0, 10)
local line = "1000000000 1000000000 1000000000000000 -1"
redis.call("HSET", root .. "money", "1", line, "2", line, "3", line, "4", line, "5", line, "6", line, "7", line)
redis.call("SET", root .. "hold:" .. attempt, ARGV[1])
redis.call("ZADD", root .. "holds", 1, attempt)
"""
    + NOTHING
)


def measure(ground: Ground) -> list[Row]:
    client = kv.connect(ground.redis_url)
    gate = Admission(Scripts(client))
    prefix = gate.scripts.prefix
    client.mset({f"{prefix}:generation": "bench", f"{prefix}:server": server_of(client)})
    gate.admit(_ask())
    contenders: dict[str, Callable[[Ask], object]] = {
        "admissions": lambda ask: isinstance(gate.admit(ask), Admitted),
        "scripts of the same size": _script(client, SAME_SIZE),
        "scripts that do nothing": _script(client, NOTHING),
    }
    seen: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):  # in turns, so that all have the same machine
        asks = [_ask() for _ in range(CALLS)]
        for name, call in contenders.items():
            seen[name].append(_timed(asks, call))
        for ask in asks:
            gate.settle(ask.attempt, Used(50, 400, 100))
    rates = {name: median([_rate(times) for times in rounds]) for name, rounds in seen.items()}
    admissions, *floors = rates
    return [
        *(
            Row("admission", f"admissions / {name}, per second", rates[admissions] / rates[name], "x")
            for name in floors
        ),
        *(Row("admission", f"{name} per second, one client", rate) for name, rate in rates.items()),
        *(Row("admission", f"p99 of {name}", 1e3 * percentile([*chain(*seen[name])], 0.99), "ms") for name in rates),
    ]


def _script(client: redis.Redis, text: str) -> Callable[[Ask], object]:
    digest = client.script_load(text)
    return lambda ask: client.evalsha(digest, 1, PREFIX, *map(written, as_values(ask)))


def _timed(asks: list[Ask], call: Callable[[Ask], object]) -> list[float]:
    times = []
    for ask in asks:
        began = time.perf_counter()
        assert call(ask)
        times.append(time.perf_counter() - began)
    return times


def _rate(times: list[float]) -> float:
    return len(times) / sum(times)


def _ask() -> Ask:
    """Four candidates with every kind of limit and seven budgets; the first one has room."""
    rate = Rate(rpm=10**7, tpm=10**10, concurrency=10**5)
    places = tuple(
        Place(
            f"provider{number}", f"provider{number}/model", 1_000, 1_500, rate, 600_000,
            tuple(budget.of_provider(f"provider{number}", period, LARGE) for period in budget.PERIODS),
        )
        for number in range(4)
    )  # fmt: skip
    above = (
        budget.everything("hour", LARGE),
        budget.everything("day", LARGE),
        budget.of_run(new_id(), LARGE),
        budget.of_key(SOMEBODY, LARGE),
        budget.of_batch(SOMEBODY, LARGE),
    )
    return Ask(new_id(), places, above)
