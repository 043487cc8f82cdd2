"""Admissions per second and their p99, beside what Redis and its client cost for a script that does nothing.

The floor is sent the same value and answers as much; one client, so the round trip is in both.
"""

import time
from collections.abc import Callable
from itertools import chain

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


def measure(ground: Ground) -> list[Row]:
    client = kv.connect(ground.redis_url)
    gate = Admission(Scripts(client))
    prefix = gate.scripts.prefix
    client.mset({f"{prefix}:generation": "bench", f"{prefix}:server": server_of(client)})
    digest = client.script_load(NOTHING)
    gate.admit(_ask())
    floors, admissions = [], []
    for _ in range(ROUNDS):  # in turns, so that both have the same machine
        asks = [_ask() for _ in range(CALLS)]
        floors.append(_timed(asks, lambda ask: client.evalsha(digest, 1, PREFIX, *map(written, as_values(ask)))))
        admissions.append(_timed(asks, lambda ask: isinstance(gate.admit(ask), Admitted)))
        for ask in asks:
            gate.settle(ask.attempt, Used(50, 400, 100))
    rate, floor = median([_rate(times) for times in admissions]), median([_rate(times) for times in floors])
    return [
        Row("admission", "admissions / scripts that do nothing, per second", rate / floor, "x"),
        Row("admission", "admissions per second, one client", rate),
        Row("admission", "scripts that do nothing per second", floor),
        Row("admission", "p99 of an admission", 1e3 * percentile([*chain(*admissions)], 0.99), "ms"),
        Row("admission", "p99 of a script that does nothing", 1e3 * percentile([*chain(*floors)], 0.99), "ms"),
    ]


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
