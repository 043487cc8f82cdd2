"""Budgets, rates and slots hold for the whole fleet, and what is refused for capacity waits and then runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goblin.money import from_usd, to_usd
from providers.tokens import Tally
from routing.health import MEASURES, TALK_S
from tests.processes import Processes
from tests.world import CHEAP, Sim, World, world

QUICK = '[worker]\nlease = 3\n[goblins.chat]\ninstructions = "x"\ntask_class = "fast"\nmax_output_tokens = 100\n'
NAP = "sim-instant+ttft=0.3"
SIMS = (
    Sim("slots", (NAP,), options={"concurrency": 2}),
    Sim("rpm", options={"rpm": 30}),
    Sim("dear", ("sim-instant+tokens=50",), options={"budget_daily": 0.001}),
    Sim("dearest", options={"budget_daily": 0.000001}),
    Sim("narrow", options={"tpm": 50}),
    Sim("overrunning", ("sim-instant+tokens=400+speed=100+overrun",)),
    Sim("chatty", ("sim-instant+tokens=95+per=1",)),
    Sim("flaky", ("sim-instant+flaky=1",)),
    Sim("plain"),
)


@pytest.fixture(scope="module")
def place(
    processes: Processes, database_url: str, stack: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("admission")
    redis_url = f"{stack.redis_url.rpartition('/')[0]}/14"  # type: ignore[attr-defined]
    with world(processes, folder, database_url, redis_url, *SIMS, extra=QUICK) as made:
        made.redis.flushdb()
        made.start_worker("w1")
        made.start_worker("w2")
        made.start_scheduler()
        yield made


def test_no_more_calls_than_slots_are_under_way_and_all_end_well(place: World) -> None:
    place.sim_post("limits", {"name": "slots", "concurrency": 2})
    made = [place.submit(place.plan("chat@slots: hello")) for _ in range(12)]
    assert {place.finished(run).status for run in made} == {"succeeded"}
    seen = place.sim_get("limits")["slots"]
    assert seen["max_concurrent"] <= 2
    assert seen["refused"] == 0
    assert any(kind == "step.waiting" for run in made for kind, _ in place.events(run))


def test_a_step_that_waits_keeps_its_place_in_chain_and_chord(place: World) -> None:
    flow = "chat@slots: a THEN chat@slots: b AND chat@slots: c AND chat@slots: d THEN chat@slots: e"
    made = [place.submit(place.plan(flow)) for _ in range(4)]
    assert {place.finished(run).status for run in made} == {"succeeded"}
    for run in made:
        assert set(place.statuses(run).values()) == {"succeeded"}


def test_a_budget_is_not_passed_by_calls_made_at_once(place: World) -> None:
    """The limit is met by what was spent: money that was held for calls under way and not used is given on."""
    made = [place.submit(place.plan("chat@dear: hello")) for _ in range(60)]
    ended = [place.finished(run) for run in made]
    spent = place.one("select sum(amount_nanousd) as amount from entries where provider = 'dear'")
    assert spent is not None
    assert 0 < spent.amount <= 1_000_000
    assert {one.status for one in ended} == {"succeeded", "failed"}
    errors = {row.error["type"] for row in place.all("select error from steps where status = 'failed'")}
    assert errors == {"budget_exhausted"}
    assert place.sim_get("invoice")["names"]["dear"]["nanousd"] <= 1_000_000
    told = [data["budget"] for run in made for kind, data in place.events(run) if kind == "budget.alert"]
    assert told == ["provider:dear/day"]


def test_nobody_waits_for_a_budget_that_is_too_small_for_the_call_even_when_it_begins_anew(place: World) -> None:
    run = place.submit(place.plan("chat@dearest: hello"), on_budget="wait")
    assert place.finished(run).status == "failed"
    row = place.one("select error from steps where run_id = %s", run)
    assert row is not None
    assert row.error["type"] == "budget_exhausted"
    assert "is larger than the whole budget provider:dearest/day of 0.000001 USD" in row.error["message"]


def test_nobody_waits_for_more_tokens_than_a_provider_takes_in_a_minute(place: World) -> None:
    run = place.submit(place.plan("chat@narrow: hello"), on_budget="wait")
    assert place.finished(run).status == "failed"
    row = place.one("select error from steps where run_id = %s", run)
    assert row is not None
    assert (row.error["type"], row.error["message"]) == ("no_candidate", "more tokens than narrow takes in a minute")


def test_a_run_has_a_budget_of_its_own(place: World) -> None:
    poor = place.submit(place.plan("chat@plain: hello"), budget_usd="0.000000010")
    assert place.finished(poor).status == "failed"
    row = place.one("select error from steps where run_id = %s", poor)
    assert row is not None
    assert row.error["type"] == "budget_exhausted"
    assert "run" in row.error["message"]
    rich = place.submit(place.plan("chat@plain: hello"), budget_usd="1")
    assert place.finished(rich).status == "succeeded"


@pytest.mark.parametrize("times", [1, 2])
def test_an_answer_past_its_hold_is_held_more_for_or_cut_and_never_overspends(place: World, times: int) -> None:
    """The provider ignores how long an answer may be; there is money for what was held, or for twice as much."""
    probe = place.submit(place.plan("chat@plain: hello"))
    place.finished(probe)
    hold = int(place.one("select hold_nanousd from attempts where run_id = %s", probe).hold_nanousd)  # type: ignore[union-attr]
    run = place.submit(place.plan("chat@overrunning: hello"), budget_usd=to_usd(times * hold))
    assert place.finished(run).status == "succeeded"
    attempt = place.one("select * from attempts where run_id = %s", run)
    entry = place.one("select * from entries where run_id = %s", run)
    assert attempt is not None
    assert entry is not None
    assert (attempt.finish, attempt.hold_nanousd, entry.is_measured) == ("length", times * hold, False)
    assert entry.amount_nanousd == times * hold
    place.until(lambda: len(calls_of(place, "overrunning")) == times)
    assert calls_of(place, "overrunning")[-1]["nanousd"] <= entry.amount_nanousd


def calls_of(place: World, name: str) -> list[dict[str, Any]]:
    return [call for call in place.sim_get("calls") if call["name"] == name]


def test_what_the_pieces_cost_is_what_the_whole_answer_is_estimated_at(place: World) -> None:
    run = place.submit(place.plan("chat@chatty: hello"))
    assert place.finished(run).status == "succeeded"
    pieces = [data for kind, data in place.events(run) if kind == "delta"]
    text = "".join(piece["text"] for piece in pieces)
    assert sum(piece["tokens"] for piece in pieces) == Tally().add(text)
    price = from_usd(str(CHEAP["output_usd_mtok"])) // 1_000_000
    assert sum(from_usd(piece["cost"]) for piece in pieces) == pytest.approx(price * Tally().add(text), abs=1)


def test_an_answer_that_came_at_once_does_not_pass_for_a_quick_one(place: World) -> None:
    run = place.submit(place.plan("chat@chatty: hello"))
    assert place.finished(run).status == "succeeded"
    place.until(lambda: place.redis.hexists(MEASURES, "chatty/sim-instant+tokens=95+per=1"))
    measures = str(place.redis.hget(MEASURES, "chatty/sim-instant+tokens=95+per=1")).split(" ")
    assert measures[2] == "-" or float(measures[2]) <= 100 / TALK_S  # a machine that is busy may take as long


def test_one_failure_is_asked_again_and_nothing_is_held_at_the_end(place: World) -> None:
    run = place.submit(place.plan("chat@flaky: hello"))
    assert place.finished(run).status == "succeeded"
    place.until(lambda: not any(place.redis.zcard(key) for key in place.redis.keys("*:holds")))
