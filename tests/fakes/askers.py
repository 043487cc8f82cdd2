"""Processes that ask for admission at the same time, and what each of them does. Run by `together` alone."""

import multiprocessing as mp
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from goblin import kv
from goblin.clock import new_id
from ledger import attempts, runs
from ledger.attempts import Charge, Claim, Ending
from ledger.holds import Outdated
from ledger.runs import NewRun, NewStep
from ledger.session import Ledger
from ledger.states import AttemptStatus, StepStatus
from routing.admission import Admission, Admitted, Used
from routing.ask import Ask, Place, Rate, as_values
from routing.budget import Budget, State, read
from routing.refusal import Reason, Refused
from routing.script import Scripts
from tests.fakes.asks import CLOCK

PATIENCE_S = 60
T = TypeVar("T")
_SERVER = mp.get_context("forkserver")


def together(count: int, work: Callable[..., T], *arguments: Any) -> list[T]:
    """What `work` returned in each of so many processes, all begun at one moment."""
    _SERVER.set_forkserver_preload([__name__])
    gate, results = _SERVER.Barrier(count), _SERVER.Queue()
    processes = [_SERVER.Process(target=_child, args=(gate, results, work, arguments)) for _ in range(count)]
    for process in processes:
        process.start()
    got = [results.get(timeout=PATIENCE_S) for _ in processes]
    for process in processes:
        process.join(PATIENCE_S)
    return got


def _child(gate: Any, results: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    gate.wait(PATIENCE_S)
    results.put(work(*arguments))


def standing(redis_url: str) -> Admission:
    """An admission whose time stands where the test put it."""
    return Admission(Scripts(kv.connect(redis_url), clock=CLOCK))


def place(hold: int = 100, *, budgets: tuple[Budget, ...] = (), rate: Rate = Rate(), key: str = "") -> Place:  # noqa: B008
    return Place("sim", "sim/small", hold, 10, rate, slot_ms=60_000, budgets=budgets, key=key)


def counters(gate: Admission) -> list[State]:
    """Every budget in its present window, but for those that Redis may forget; empty while there are no counters."""
    root, client = gate.scripts.root(gate.generation() or ""), gate.scripts.client
    names = client.zrangebyscore(f"{root}budgets", f"({client.time()[0] * 1000}", "+inf")
    return [read(name, client.hget(f"{root}money", name) or "") for name in names]


def admitted_of(redis_url: str, asks: int, above: tuple[Budget, ...], own: tuple[Budget, ...]) -> int:
    """How many of so many asks were admitted; nobody settles."""
    gate = standing(redis_url)
    answers = (gate.admit(Ask(new_id(), (place(budgets=own),), above)) for _ in range(asks))
    return sum(isinstance(answer, Admitted) for answer in answers)


@dataclass(frozen=True)
class Spree:
    calls: int
    worst: int  # the most that was ever seen spent and held


def spend_all(redis_url: str, budget: Budget, cost: int) -> Spree:
    """Call until the budget is spent, each call for less than it held."""
    gate = standing(redis_url)
    key = f"{gate.scripts.root('1')}money"
    calls = worst = 0
    while True:
        answer = gate.admit(Ask(new_id(), (place(),), (budget,)))
        if isinstance(answer, Admitted):
            state = read(budget.name, gate.scripts.client.hget(key, budget.name) or "")
            worst = max(worst, state.spent + state.held)
            gate.settle(answer.attempt, Used(cost))
            calls += 1
        elif answer.reasons[0].reason is Reason.BUDGET:
            return Spree(calls, worst)


def probes(redis_url: str, asks: int) -> list[bool]:
    """Whether each admitted call was a probe."""
    gate = standing(redis_url)
    answers = [gate.admit(Ask(new_id(), (place(),))) for _ in range(asks)]
    return [answer.is_probe for answer in answers if isinstance(answer, Admitted)]


def arrivals(redis_url: str, rate: Rate, span_ms: int, seconds: float) -> list[float]:
    """The moments (shared clock, seconds) at which calls arrived that were sent as soon as they were admitted."""
    scripts = Scripts(kv.connect(redis_url))
    until, seen = time.monotonic() + seconds, []
    while time.monotonic() < until:
        head, one = as_values(Ask(new_id(), (place(rate=rate),)))
        answer = scripts.run("admit", head | {"span": span_ms}, one | {"request_burst": span_ms // 20})
        if answer[0] == "admitted":
            seen.append(time.monotonic())
        else:
            time.sleep(answer[2] / 1000)
    return seen


def call_all(redis_url: str, database_url: str, key: uuid.UUID, budget: Budget) -> int:
    """Make calls as a worker does, through losses of Redis, until the budget is spent: how many.

    Every seventh admission is forgotten, as by a worker that dies before it opens the attempt.
    """
    ledger, gate = Ledger(database_url, connections=1), Admission(Scripts(kv.connect(redis_url)))
    calls = 0
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        answer = gate.admit(Ask(new_id(), (place(),), (budget,)))
        if isinstance(answer, Refused):
            if answer.budget is not None:
                break
            continue
        if answer.attempt.int % 7 == 0:
            continue
        run = runs.submit(ledger, NewRun("chat: a", {}, {}, {}, [NewStep("chat", "a", ())], key)).id
        try:
            opened = attempts.open_attempt(ledger, claim_of(answer, run))
        except Outdated:
            gate.release(answer.attempt)
            continue
        if opened is None:
            raise RuntimeError("nobody else works on this run")
        ending = Ending(
            AttemptStatus.SUCCEEDED, StepStatus.SUCCEEDED, charge=Charge(answer.place.hold, is_measured=True, price={})
        )
        attempts.settle(ledger, answer.attempt, ending, goblin="chat", key_id=key)
        gate.settle(answer.attempt, Used(answer.place.hold), generation=answer.generation, counters=answer.counters)
        calls += 1
    ledger.close()
    return calls


def claim_of(admitted: Admitted, run: uuid.UUID, idx: int = 0) -> Claim:
    place = admitted.place
    model = place.candidate.partition("/")[2]
    return Claim(
        admitted.attempt, run, idx, 1, place.provider, model, uuid.uuid4(), 60, place.hold, 0, {"key": place.key},
        tokens=place.tokens, generation=admitted.generation, admitted_at=admitted.admitted_at,
    )  # fmt: skip
