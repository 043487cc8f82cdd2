"""Many workers, hundreds of steps at once, money for a handful of calls, workers killed: never one too many."""

import os
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from goblin.money import from_usd, to_usd
from goblin.settings import GoblinSettings
from ledger import keys, runs
from ledger.runs import NewRun, NewStep
from providers.price import Price, worst_case
from providers.tokens import estimate
from tests.processes import Processes, WorkerContainer
from tests.world import CHEAP, Sim, World, world
from workers.canvas import publish
from workers.prompt import compose
from workflow.plan import Plan, Step
from workflow.text import text

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
WORKERS = int(os.environ.get("GOBLIN_STORM_WORKERS", "16"))
STEPS = 200
CALLS = 20  # that there is money for at once
OUTPUT = 100  # tokens that a call may write; the simulator writes fewer, so money is freed when it ends
TASK = "chat@sim: hello"
EXTRA = f"""
[worker]
lease = 4
concurrency = 30
[goblins.chat]
instructions = "x"
task_class = "fast"
max_output_tokens = {OUTPUT}
"""
Start = Callable[..., World]


@pytest.fixture
def start(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as taken:

        def begin(extra: str = "", **options: Any) -> World:
            sim = Sim("sim", ("sim-instant+ttft=3",), options=options)
            place = taken.enter_context(world(processes, tmp_path, database, redis_url, sim, extra=EXTRA + extra))
            place.start_scheduler()
            return place

        yield begin


def worst() -> int:
    """Nano-dollars that one call is held for."""
    goblin = GoblinSettings(instructions="x", task_class="fast", max_output_tokens=OUTPUT)
    messages = compose(goblin, Step(0, "chat", "hello"), {}, [], is_gate=False)
    rates = [from_usd(str(CHEAP[name])) for name in ("input_usd_mtok", "output_usd_mtok")]
    price = Price(rates[0], rates[1], rates[0], rates[0], "test")
    return worst_case(price, sum(estimate(message.content) for message in messages), OUTPUT)


def submit(place: World, plan: Plan, key: uuid.UUID | None = None, **options: Any) -> uuid.UUID:
    steps = [NewStep(step.goblin, step.task, plan.dependencies(step.idx)) for step in plan.steps]
    run = runs.submit(place.ledger, NewRun(text(plan), plan.as_value(), {}, options, steps, key_id=key)).id
    publish(place.app, plan, run, 1)
    runs.mark_published(place.ledger, run, 1)
    return run


def have_ended(place: World, made: list[uuid.UUID]) -> bool:
    row = place.one("select count(*) as n from runs where id = any(%s) and finished_at is not null", made)
    return row is not None and row.n == len(made)


def check(place: World, budget: int, *, killed: int = 0) -> None:
    """What must hold from outside: at the simulator, in the ledger, and in Redis."""
    limits, calls = place.sim_get("limits")["sim"], place.sim_get("calls")
    spent = place.one(
        "select sum(amount_nanousd)::bigint as amount,"
        " sum(amount_nanousd) filter (where is_measured)::bigint as measured from entries"
    )
    assert spent is not None
    whole = sum(call["nanousd"] for call in calls if call["outcome"] == "whole")
    print(  # noqa: T201
        f"\n{WORKERS} workers, {STEPS} steps, money for {CALLS} calls at once ({to_usd(budget)} USD), {killed} killed:"
        f" {limits['max_concurrent']} at once at most, {len(calls)} calls, {to_usd(spent.amount)} USD in the ledger,"
        f" {to_usd(spent.measured)} measured, {to_usd(whole)} invoiced for whole answers"
    )
    assert CALLS - 1 <= limits["max_concurrent"] <= CALLS
    assert len(calls) > CALLS, "money that was held and not used was not given on"
    assert spent.amount <= budget
    assert place.one("select 1 from attempts where status = 'open'") is None
    place.until(lambda: not held(place))
    if not killed:
        assert spent.measured == spent.amount == whole


def held(place: World) -> list[Any]:
    found: Any = place.redis.keys("*budget:*")
    return [name for name in found if int(place.redis.hget(name, "held") or 0)]


def run_storm(place: World, made: Callable[[], list[uuid.UUID]], budget: int) -> None:
    for number in range(WORKERS):
        place.start_worker(f"w{number}")
    submitted = made()
    place.until(lambda: have_ended(place, submitted), 300)
    check(place, budget)


def test_a_run_s_budget(start: Start) -> None:
    place, budget = start(), CALLS * worst()
    wide = place.plan(" AND ".join([TASK] * STEPS))
    run_storm(place, lambda: [submit(place, wide, budget_usd=to_usd(budget))], budget)


def test_the_hour_s_budget(start: Start) -> None:
    budget = CALLS * worst()
    place = start(f'[routing]\nbudget_hourly = "{to_usd(budget)}"\n')
    run_storm(place, lambda: [submit(place, place.plan(TASK)) for _ in range(STEPS)], budget)


def test_a_provider_s_budget(start: Start) -> None:
    budget = CALLS * worst()
    place = start(budget_daily=to_usd(budget))
    run_storm(place, lambda: [submit(place, place.plan(TASK)) for _ in range(STEPS)], budget)


def test_a_key_s_budget(start: Start) -> None:
    place, budget = start(), CALLS * worst()
    keys.create(place.ledger, "storm", keys.Limits(budget=budget))
    (key,) = keys.all_keys(place.ledger)
    run_storm(place, lambda: [submit(place, place.plan(TASK), key.id) for _ in range(STEPS)], budget)


@pytest.mark.parametrize("flushes", [False, True])
def test_workers_that_are_killed_and_a_redis_that_is_emptied(start: Start, flushes: bool) -> None:
    seed = int(os.environ.get("GOBLIN_SEED", "7"))
    rng, budget = random.Random(seed), CALLS * worst()
    place = start(f'[routing]\nbudget_hourly = "{to_usd(budget)}"\n')
    workers = [place.start_worker(f"w{number}") for number in range(WORKERS)]
    made = [submit(place, place.plan(TASK)) for _ in range(STEPS)]
    killed = 0
    while not have_ended(place, made) and killed < 40:
        killed += kill_one(place, rng, workers)
        if flushes and killed == 2:
            place.redis.flushdb()
    place.until(lambda: have_ended(place, made), 300)
    print(f"\nseed {seed}")  # noqa: T201
    check_after_kills(place, budget, killed)


def kill_one(place: World, rng: random.Random, workers: list[WorkerContainer]) -> int:
    """Wait for calls under way, kill one worker in the middle of them, and start it again."""
    try:
        place.until(lambda: place.one("select 1 from attempts where status = 'open'"), 5)
    except TimeoutError:
        return 0
    victim = rng.choice(workers)
    victim.kill("SIGKILL")
    victim.restart()
    return 1


def check_after_kills(place: World, budget: int, killed: int) -> None:
    limits, calls = place.sim_get("limits")["sim"], place.sim_get("calls")
    spent = place.one("select sum(amount_nanousd)::bigint as amount from entries")
    abandoned = place.one("select count(*) as n from attempts where status = 'abandoned'")
    attempts = place.one("select count(*) as n from attempts")
    assert spent is not None
    assert abandoned is not None
    assert attempts is not None
    print(  # noqa: T201
        f"{killed} workers killed: {limits['max_concurrent']} calls at once at most, {len(calls)} calls reached the"
        f" simulator, {attempts.n} attempts of which {abandoned.n} abandoned,"
        f" {to_usd(spent.amount)} of {to_usd(budget)} USD"
    )
    assert limits["max_concurrent"] <= CALLS
    assert spent.amount <= budget
    assert len(calls) <= attempts.n
    assert place.one("select 1 from attempts where status = 'open'") is None
    place.until(lambda: not held(place))
    sums = place.all("select run_id, sum(amount_nanousd) as amount from entries group by run_id")
    costs = {row.id: row.cost_nanousd for row in place.all("select id, cost_nanousd from runs")}
    assert {row.run_id: row.amount for row in sums} == {run: cost for run, cost in costs.items() if cost}
