"""Many workflows at once, and one kind of loss: workers are killed over and over, or servers lose what they have."""

import random
import time
from pathlib import Path

import pytest

from tests.chaos.books import Calls, close
from tests.chaos.faults import Fault, Moment, do, last
from tests.chaos.test_mix import the_seed
from tests.chaos.town import Town, town
from tests.chaos.traffic import Traffic
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
                moments.append(kill_one(place, rng))
                calls.gather()
                last(place, KILL_EVERY_S)
        seconds = time.monotonic() - began
        print(f"\nGOBLIN_SEED={seed}: {len(moments)} workers killed in {seconds:.0f} s")  # noqa: T201
        close(place, traffic.orders, moments, calls, patience=120)


@pytest.mark.parametrize(
    "losses",
    [
        (Fault("flush", "redis", 0, 15), Fault("restart", "redis", 0, 15), Fault("restart", "postgres", 0, 15)),
        (Fault("flush", "redis", 0, 0), Fault("crash", "redis", 0, 0), Fault("crash", "postgres", 0, 15)),
    ],
    ids=["one after the other", "killed all at once"],
)
def test_five_hundred_workflows_run_while_the_servers_lose_what_they_have(
    processes: Processes, tmp_path: Path, losses: tuple[Fault, ...]
) -> None:
    with town(processes, tmp_path, pace_s=2, concurrency=150) as place:
        calls, moments = Calls(place), list[Moment]()
        with Traffic(place, 1, opened=500, limit=500, max_steps=8) as traffic:
            place.until(lambda: traffic.is_done or len(traffic.orders) >= 400, 120)
            for fault in losses:
                moments.append(do(place, fault))
                print(f"{open_runs(place)} runs were open: {fault}")  # noqa: T201
                last(place, fault.rest)
            place.until(lambda: traffic.is_done, 120)
        close(place, traffic.orders, moments, calls, patience=300)


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


def has_ended(place: Town) -> bool:
    return open_runs(place) == 0
