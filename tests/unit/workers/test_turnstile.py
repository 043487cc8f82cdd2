"""Where a refused step waits, and what a route asks of the fleet's admission."""

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from goblin import kv
from goblin.clock import new_id
from goblin.errors import GoblinError
from goblin.settings import Settings, load
from ledger.attempts import Charge, Taken
from ledger.looks import Look
from providers.errors import BadCredentials, Throttled
from providers.provider import Deadlines
from routing.admission import Admission
from routing.ask import ARRIVAL_MS, CANDIDATES, Place, Rate
from routing.breaker import Told
from routing.candidate import Candidate, Need
from routing.rebuild import LONGEST_MS
from routing.refusal import OF_MONEY, REBUILDING_MS, Reason, Refused, Short
from routing.route import Route
from routing.score import Measure, Ranked
from routing.script import PREFIX, Scripts
from tests.fakes.askers import counters
from tests.fakes.asks import begin
from tests.fakes.offers import candidate, need
from workers.turnstile import REBUILDING, Pass, Turnstile, budget_room, longest_ms, longest_of, rooms

TOML = """
[routing]
budget_hourly = 0.01
[providers.sim]
base_url = "http://sim.test/v1"
models = []
budget_hourly = 0.002
"""
RUN, KEY = new_id(), new_id()
UNMEASURED = Measure(1, 1, 50)


def short(reason: Reason, wait_ms: int | None = None, provider: str = "sim") -> Short:
    name = f"{provider}/small"
    place = Place(provider, name, 0, 10, Rate(), 1_000)
    return Short(place, reason, wait_ms, "all/hour@1767225600" if reason in OF_MONEY else name)


def where(*shorts: Short, waits_for_money: bool = False) -> dict[str, int | None]:
    return rooms(Refused(shorts), waits_for_money=waits_for_money)


@pytest.mark.parametrize("waits_for_money", [False, True])
@pytest.mark.parametrize(
    ("reason", "room"),
    [
        (Reason.HELD, "budget:all/hour"),
        (Reason.REQUESTS, "sim"),
        (Reason.TOKENS, "sim"),
        (Reason.SLOTS, "sim"),
        (Reason.TOO_LARGE, None),
        (Reason.COOLING, "sim"),
        (Reason.OPEN, "sim"),
        (Reason.LOCKED, None),
        (Reason.PROBING, "sim"),
        (Reason.RAMP, "sim"),
    ],
)
def test_every_reason_has_its_room_or_none(reason: Reason, room: str | None, waits_for_money: bool) -> None:
    assert where(short(reason, 700), waits_for_money=waits_for_money) == ({} if room is None else {room: 700})


@pytest.mark.parametrize(("waits_for_money", "found"), [(False, {}), (True, {"budget:all/hour": 700})])
def test_money_that_is_spent_is_waited_for_by_those_who_want_to(
    waits_for_money: bool, found: dict[str, int | None]
) -> None:
    assert where(short(Reason.BUDGET, 700), waits_for_money=waits_for_money) == found


def test_nobody_waits_for_a_window_that_can_never_pay() -> None:
    assert where(short(Reason.TOO_DEAR), waits_for_money=True) == {}


def test_no_reason_is_forgotten_by_these_tables() -> None:
    """Whoever adds a reason says here where it waits."""
    assert len(Reason) == 12


def test_counters_that_are_rebuilt_have_a_room_of_their_own() -> None:
    assert where() == where(waits_for_money=True) == {REBUILDING: REBUILDING_MS}


def test_a_step_waits_for_everybody_who_could_serve_it() -> None:
    found = where(short(Reason.SLOTS), short(Reason.HELD, 900, "dear"), short(Reason.BUDGET, 5, "spent"))
    assert found == {"sim": None, "budget:all/hour": 900}


def test_a_room_has_the_earliest_moment_that_anybody_knows() -> None:
    assert where(short(Reason.SLOTS), short(Reason.TOKENS, 900), short(Reason.COOLING, 300)) == {"sim": 300}
    assert where(short(Reason.TOKENS, 900), short(Reason.SLOTS)) == {"sim": 900}


def test_a_budget_s_room_is_the_one_that_its_counter_calls(turnstile: Turnstile, admission: Admission) -> None:
    """The names that an admitted call frees are those that a refused one waits under."""
    given = ask(turnstile, route(candidate("dear/small", 6.0)))
    refused = ask(turnstile, route(candidate("dear/small", 6.0)))
    assert isinstance(given, Pass)
    assert isinstance(refused, Refused)
    assert set(rooms(refused, waits_for_money=False)) <= {budget_room(one) for one in given.admitted.counters}


@pytest.fixture
def admission(redis_url: str) -> Iterator[Admission]:
    with kv.connect(redis_url) as client:
        begin(client)
        yield Admission(Scripts(client))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "goblin.toml"
    file.write_text(TOML)
    return load(file, {})


@pytest.fixture
def turnstile(admission: Admission, settings: Settings) -> Turnstile:
    return Turnstile(admission, settings)


def route(*candidates: Candidate, asked: Need | None = None) -> Route:
    ranked = tuple(Ranked(one, 0, 0, 0, 0, 0, UNMEASURED, 0) for one in candidates)
    return Route(asked or need(input_tokens=500, output_tokens=500), ranked, {}, {})


def ask(
    turnstile: Turnstile,
    by: Route,
    options: Mapping[str, str] | None = None,
    *,
    attempt: uuid.UUID | None = None,
    key: uuid.UUID | None = None,
    run_cost: int = 0,
) -> Pass | Refused:
    """A key may spend half a cent in its life."""
    unasked: dict[str, Any] = dict.fromkeys(field.name for field in fields(Look))
    budget = None if key is None else 5_000_000
    look = Look(**unasked | {"options": options or {}, "key_id": key, "key_budget": budget, "run_cost": run_cost})
    return turnstile.admit(attempt or new_id(), by, RUN, look)


def refused_by(answer: Pass | Refused) -> list[tuple[Reason, str]]:
    assert isinstance(answer, Refused)
    return [(one.reason, one.what.partition("@")[0]) for one in answer.reasons]


def test_a_pass_is_for_the_first_candidate_that_has_room(turnstile: Turnstile) -> None:
    full, free = candidate("full/small", concurrency=1), candidate("free/small")
    given = [ask(turnstile, route(full, free)) for _ in range(2)]
    assert [one.candidate.name for one in given if isinstance(one, Pass)] == ["full/small", "free/small"]
    assert [[str(short) for short in one.passed] for one in given if isinstance(one, Pass)] == [
        [],
        ["full has all the calls at once that it takes"],
    ]


def test_a_candidate_is_reached_however_far_down_the_route(turnstile: Turnstile) -> None:
    spent = [candidate(f"dear{number}/small", 1_000_000.0) for number in range(CANDIDATES + 2)]
    given = ask(turnstile, route(*spent, candidate("free/small", 0.0)))
    assert isinstance(given, Pass)
    assert given.candidate.name == "free/small"
    assert [short.place.candidate for short in given.passed] == [one.name for one in spent]


def test_a_refusal_names_every_candidate_of_a_long_route(turnstile: Turnstile) -> None:
    spent = [candidate(f"dear{number}/small", 1_000_000.0) for number in range(CANDIDATES + 2)]
    assert refused_by(ask(turnstile, route(*spent))) == [(Reason.TOO_DEAR, "all/hour")] * 10


def test_the_worst_case_is_held_against_every_budget_above_the_call(turnstile: Turnstile, admission: Admission) -> None:
    made = candidate("sim/small", 1.0)
    given = ask(turnstile, route(made), {"budget_usd": "0.005"}, key=KEY)
    assert isinstance(given, Pass)
    assert given.admitted.place.hold == made.worst_case(need(input_tokens=500, output_tokens=500)) == 1_000_000
    assert {name.partition("@")[0] for name in given.admitted.counters} == {
        "all/hour",
        "all/day",
        f"run:{RUN}",
        f"key:{KEY}",
        "provider:sim/hour",
    }
    assert {one.name: (one.limit, one.held) for one in counters(admission)} == {
        "all/hour": (10_000_000, 1_000_000),
        "all/day": (50_000_000_000, 1_000_000),
        "provider:sim/hour": (2_000_000, 1_000_000),
        f"key:{KEY}": (5_000_000, 1_000_000),
    }


def test_a_run_that_redis_does_not_know_any_more_has_spent_what_the_ledger_says(turnstile: Turnstile) -> None:
    again = ask(turnstile, route(candidate("sim/small", 1.0)), {"budget_usd": "0.005"}, run_cost=4_500_000)
    assert refused_by(again) == [(Reason.BUDGET, f"run:{RUN}")]


@pytest.mark.parametrize(
    ("usd_mtok", "options", "budget"),
    [(11.0, {}, "all/hour"), (3.0, {}, "provider:sim/hour"), (1.0, {"budget_usd": "0.0001"}, "run")],
)
def test_a_call_that_may_cost_more_than_a_budget_is_refused_by_it(
    turnstile: Turnstile, usd_mtok: float, options: dict[str, str], budget: str
) -> None:
    ((reason, what),) = refused_by(ask(turnstile, route(candidate("sim/small", usd_mtok)), options))
    assert reason is Reason.TOO_DEAR
    assert what.partition(":")[0] == budget.partition(":")[0]


def test_a_refusal_for_money_says_how_much_there_is_and_how_much_it_takes(turnstile: Turnstile) -> None:
    dear = route(candidate("other/small", 3.0))
    given, held = ask(turnstile, dear, {"budget_usd": "0.005"}), ask(turnstile, dear, {"budget_usd": "0.005"})
    assert isinstance(given, Pass)
    turnstile.conclude(given, Charge(2_500_000, is_measured=True, price={}), None)
    spent, never = ask(turnstile, dear, {"budget_usd": "0.005"}), ask(turnstile, route(candidate("other/small", 600.0)))
    told = [str(one.reasons[0]) for one in (held, spent, never) if isinstance(one, Refused)]
    assert told == [
        f"the budget run:{RUN} has no room for a call that may cost 0.003 USD before others end:"
        " 0 of 0.005 USD are spent, 0.003 held",
        f"the budget run:{RUN} has no room for a call that may cost 0.003 USD: 0.0025 of 0.005 USD are spent, 0 held",
        "a call that may cost 0.6 USD is larger than the whole budget all/hour of 0.01 USD",
    ]
    assert isinstance(never, Refused)
    assert never.as_error().slug == "budget_exhausted"


def test_a_concluded_call_has_spent_what_it_cost_and_holds_nothing(turnstile: Turnstile, admission: Admission) -> None:
    given = ask(turnstile, route(candidate("sim/small")))
    assert isinstance(given, Pass)
    charge = Charge(1_700_000, is_measured=True, price={}, input=500, output=200)
    assert [name.partition("@")[0] for name in turnstile.conclude(given, charge, None)] == ["provider:sim/hour"]
    assert turnstile.conclude(given, charge, None) == ()
    assert {(one.spent, one.held) for one in counters(admission)} == {(1_700_000, 0)}


def test_a_call_that_is_not_made_leaves_nothing(turnstile: Turnstile, admission: Admission) -> None:
    attempt = new_id()
    assert isinstance(ask(turnstile, route(candidate("sim/small")), attempt=attempt), Pass)
    turnstile.give_back(attempt)
    assert {(one.spent, one.held) for one in counters(admission)} == {(0, 0)}


def test_a_call_that_another_worker_had_admitted_is_concluded_here(
    turnstile: Turnstile, admission: Admission, settings: Settings
) -> None:
    made, asked, attempt = candidate("sim/small"), need(input_tokens=500, output_tokens=500), new_id()
    assert isinstance(ask(turnstile, route(made, asked=asked), attempt=attempt), Pass)
    other = Turnstile(admission, settings)
    taken = other.taken(attempt, made, Taken(1, "sim", "small", 1_000_000), asked)
    other.conclude(taken, Charge(400, is_measured=True, price={}), None)
    assert {(one.spent, one.held) for one in counters(admission)} == {(400, 0)}


def test_a_call_that_another_worker_had_admitted_is_known_as_it_was_admitted(turnstile: Turnstile) -> None:
    """Else nobody is called at its end who waits for its money, and one that tries somebody out counts for the step."""
    told = Taken(1, "sim", "small", 700, is_probe=True, counters=("all/hour@1767225600", "key:1"), generation="1")
    admitted = turnstile.taken(new_id(), candidate("sim/small"), told, need()).admitted
    assert (admitted.is_probe, admitted.counters, admitted.generation) == (True, told.counters, "1")
    assert admitted.place.hold == 700


def test_only_a_call_that_is_late_asks_whether_it_still_has_its_place(turnstile: Turnstile) -> None:
    given = ask(turnstile, route(candidate("sim/small")))
    assert isinstance(given, Pass)
    late = replace(given, asked_at=given.asked_at - ARRIVAL_MS / 1_000)
    assert [turnstile.arrive(one) for one in (given, late)] == [True, True]
    turnstile.give_back(given.admitted.attempt)
    assert [turnstile.arrive(one) for one in (replace(given, asked_at=time.monotonic()), late)] == [True, False]


def test_a_call_may_last_as_long_as_its_provider_and_its_queue_let_it(turnstile: Turnstile) -> None:
    made = candidate("sim/small", deadlines=Deadlines(connect=7, first_token=60, stall=60, total=2_000))
    given = ask(turnstile, route(made))
    assert isinstance(given, Pass)
    assert given.admitted.place.slot_ms == longest_ms(made.provider, 12) == (60 + 7 + 2_000 + 12) * 1_000
    assert longest_of([made.provider, candidate("sim/small").provider], 12) == given.admitted.place.slot_ms
    assert longest_of([], 12) == LONGEST_MS


def test_how_a_call_ended_is_told_to_the_breakers(turnstile: Turnstile) -> None:
    given = ask(turnstile, route(candidate("sim/small")))
    assert isinstance(given, Pass)
    turnstile.conclude(given, None, BadCredentials("the key is wrong"))
    assert refused_by(ask(turnstile, route(candidate("sim/large")))) == [(Reason.LOCKED, "sim")]
    assert isinstance(ask(turnstile, route(candidate("other/small"))), Pass)


@pytest.mark.parametrize(
    ("error", "refused"), [(None, []), (Throttled("slow down", retry_after=0), [(Reason.TOO_LARGE, "sim/small")])]
)
def test_a_vendor_s_limit_that_a_call_has_passed_is_not_one_of_the_minute(
    turnstile: Turnstile, error: GoblinError | None, refused: list[tuple[Reason, str]]
) -> None:
    """Some count by the second, or count otherwise; whoever refuses means it."""
    by = route(candidate("sim/small"))
    given = ask(turnstile, by)
    assert isinstance(given, Pass)
    turnstile.conclude(given, None, error, Told(tokens=given.admitted.place.tokens - 1))
    again = ask(turnstile, by)
    assert (refused_by(again) if isinstance(again, Refused) else []) == refused


def test_counters_that_are_lost_between_two_pages_of_a_route_are_waited_for(
    admission: Admission, settings: Settings
) -> None:
    """Whoever was asked about without counters may have room, so the refusals of the others end nothing."""

    class Lost(Scripts):
        """Without counters for the first ask alone."""

        asked = 0

        def run(self, verb: str, *values: Mapping[str, Any]) -> list[Any]:
            self.asked += 1
            return ["rebuilding"] if self.asked == 1 else super().run(verb, *values)

    turnstile = Turnstile(Admission(Lost(admission.scripts.client)), settings)
    spent = [candidate(f"dear{number}/small", 1_000_000.0) for number in range(CANDIDATES + 2)]
    assert ask(turnstile, route(*spent)) == Refused(())


def test_a_fleet_without_counters_refuses_without_reasons(turnstile: Turnstile, admission: Admission) -> None:
    admission.scripts.client.delete(f"{PREFIX}:generation")
    assert ask(turnstile, route(candidate("sim/small"))) == Refused(())


def test_without_redis_what_was_called_is_left_to_the_scheduler(settings: Settings) -> None:
    turnstile = Turnstile(Admission(Scripts(kv.connect("redis://127.0.0.1:1/0"))), settings)
    given = turnstile.taken(new_id(), candidate("sim/small"), Taken(1, "sim", "small", 1_000), need())
    assert not turnstile.arrive(given), "nobody knows whether its minute has room"
    assert turnstile.conclude(given, None, None) == ()
    turnstile.give_back(given.admitted.attempt)


@pytest.mark.parametrize("counted", ["use", "arrival"])
def test_a_call_is_admitted_as_its_vendor_counts_tokens(turnstile: Turnstile, counted: str) -> None:
    given = ask(turnstile, route(candidate("sim/small", 0.001, tokens_counted=counted)))
    assert isinstance(given, Pass)
    assert given.admitted.place.rate.is_counted_on_arrival == (counted == "arrival")
