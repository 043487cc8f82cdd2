"""A run ends once, as its plan says, whoever finds it ended."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from goblin import kv
from goblin.settings import LimitSettings
from ledger import attempts, looks, runs, views
from ledger.attempts import Closed
from ledger.session import Ledger
from ledger.states import StepStatus
from tests.fakes.oracle import interpret
from tests.fakes.plans import plans
from tests.fakes.racing import at_once
from tests.fakes.runs import SUCCESS, accept, claim, plan_of, run_row
from workers.conclude import conclude_run, foreseen
from workers.stream import Feed, key
from workflow.outcome import Outcome, Settled
from workflow.plan import Plan
from workflow.text import text

ENDS = {
    "+": StepStatus.SUCCEEDED,
    "-": StepStatus.FAILED,
    ".": StepStatus.SKIPPED,
}


@pytest.fixture(scope="module")
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url, connections=10)
    yield ledger
    ledger.close()


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return kv.connect(redis_url)


@pytest.fixture
def feed(client: redis.Redis) -> Feed:
    return Feed(client, LimitSettings())


def ended(ledger: Ledger, workflow: str, ends: list[StepStatus]) -> uuid.UUID:
    """A run whose steps have all settled so."""
    run = accept(ledger, workflow)
    for idx, end in enumerate(ends):
        if end is StepStatus.SUCCEEDED:
            made = claim(run, idx)
            attempts.open_attempt(ledger, made)
            attempts.settle(ledger, made.attempt, SUCCESS, goblin="chat", key_id=None)
        elif end is not StepStatus.CANCELLED:
            attempts.close_step(ledger, run, idx, 1, end)
    if StepStatus.CANCELLED in ends:
        runs.request_cancel(ledger, run)
    return run


def close(ledger: Ledger, run: uuid.UUID, plan: Plan, idx: int, end: StepStatus) -> Closed | None:
    """As a worker does it: look, then end the step with what the run becomes by that."""
    look = looks.look(ledger, run, idx)
    assert look is not None
    becomes = foreseen(look, plan, idx, end)
    if end is StepStatus.SUCCEEDED:
        made = claim(run, idx)
        attempts.open_attempt(ledger, made)
        return attempts.settle(ledger, made.attempt, replace(SUCCESS, run=becomes), goblin="chat", key_id=None)
    return attempts.close_step(ledger, run, idx, 1, end, ends_run=becomes)


def events(client: redis.Redis, run: uuid.UUID) -> list[tuple[str, dict[str, Any]]]:
    entries: Any = client.xrange(key(run))
    return [(entry["type"], json.loads(entry["data"])) for _, entry in entries]


@pytest.mark.parametrize(
    ("workflow", "marks", "status"),
    [
        ("chat: a", "+", "succeeded"),
        ("chat: a", "-", "failed"),
        ("chat: a THEN chat: b", "-.", "failed"),
        ("chat: a THEN IF_FAILURE chat: b THEN chat: c", "-++", "succeeded"),
        ("chat: a AND chat: b", "+-", "failed"),
        ("chat: a THEN IF_FAILURE chat: b", "+.", "succeeded"),
    ],
)
def test_a_run_becomes_what_is_carried_at_its_end(
    ledger: Ledger, feed: Feed, client: redis.Redis, workflow: str, marks: str, status: str
) -> None:
    run = ended(ledger, workflow, [ENDS[mark] for mark in marks])
    conclude_run(ledger, feed, run, plan_of(workflow), fail_fast=True)
    assert run_row(ledger, run).status == status
    cost = f"{marks.count('+') * 700 / 10**9:.9f}"
    assert events(client, run) == [("run.finished", {"outcome": status, "cost_usd": cost})]


def test_a_run_of_which_a_step_was_cancelled_is_cancelled(ledger: Ledger, feed: Feed) -> None:
    workflow = "chat: a THEN chat: b"
    run = ended(ledger, workflow, [StepStatus.SUCCEEDED, StepStatus.CANCELLED])
    conclude_run(ledger, feed, run, plan_of(workflow), fail_fast=True)
    assert run_row(ledger, run).status == "cancelled"


@pytest.mark.parametrize(("needle", "status"), [("nowhere", "succeeded"), ("", "cancelled")])
def test_a_step_that_was_cancelled_before_its_turn_counts_only_if_that_would_have_come(
    ledger: Ledger, feed: Feed, needle: str, status: str
) -> None:
    workflow = f'chat: a THEN IF_CONTAINS("{needle or SUCCESS.output}") chat: b'
    run = accept(ledger, workflow)
    assert runs.cancel_step(ledger, run, 1, {"type": "cancelled", "message": "it was cancelled"}) is not None
    made = claim(run, 0, epoch=2)
    attempts.open_attempt(ledger, made)
    look = looks.look(ledger, run, 0)
    assert look is not None
    assert foreseen(look, plan_of(workflow), 0, StepStatus.SUCCEEDED) is None
    attempts.settle(ledger, made.attempt, SUCCESS, goblin="chat", key_id=None)
    conclude_run(ledger, feed, run, plan_of(workflow), fail_fast=True)
    assert run_row(ledger, run).status == status
    assert views.output(ledger, run) == ("" if status == "cancelled" else SUCCESS.output)


def test_a_run_that_had_succeeded_when_it_was_cancelled_has_succeeded(ledger: Ledger, feed: Feed) -> None:
    run = ended(ledger, "chat: a", [StepStatus.SUCCEEDED])
    assert runs.request_cancel(ledger, run) == ()
    conclude_run(ledger, feed, run, plan_of("chat: a"), fail_fast=True)
    assert run_row(ledger, run).status == "succeeded"


def test_a_run_is_told_finished_once(ledger: Ledger, feed: Feed, client: redis.Redis) -> None:
    run = ended(ledger, "chat: a", [StepStatus.SUCCEEDED])
    results = at_once(*(lambda: conclude_run(ledger, feed, run, plan_of("chat: a"), fail_fast=True) for _ in range(8)))
    assert results == [None] * 8
    assert len(events(client, run)) == 1


@hypothesis(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans(max_steps=6), st.data())
def test_every_plan_ends_as_the_reference_interpreter_says(
    ledger: Ledger, feed: Feed, plan: Any, data: st.DataObject
) -> None:
    marks = data.draw(st.lists(st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED]), min_size=6, max_size=6))
    story = interpret(plan, lambda step, _: Settled(marks[step.idx], ""))
    ends = [StepStatus(story.steps[step.idx].outcome) for step in plan.steps]
    status = "succeeded" if story.outcome is Outcome.SUCCEEDED else "failed"
    run = ended(ledger, text(plan), ends)
    conclude_run(ledger, feed, run, plan, fail_fast=True)
    assert run_row(ledger, run).status == status

    told = accept(ledger, text(plan))
    closed = [close(ledger, told, plan, idx, end) for idx, end in enumerate(ends)]
    assert [one and one.ended and one.ended.status for one in closed] == [None] * (len(ends) - 1) + [status]
    assert run_row(ledger, told).status == status


def test_steps_that_end_at_once_leave_the_end_of_their_run_to_whoever_finds_it(ledger: Ledger, feed: Feed) -> None:
    workflow = "chat: a AND chat: b"
    run, made = accept(ledger, workflow), {}
    found = [looks.look(ledger, run, idx) for idx in (0, 1)]
    for idx, look in enumerate(found):
        assert look is not None
        assert foreseen(look, plan_of(workflow), idx, StepStatus.SUCCEEDED) is None
        made[idx] = claim(run, idx)
        attempts.open_attempt(ledger, made[idx])
    for one in made.values():
        assert attempts.settle(ledger, one.attempt, SUCCESS, goblin="chat", key_id=None).ended is None
    assert run_row(ledger, run).status == "running"
    conclude_run(ledger, feed, run, plan_of(workflow), fail_fast=True)
    assert run_row(ledger, run).status == "succeeded"
