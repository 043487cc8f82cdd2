"""Many workers, hundreds of steps at once, money for a handful of calls, workers killed: never one too many."""

import os
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from goblin.money import from_usd, to_usd
from goblin.settings import GoblinSettings
from ledger import keys, runs
from ledger.runs import NewRun, NewStep
from providers.price import Price, worst_case
from providers.tokens import estimate_question
from routing.script import PREFIX
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
KILLS = 12
ROW = """
name = "Sim"
base_url = "http://sim.invalid/v1"
chat_path = "/chat/completions"
idempotency_header = "Idempotency-Key"
"""  # names the attempt in the simulator's books
Start = Callable[..., World]
Submit = Callable[[World, uuid.UUID | None], list[uuid.UUID]]


@dataclass(frozen=True)
class Purse:
    """Where the money for CALLS calls lies: in the settings, with the provider, the key, or the run itself."""

    extra: str = ""
    sim: str | None = None  # option of the provider
    is_key: bool = False
    is_run: bool = False


PURSES = {
    "run": Purse(is_run=True),
    "key": Purse(is_key=True),
    "provider": Purse(sim="budget_daily"),
    "hour": Purse(extra="[routing]\nbudget_hourly = {budget}\n"),
}


@pytest.fixture
def start(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as taken:

        def begin(extra: str = "", **options: Any) -> World:
            sim = Sim("sim", ("sim-instant+ttft=3",), options=options)
            catalog = tmp_path / "catalog"
            catalog.mkdir()
            (catalog / "sim.toml").write_text(ROW)
            everything = f'catalog = "{catalog}"\n{EXTRA}{extra}'
            place = taken.enter_context(world(processes, tmp_path, database, redis_url, sim, extra=everything))
            place.start_scheduler()
            return place

        yield begin


def worst() -> int:
    """Nano-dollars that one call is held for."""
    goblin = GoblinSettings(instructions="x", task_class="fast", max_output_tokens=OUTPUT)
    messages = compose(goblin, Step(0, "chat", "hello"), {}, [], is_gate=False)
    rates = [from_usd(str(CHEAP[name])) for name in ("input_usd_mtok", "output_usd_mtok")]
    price = Price(rates[0], rates[1], rates[0], rates[0], "test")
    return worst_case(price, estimate_question(messages), OUTPUT)


BUDGET = CALLS * worst()


def open_with(start: Start, purse: Purse) -> World:
    usd = to_usd(BUDGET)
    return start(purse.extra.format(budget=f'"{usd}"'), **({purse.sim: usd} if purse.sim else {}))


def fill(place: World, purse: Purse) -> list[uuid.UUID]:
    """STEPS steps that all want the same money."""
    if purse.is_run:
        return [submit(place, place.plan(" AND ".join([TASK] * STEPS)), budget_usd=to_usd(BUDGET))]
    key = None
    if purse.is_key:
        keys.create(place.ledger, "storm", keys.Limits(budget=BUDGET))
        key = keys.all_keys(place.ledger)[0].id
    return [submit(place, place.plan(TASK), key) for _ in range(STEPS)]


def submit(place: World, plan: Plan, key: uuid.UUID | None = None, **options: Any) -> uuid.UUID:
    steps = [NewStep(step.goblin, step.task, plan.dependencies(step.idx)) for step in plan.steps]
    run = runs.submit(place.ledger, NewRun(text(plan), plan.as_value(), {}, options, steps, key_id=key)).id
    publish(place.app, plan, run, 1)
    runs.mark_published(place.ledger, run, 1)
    return run


def have_ended(place: World, made: list[uuid.UUID]) -> bool:
    row = place.one("select count(*) as n from runs where id = any(%s) and finished_at is not null", made)
    return row is not None and row.n == len(made)


def is_nothing_held(place: World) -> bool:
    root = f"{PREFIX}:counters:{place.redis.get(f'{PREFIX}:generation')}:"
    money: Any = place.redis.hgetall(f"{root}money")
    return not place.redis.zcard(f"{root}holds") and all(int(text.split()[1]) == 0 for text in money.values())


def underpaid(place: World) -> list[Any]:
    """The calls whose entries are less than the simulator's invoice, or differ from it though they were measured."""
    rows = place.all(
        """select a.run_id, a.idx, a.number, coalesce(sum(e.amount_nanousd), 0)::bigint as amount,
        coalesce(bool_and(e.is_measured), false) as is_measured
        from attempts a left join entries e on e.attempt_id = a.id group by a.id"""
    )
    entered = {f"{row.run_id.hex}-{row.idx}-{row.number}": row for row in rows}
    wrong = []
    for call in place.sim_get("calls"):
        paid = entered[call["idempotency_key"]]
        if paid.amount < call["nanousd"] or (paid.is_measured and paid.amount != call["nanousd"]):
            wrong.append((call, paid))
    return wrong


def check(place: World, *, killed: int = 0) -> None:
    """What must hold from outside: at the simulator, in the ledger, and in Redis."""
    limits, calls = place.sim_get("limits")["sim"], place.sim_get("calls")
    spent = place.one(
        """select sum(amount_nanousd)::bigint as amount,
        coalesce(sum(amount_nanousd) filter (where not is_measured), 0)::bigint as estimated from entries"""
    )
    lost = place.one("select count(*) as n from attempts where status = 'abandoned'")
    assert spent is not None
    assert lost is not None
    print(  # noqa: T201
        f"\n{WORKERS} workers, {STEPS} steps, money for {CALLS} calls at once ({to_usd(BUDGET)} USD), {killed} killed:"
        f" {limits['max_concurrent']} at once at most, {len(calls)} calls, {lost.n} abandoned;"
        f" {to_usd(spent.amount)} USD in the ledger, {to_usd(spent.estimated)} of it estimated,"
        f" {to_usd(place.sim_get('invoice')['nanousd'])} invoiced"
    )
    assert limits["max_concurrent"] <= CALLS
    assert spent.amount <= BUDGET
    assert underpaid(place) == []
    assert place.one("select 1 from attempts where status = 'open'") is None
    place.until(lambda: is_nothing_held(place))
    if not killed:
        assert limits["max_concurrent"] >= CALLS - 1
        assert len(calls) > CALLS, "money that was held and not used was not given on"
        assert (spent.estimated, spent.amount) == (0, place.sim_get("invoice")["nanousd"])
    rows = place.all("select run_id, sum(amount_nanousd) as amount from entries group by 1")
    sums = {row.run_id: row.amount for row in rows}
    costs = {row.id: row.cost_nanousd for row in place.all("select id, cost_nanousd from runs")}
    assert sums == {run: cost for run, cost in costs.items() if cost}


@pytest.mark.parametrize("purse", PURSES.values(), ids=PURSES)
def test_never_a_call_more_than_there_is_money_for(start: Start, purse: Purse) -> None:
    place = open_with(start, purse)
    for number in range(WORKERS):
        place.start_worker(f"w{number}")
    made = fill(place, purse)
    place.until(lambda: have_ended(place, made), 300)
    check(place)


@pytest.mark.parametrize("flushes", [False, True], ids=["", "redis emptied"])
@pytest.mark.parametrize("purse", PURSES.values(), ids=PURSES)
def test_nor_when_workers_are_killed_and_redis_is_emptied(start: Start, purse: Purse, flushes: bool) -> None:
    rng = random.Random(seed := int(os.environ.get("GOBLIN_SEED", "7")))
    print(f"\nseed {seed}")  # noqa: T201
    place = open_with(start, purse)
    workers = [place.start_worker(f"w{number}") for number in range(WORKERS)]
    made, killed = fill(place, purse), 0
    while killed < KILLS and is_calling(place):
        kill_one(rng, workers)
        killed += 1
        if flushes and killed == 2:
            place.redis.flushdb()
    place.until(lambda: have_ended(place, made), 300)
    check(place, killed=killed)


def is_calling(place: World) -> bool:
    """Whether there are calls under way, or come to be soon."""
    try:
        return bool(place.until(lambda: place.one("select 1 from attempts where status = 'open'"), 15))
    except TimeoutError:
        return False


def kill_one(rng: random.Random, workers: list[WorkerContainer]) -> None:
    victim = rng.choice(workers)
    victim.kill("SIGKILL")
    victim.restart()
