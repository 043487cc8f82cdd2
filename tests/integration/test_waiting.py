"""Whoever waits runs as soon as there is room: places, money and windows are handed on, whoever is called first."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goblin.money import to_usd
from ledger import keys, runs
from ledger.states import RunStatus
from tests.fakes.load import submit
from tests.processes import Processes
from tests.world import Sim, World, world

HOUR_S = 10
CALL = 62_000  # nano-dollars that a call of `chat` may cost
EXTRA = """
[worker]
lease = 12
concurrency = 40
[goblins.chat]
instructions = "x"
task_class = "fast"
max_output_tokens = 100
[goblins.writer]
instructions = "x"
task_class = "fast"
max_output_tokens = 4000
"""
SIMS = (
    Sim("hourly", ("sim-instant+tokens=80",), options={"budget_hourly": to_usd(25 * CALL)}),
    Sim("purse", ("sim-instant+ttft=3",), options={"budget_daily": to_usd(40 * CALL)}),
    Sim("one", ("sim-instant+ttft=3",), options={"concurrency": 1}),
    Sim("single", ("sim-instant+ttft=3+tokens=95",), options={"concurrency": 1}),
    Sim("poor", ("sim-instant+ttft=2+tokens=95",), options={"budget_daily": to_usd(100_000)}),
    Sim("paced", options={"rpm": 60}),
)


@pytest.fixture(scope="module")
def place(
    processes: Processes, database_url: str, stack: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """An installation whose hours last ten seconds."""
    folder: Path = tmp_path_factory.mktemp("waiting")
    hours = f"HOUR_MS={HOUR_S * 1000}\nb.PERIODS={{**b.PERIODS, 'hour': b.HOUR_MS}}\n"
    (folder / "sitecustomize.py").write_text(f"import routing.budget as b\nb.{hours}")
    redis_url = f"{stack.redis_url.rpartition('/')[0]}/13"  # type: ignore[attr-defined]
    with world(processes, folder, database_url, redis_url, *SIMS, extra=EXTRA) as made:
        made.env["PYTHONPATH"] = f"{folder}:{made.env['PYTHONPATH']}"
        made.redis.flushdb()
        made.start_scheduler()
        made.start_worker("w1")
        yield made


def count(place: World, made: list[uuid.UUID], what: str) -> int:
    row = place.one(
        f"select count(*) as n from runs r join steps s on s.run_id = r.id where r.id = any(%s) and {what}", made
    )
    assert row is not None
    return int(row.n)


def waits(place: World, made: list[uuid.UUID]) -> None:
    place.until(lambda: count(place, made, "s.status = 'waiting'") == len(made))


def ends(place: World, made: list[uuid.UUID], patience: float) -> None:
    place.until(lambda: count(place, made, "r.finished_at is not null") == len(made), patience)


def blocked(place: World, provider: str) -> uuid.UUID:
    """A run whose call is under way for some seconds."""
    (run,) = submit(place, f"chat@{provider}: hello", 1)
    place.until(lambda: count(place, [run], "s.status = 'running'"))
    return run


def told(place: World, run: uuid.UUID) -> list[dict[str, Any]]:
    return [data for kind, data in place.events(run) if kind == "step.waiting"]


def test_whoever_fits_into_the_next_window_runs_at_its_beginning(place: World) -> None:
    """A window has money for about thirty of ninety calls: all are made within three of them."""
    plan = place.plan("chat@hourly: hello")
    made = [place.submit(plan, on_budget="wait") for _ in range(90)]
    ends(place, made, 3.5 * HOUR_S)
    assert {place.finished(run).status for run in made} == {"succeeded"}


def test_money_that_comes_back_is_handed_on_while_there_is_some(place: World) -> None:
    """One call has held nearly all and spends little of it: all who waited are under way together."""
    (large,) = submit(place, "writer@purse: hello", 1)
    place.until(lambda: count(place, [large], "s.status = 'running'"))
    made = submit(place, "chat@purse: hello", 25)
    place.finished(large)
    place.until(lambda: count(place, made, "s.status = 'running'") >= 23, 8)
    ends(place, made, 10)


def test_cancelled_steps_hold_nobody_up_who_waits_behind_them(place: World) -> None:
    first = blocked(place, "one")
    dead = submit(place, "chat@one: hello", 30)
    waits(place, dead)
    live = submit(place, "chat@one: hello", 1)
    waits(place, live)
    for run in dead:
        runs.request_cancel(place.ledger, run)
        runs.finish(place.ledger, run, RunStatus.CANCELLED)
    place.finished(first)
    ends(place, live, 8)


def test_outdated_steps_hold_nobody_up_who_waits_behind_them(place: World) -> None:
    """As runs that were published anew, and whose newer messages are on their way."""
    first = blocked(place, "one")
    old = submit(place, "chat@one: hello", 30)
    waits(place, old)
    live = submit(place, "chat@one: hello", 1)
    waits(place, live)
    with place.ledger.engine.begin() as connection:
        sql = "update runs set epoch = epoch + 1, published_epoch = epoch + 1 where id = any(%s)"
        connection.exec_driver_sql(sql, (old,))
    place.finished(first)
    ends(place, live, 8)
    for run in old:
        runs.request_cancel(place.ledger, run)
        runs.finish(place.ledger, run, RunStatus.CANCELLED)


def test_steps_that_fail_without_a_call_hold_nobody_up(place: World) -> None:
    """Their key has spent with two calls what it may, and the slot that they waited for is free."""
    keys.create(place.ledger, "poor", keys.Limits(budget=2 * CALL + 10_000))
    key = next(one.id for one in keys.all_keys(place.ledger) if one.name == "poor")
    first = submit(place, "chat@single: hello", 1, key)
    place.until(lambda: count(place, first, "s.status = 'running'"))
    rest = submit(place, "chat@single: hello", 25, key)
    waits(place, rest)
    ends(place, first, 10)
    ends(place, rest, 12)
    assert count(place, rest, "s.status = 'failed'") == 24


def test_listeners_are_told_again_when_it_is_something_else_that_a_step_waits_for(place: World) -> None:
    """First for money that is held, then for money that is spent, and called in vain in between."""
    first = blocked(place, "poor")
    second = place.submit(place.plan("chat@poor: hello"), on_budget="wait")
    place.finished(first)
    place.until(lambda: len(told(place, second)) == 2)
    held, spent = told(place, second)
    assert ("before others end" in held["reason"], held["estimate_s"]) == (True, None)
    assert "USD are spent, 0 held" in spent["reason"]
    assert 0 < spent["estimate_s"] <= 86_400
    place.until(lambda: count(place, [second], "s.decision -> 'waits' = '[\"provider:poor/day budget\"]'"))
    assert len(told(place, second)) == 2


def test_an_estimate_counts_those_who_wait_before(place: World) -> None:
    """One call a second is allowed, and some at once."""
    made = submit(place, "chat@paced: hello", 24)
    place.until(lambda: sum(bool(told(place, run)) for run in made) >= 16)
    estimates = [one["estimate_s"] for run in made for one in told(place, run)]
    assert max(estimates) > 10
    assert len(set(estimates)) > 10
