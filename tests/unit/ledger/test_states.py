"""The ledger against a twin of plain Python: whatever is done in whatever order, only edges of the table are taken."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from goblin.errors import LeaseLost
from ledger import attempts, runs
from ledger.attempts import Charge, Claim, Ending
from ledger.session import Ledger
from ledger.states import ATTEMPT_EDGES, RUN_EDGES, STEP_EDGES, AttemptStatus, RunStatus, StepStatus
from tests.fakes.runs import PRICE, accept, assert_books_balance, claim, rows

STEPS = 3
WORKFLOW = " AND ".join(["chat: go"] * STEPS)
ENDS = [
    (AttemptStatus.SUCCEEDED, StepStatus.SUCCEEDED),
    (AttemptStatus.SUCCEEDED, StepStatus.FAILED),  # a verdict
    (AttemptStatus.FAILED, StepStatus.PENDING),
    (AttemptStatus.FAILED, StepStatus.CANCELLED),
]


@dataclass
class Call:
    """An attempt, as it must be."""

    idx: int
    claim: Claim
    has_lease: bool
    spent: int
    status: AttemptStatus = AttemptStatus.OPEN


@dataclass
class Twin:
    """A run, as it must be."""

    id: uuid.UUID
    epoch: int = 1
    status: RunStatus = RunStatus.QUEUED
    is_cancelled: bool = False
    cost: int = 0
    steps: list[StepStatus] = field(default_factory=lambda: [StepStatus.PENDING] * STEPS)
    parked: list[list[int]] = field(default_factory=lambda: [[] for _ in range(STEPS)])
    calls: list[Call] = field(default_factory=list)

    @property
    def open_steps(self) -> int:
        return sum(not step.is_final for step in self.steps)

    def close(self, idx: int, wanted: StepStatus) -> tuple[dict[str, int], ...]:
        """Put a step where a call leaves it; the messages that wake."""
        self.steps[idx] = StepStatus.CANCELLED if wanted is StepStatus.PENDING and self.is_cancelled else wanted
        return tuple({"number": number} for number in self.parked[idx]) if self.steps[idx].is_final else ()


class Machine(RuleBasedStateMachine):
    """One run after the other; `ledger` is set by the test."""

    ledger: Ledger
    calls = Bundle("calls")
    idxs = st.integers(0, STEPS - 1)
    staleness = st.sampled_from([0, 0, 1])
    money = st.integers(0, 2_000)

    @initialize()
    def submit(self) -> None:
        self.twin = Twin(accept(self.ledger, WORKFLOW))
        self.seen: dict[str, str] = {}
        self.messages = 0

    @rule(target=calls, idx=idxs, stale=staleness, has_lease=st.booleans(), floor=money)
    def open(self, idx: int, stale: int, has_lease: bool, floor: int) -> Call | MultipleResults[Call]:
        twin = self.twin
        made = claim(twin.id, idx, twin.epoch - stale, lease=60 if has_lease else -1, floor=floor)
        number = attempts.open_attempt(self.ledger, made)
        may = not stale and not twin.is_cancelled and not twin.status.is_final
        if not may or twin.steps[idx] is not StepStatus.PENDING:
            assert number is None
            return multiple()
        assert number == 1 + sum(call.idx == idx for call in twin.calls)
        twin.steps[idx] = StepStatus.RUNNING
        twin.status = RunStatus.RUNNING
        call = Call(idx, made, has_lease, floor)
        twin.calls.append(call)
        return call

    @rule(call=calls, end=st.sampled_from(ENDS), amount=money, is_charged=st.booleans())
    def settle(self, call: Call, end: tuple[AttemptStatus, StepStatus], amount: int, is_charged: bool) -> None:
        charge = Charge(amount, is_measured=True, price=PRICE) if is_charged else None
        was = call.status
        try:
            closed = attempts.settle(
                self.ledger, call.claim.attempt, Ending(*end, charge=charge), goblin="chat", key_id=None
            )
        except LeaseLost:
            assert was is AttemptStatus.ABANDONED
            if is_charged:  # measured
                self.twin.cost += amount - call.spent
                call.spent = amount
            return
        assert was is not AttemptStatus.ABANDONED
        if was is AttemptStatus.OPEN:
            call.status, call.spent = end[0], amount if is_charged else 0
            self.twin.cost += call.spent
            assert closed.woken == self.twin.close(call.idx, end[1])
            assert closed.status == self.twin.steps[call.idx]
        assert closed.open_steps == self.twin.open_steps

    @rule(call=calls, spent=money, has_lease=st.booleans())
    def renew(self, call: Call, spent: int, has_lease: bool) -> None:
        assert call.claim.owner is not None
        lease = 60 if has_lease else -1
        ours, cancelled = attempts.renew(self.ledger, call.claim.owner, lease, {call.claim.attempt: spent})
        is_ours = call.status is AttemptStatus.OPEN
        assert ours == ({call.claim.attempt} if is_ours else set())
        assert cancelled == (ours if self.twin.is_cancelled else set())
        if is_ours:
            call.spent, call.has_lease = spent, has_lease

    @rule()
    def abandon(self) -> None:
        twin = self.twin
        found = attempts.abandon(self.ledger, calm=0, limit=100)
        lost = [call for call in twin.calls if call.status is AttemptStatus.OPEN and not call.has_lease]
        for call in lost:
            call.status, call.spent = AttemptStatus.ABANDONED, call.claim.hold
            twin.cost += call.spent
            twin.close(call.idx, StepStatus.PENDING)
        twin.epoch += bool(lost)
        assert found == ([attempts.Abandoned(twin.id, twin.epoch, twin.open_steps, len(lost))] if lost else [])

    @rule(idx=idxs, stale=staleness, status=st.sampled_from([StepStatus.SKIPPED, StepStatus.FAILED]))
    def close(self, idx: int, stale: int, status: StepStatus) -> None:
        twin = self.twin
        closed = attempts.close_step(self.ledger, twin.id, idx, twin.epoch - stale, status)
        if stale or twin.steps[idx] is not StepStatus.PENDING:
            assert closed is None
            return
        assert closed is not None
        assert closed.woken == twin.close(idx, status)
        assert closed.open_steps == twin.open_steps

    @rule(idx=idxs)
    def park(self, idx: int) -> None:
        self.messages += 1
        is_parked = attempts.park(self.ledger, self.twin.id, idx, {"number": self.messages})
        assert is_parked == (self.twin.steps[idx] is StepStatus.RUNNING)
        if is_parked:
            self.twin.parked[idx].append(self.messages)

    @rule(stale=staleness)
    def renew_epoch(self, stale: int) -> None:
        twin = self.twin
        renewed = runs.renew_epochs(self.ledger, {twin.id: twin.epoch - stale})
        twin.epoch += not stale and not twin.status.is_final
        assert renewed == ({} if stale or twin.status.is_final else {twin.id: twin.epoch})

    @rule()
    def cancel(self) -> None:
        twin = self.twin
        ended = runs.request_cancel(self.ledger, twin.id)
        pending = [idx for idx, step in enumerate(twin.steps) if step is StepStatus.PENDING]
        assert list(ended) == pending
        for idx in pending:
            twin.steps[idx] = StepStatus.CANCELLED
        twin.is_cancelled |= not twin.status.is_final

    @rule(status=st.sampled_from([RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED]))
    def finish(self, status: RunStatus) -> None:
        twin = self.twin
        cost = runs.finish(self.ledger, twin.id, status)
        if twin.open_steps or status not in RUN_EDGES[twin.status]:
            assert cost is None
            return
        assert cost == twin.cost
        twin.status = status

    @invariant()
    def is_as_its_twin(self) -> None:
        twin = self.twin
        (run,) = rows(self.ledger, "select * from runs where id = %s", twin.id)
        assert (run.status, run.epoch, run.open_steps, run.cost_nanousd, run.cancel_requested_at is not None) == (
            twin.status,
            twin.epoch,
            twin.open_steps,
            twin.cost,
            twin.is_cancelled,
        )
        assert (run.finished_at is not None) == twin.status.is_final
        steps = rows(self.ledger, "select * from steps where run_id = %s order by idx", twin.id)
        assert [step.status for step in steps] == twin.steps
        assert all((step.finished_at is not None) == StepStatus(step.status).is_final for step in steps)
        calls = rows(self.ledger, "select * from attempts where run_id = %s", twin.id)
        assert {call.id: (call.status, call.spent_nanousd) for call in calls} == {
            call.claim.attempt: (call.status, call.spent) for call in twin.calls
        }
        self.walked("run", run.status, RunStatus, RUN_EDGES)
        for step in steps:
            self.walked(f"step {step.idx}", step.status, StepStatus, STEP_EDGES)
        for call in calls:
            self.walked(f"attempt {call.id}", call.status, AttemptStatus, ATTEMPT_EDGES)

    def walked(self, what: str, status: str, kind: Callable[[str], Any], edges: Mapping[Any, frozenset[Any]]) -> None:
        before = self.seen.get(what, status)
        assert before == status or kind(status) in edges[kind(before)], f"{what}: {before} -> {status}"
        self.seen[what] = status

    def teardown(self) -> None:
        assert_books_balance(self.ledger)
        for call in self.twin.calls:
            if call.claim.owner is not None:
                attempts.renew(self.ledger, call.claim.owner, 0, {call.claim.attempt: 0})
        attempts.abandon(self.ledger, calm=0, limit=100)


def test_the_ledger_walks_the_edges_of_its_tables_and_no_others(ledger: Ledger) -> None:
    machine = type("LedgerMachine", (Machine,), {"ledger": ledger})
    machine.TestCase.settings = hypothesis(  # type: ignore[attr-defined]
        max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine.TestCase().runTest()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "edges"), [(RunStatus, RUN_EDGES), (StepStatus, STEP_EDGES), (AttemptStatus, ATTEMPT_EDGES)]
)
def test_every_state_has_its_place_in_the_table(
    kind: type[StrEnum], edges: Mapping[StrEnum, frozenset[StrEnum]]
) -> None:
    assert set(edges) == set(kind)
    first = next(iter(kind))
    assert frozenset({first}).union(*edges.values()) == set(kind)


def test_a_run_whose_steps_made_no_call_cannot_have_succeeded(ledger: Ledger) -> None:
    run = accept(ledger)
    attempts.close_step(ledger, run, 0, 1, StepStatus.SKIPPED)
    assert runs.finish(ledger, run, RunStatus.SUCCEEDED) is None
    assert runs.finish(ledger, run, RunStatus.FAILED) == 0
