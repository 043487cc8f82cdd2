"""Counters of budgets that are used no more are forgotten, and not before."""

import uuid

import redis

from goblin.clock import new_id
from routing import budget
from routing.admission import Admitted, Used
from routing.ask import Ask
from routing.refusal import Purse, Refused
from tests.fakes.askers import place, standing
from tests.fakes.asks import DAY_MS, NOON, begin

LARGE = 10**9
WINDOW_MS = 14 * DAY_MS  # the longest that a batch may have


def test_the_budget_of_a_batch_is_known_for_its_whole_window_and_then_forgotten(
    client: redis.Redis, redis_url: str
) -> None:
    begin(client)
    gate = standing(redis_url)
    first, others = budget.of_batch(new_id(), LARGE), [budget.of_batch(new_id(), LARGE) for _ in range(3)]

    def spend(one: budget.Budget, at_ms: int) -> None:
        client.set(f"{gate.scripts.prefix}:clock", at_ms)
        admitted = gate.admit(Ask(uuid.uuid4(), (place(),), (one,)))
        assert isinstance(admitted, Admitted)
        gate.settle(admitted.attempt, Used(60))

    def spent() -> list[int]:
        return [state.spent for state in gate.budgets([first])]

    spend(first, NOON)
    spend(others[0], NOON + WINDOW_MS)
    assert spent() == [60]
    spend(first, NOON + WINDOW_MS + 1)
    spend(others[1], NOON + 2 * WINDOW_MS)
    assert spent() == [120]
    spend(others[2], NOON + 3 * WINDOW_MS)
    assert spent() == []


def test_a_run_s_budget_that_was_forgotten_begins_with_what_the_ledger_knows(
    client: redis.Redis, redis_url: str
) -> None:
    begin(client)
    gate, run = standing(redis_url), new_id()

    def ask(at_ms: int, *above: budget.Budget) -> Admitted | Refused:
        client.set(f"{gate.scripts.prefix}:clock", at_ms)
        return gate.admit(Ask(new_id(), (place(),), above))

    first = ask(NOON, budget.of_run(run, 150, 0))
    assert isinstance(first, Admitted)
    gate.settle(first.attempt, Used(100))
    later = NOON + budget.RUN_IDLE_MS + 1
    ask(later, budget.of_run(new_id(), LARGE, 0))  # whoever adds a counter forgets some
    assert gate.budgets([budget.of_run(run, 0)]) == []
    refused = ask(later, budget.of_run(run, 150, 100))
    assert isinstance(refused, Refused)
    assert refused.reasons[0].purse == Purse(150, 100, 0)
    assert isinstance(ask(later, budget.of_run(run, 200, 100)), Admitted)
    assert [(one.spent, one.held) for one in gate.budgets([budget.of_run(run, 0)])] == [(100, 100)]
    assert isinstance(ask(later, budget.of_run(run, 250, 0)), Refused), "what is counted counts"


def test_whoever_looks_at_a_budget_reads_no_other(client: redis.Redis, redis_url: str) -> None:
    """There may be as many as keys."""
    begin(client)
    gate = standing(redis_url)
    client.set(f"{gate.scripts.prefix}:clock", client.time()[0] * 1000)
    own = (budget.of_key(new_id(), LARGE), budget.everything("hour", LARGE), budget.of_run(new_id(), LARGE))
    for above in (own, (budget.of_key(new_id(), LARGE), budget.everything("day", LARGE))):
        admitted = gate.admit(Ask(new_id(), (place(),), above))
        assert isinstance(admitted, Admitted)
        gate.settle(admitted.attempt, Used(60))
    unused = budget.of_provider("sim", "day", LARGE)
    assert [one.name for one in gate.budgets([*own, unused])] == [one.name for one in own]
    assert gate.budgets([]) == []
    client.delete(f"{gate.scripts.prefix}:generation")
    assert gate.budgets(own) == []
