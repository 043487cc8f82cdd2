"""Many workflows at once, and one kind of loss: workers are killed over and over, or servers lose what they have."""

import random
import time
from pathlib import Path

import pytest

from tests.chaos.books import Calls, close
from tests.chaos.faults import Fault, Moment, do, last
from tests.chaos.order import Order
from tests.chaos.test_mix import the_seed
from tests.chaos.town import FATES, Town, town
from tests.chaos.traffic import Traffic
from tests.fakes.fates import drawn, fated
from tests.processes import Processes

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
RUNS, OPEN = 1_000, 150
KILL_EVERY_S = 3.0


def test_a_thousand_workflows_while_a_worker_is_killed_every_three_seconds(
    processes: Processes, tmp_path: Path
) -> None:
    with town(processes, tmp_path, workers=6) as place:
        seed = the_seed()
        rng, calls, moments = random.Random(seed), Calls(place), list[Moment]()
        began = time.monotonic()
        with Traffic(place, seed, opened=OPEN, limit=RUNS) as traffic:
            place.until(lambda: len(traffic.orders) >= OPEN, 60)
            while not (traffic.is_done and has_ended(place)):
                due = time.monotonic() + KILL_EVERY_S
                moments.append(kill_one(place, rng))
                calls.gather()
                last(place, max(due - time.monotonic(), 0))
        seconds = time.monotonic() - began
        print(f"\nGOBLIN_SEED={seed}: {len(moments)} workers killed in {seconds:.0f} s")  # noqa: T201
        close(place, traffic.orders, moments, calls, patience=120)


@pytest.mark.parametrize("is_hard", [False, True], ids=["one after the other", "killed at once"])
def test_five_hundred_workflows_run_while_the_servers_lose_what_they_have(
    processes: Processes, tmp_path: Path, is_hard: bool
) -> None:
    rest, how = (0.0, "crash") if is_hard else (6.0, "restart")
    losses = (Fault("flush", "redis", 0, rest), Fault(how, "redis", 0, rest), Fault(how, "postgres", 0, rest))
    with town(processes, tmp_path, pace_s=4, concurrency=150) as place:
        calls, moments = Calls(place), list[Moment]()
        orders = submit_at_once(place, 500)
        place.until(lambda: calls_under_way(place) >= 100, 120)
        for fault in losses:
            print(f"{open_runs(place)} runs open, {calls_under_way(place)} calls under way: {fault}")  # noqa: T201
            moments.append(do(place, fault))
            last(place, fault.rest)
        close(place, orders, moments, calls, patience=300)


def submit_at_once(place: Town, count: int) -> list[Order]:
    """No worker hears of the first ones before the last are there."""
    plans = drawn(fated(FATES, 10), count, seed=1)
    wanted = [(plans[number % len(plans)], number % 3 > 0) for number in range(count)]
    doors = [place.wires[worker.name, "redis"] for worker in place.workers]
    for door in doors:
        door.silence()
    orders = [Order(place.submit(plan, fail_fast=fail_fast), plan, fail_fast) for plan, fail_fast in wanted]
    for door in doors:
        door.mend()
    return orders


def kill_one(place: Town, rng: random.Random) -> Moment:
    """A worker that is ready dies in the middle of its calls; another one is started in its place, not waited for."""
    victim = rng.choice(place.until(lambda: [worker for worker in place.workers if worker.is_ready()], 60))
    begun = time.time()
    victim.kill("SIGKILL")
    victim.start()
    return Moment(Fault("kill", victim.name, 0, KILL_EVERY_S), begun, time.time())


def open_runs(place: Town) -> int:
    row = place.one("select count(*) as n from runs where finished_at is null")
    return row.n if row else 0


def calls_under_way(place: Town) -> int:
    row = place.one("select count(*) as n from attempts where status = 'open'")
    return row.n if row else 0


def has_ended(place: Town) -> bool:
    return open_runs(place) == 0
