"""Calls that are admitted and settled by hand, and what the counters say of them."""

import uuid

from goblin.clock import new_id
from ledger import attempts
from ledger.attempts import Charge, Ending
from ledger.session import Ledger
from ledger.states import AttemptStatus, StepStatus
from routing import budget
from routing.admission import Admission, Admitted
from routing.ask import Ask, Rate
from routing.budget import Budget
from tests.fakes.askers import counters, place

LARGE = 10**9
LEASE = 12.0
ONE_AT_ONCE = Rate(concurrency=1)


def above(run: uuid.UUID, key: uuid.UUID) -> tuple[Budget, ...]:
    return (
        budget.everything("hour", LARGE),
        budget.everything("day", LARGE),
        budget.of_run(run, LARGE),
        budget.of_key(key, LARGE),
    )


def ask(gate: Admission, *budgets: Budget, rate: Rate = Rate()) -> Admitted:  # noqa: B008
    own = (budget.of_provider("sim", "hour", LARGE), budget.of_provider("sim", "day", LARGE))
    answer = gate.admit(Ask(new_id(), (place(budgets=own, rate=rate),), budgets))
    assert isinstance(answer, Admitted)
    return answer


def has_slot(gate: Admission) -> bool:
    return isinstance(gate.admit(Ask(new_id(), (place(rate=ONE_AT_ONCE),))), Admitted)


def settle(ledger: Ledger, admitted: Admitted, cost: int, key: uuid.UUID | None = None) -> None:
    """In the ledger alone."""
    charge = Charge(cost, is_measured=True, price={}, input=4, output=3)
    ending = Ending(AttemptStatus.SUCCEEDED, StepStatus.SUCCEEDED, charge=charge)
    attempts.settle(ledger, admitted.attempt, ending, goblin="chat", key_id=key)


def counted(gate: Admission, run: uuid.UUID) -> dict[str, tuple[int, int]]:
    """Spent and held of every budget, the run's too."""
    found = {state.name: (state.spent, state.held) for state in counters(gate)}
    text = gate.scripts.client.hget(f"{gate.scripts.root(gate.generation() or '')}money", f"run:{run}")
    state = budget.read(f"run:{run}", text or "0 0 -1 -1")
    return {**found, "run": (state.spent, state.held)}
