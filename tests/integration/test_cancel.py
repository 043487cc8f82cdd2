"""A cancel, of a run or step, ends the calls that are under way, as their provider sees it; what they cost is kept."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.embedded import Stack
from cli.servers import free_port
from routing.script import PREFIX
from tests.fakes.runs import assert_books_balance
from tests.fakes.situations import AWAY, EXTRA, OF_A_STEP, SIMS, SITUATIONS, Situation, begin, stop
from tests.fakes.wire import Wire
from tests.processes import PATIENCE_S, Processes
from tests.world import World, world
from workers.app import STEPS, provider_queue


@pytest.fixture(scope="module")
def wire(stack: Stack) -> Iterator[Wire]:
    """Between the worker and Redis."""
    with Wire(f"{stack.redis_url.rpartition('/')[0]}/11") as wire:
        yield wire


@pytest.fixture(scope="module")
def place(
    processes: Processes, database_url: str, stack: Stack, wire: Wire, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("cancel")
    redis_url = f"{stack.redis_url.rpartition('/')[0]}/11"
    with world(processes, folder, database_url, redis_url, *SIMS, extra=EXTRA) as made:
        made.redis.flushdb()
        queues = (STEPS, *(provider_queue(sim.name) for sim in SIMS if sim.name != "nobody-s"))
        made.start_worker("w1", env={**made.env, "REDIS_URL": wire.url}, queues=queues)
        made.start_scheduler()
        yield made
        assert_books_balance(made.ledger)


@pytest.fixture(scope="module")
def api(place: World) -> Iterator[httpx.Client]:
    port = free_port()
    place.start_api(port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:
        yield client


def is_nothing_held(place: World) -> bool:
    root = f"{PREFIX}:counters:{place.redis.get(f'{PREFIX}:generation')}:"
    money: Any = place.redis.hgetall(f"{root}money")
    return not place.redis.zcard(f"{root}holds") and all(int(sums.split()[1]) == 0 for sums in money.values())


def became(place: World, run: uuid.UUID) -> tuple[str, set[str]]:
    """How the run ended, and its steps, once nothing is held for it any more."""
    status = place.finished(run).status
    place.until(lambda: is_nothing_held(place))
    return status, set(place.statuses(run).values())


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_a_run_is_stopped_wherever_its_calls_are(place: World, api: httpx.Client, situation: Situation) -> None:
    run = begin(place, situation)
    stop(place, api, run, situation)
    assert became(place, run) == ("cancelled", {"cancelled"})
    tries = place.all("select status, error ->> 'type' as error from attempts where run_id = %s", run)
    assert [tuple(one) for one in tries] == [("failed", "cancelled")] * situation.called
    entries = place.all("select is_measured, amount_nanousd > 0 as has_cost from entries where run_id = %s", run)
    assert [tuple(one) for one in entries] == [(False, True)] * situation.called


@pytest.mark.parametrize("situation", OF_A_STEP.values(), ids=OF_A_STEP)
def test_a_step_is_stopped_and_the_run_goes_on(place: World, api: httpx.Client, situation: Situation) -> None:
    run = begin(place, situation)
    stop(place, api, run, situation)
    assert became(place, run) == ("succeeded", {"cancelled", "succeeded"})


@pytest.mark.parametrize("how", AWAY)
def test_a_worker_that_hears_nothing_of_redis_is_told_by_the_ledger(
    place: World, api: httpx.Client, wire: Wire, how: str
) -> None:
    situation = SITUATIONS["while it streams"]
    run = begin(place, situation)
    AWAY[how](wire)
    try:
        stop(place, api, run, situation)
    finally:
        wire.cut()
        wire.mend()
    assert became(place, run) == ("cancelled", {"cancelled"})


def test_a_call_that_nobody_has_taken_yet_is_not_made_any_more(place: World, api: httpx.Client) -> None:
    run = place.submit(place.plan("chat@nobody-s: one THEN IF_FAILURE chat@quick: two"))
    place.until(lambda: place.redis.llen(provider_queue("nobody-s")))
    assert api.post(f"/v1/runs/{run}/steps/step1/cancel").json()["status"] == "running"
    assert became(place, run) == ("succeeded", {"cancelled", "succeeded"})
    place.start_worker("late", queues=(provider_queue("nobody-s"),))
    place.until(lambda: place.redis.llen(provider_queue("nobody-s")) == 0)
    assert not [call for call in place.sim_get("calls") if call["name"] == "nobody-s"]
    assert place.one("select 1 from entries where provider = 'nobody-s'") is None
