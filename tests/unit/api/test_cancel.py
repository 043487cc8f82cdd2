"""Stopping one step: it ends or is cut, and the run goes on as after a failure."""

import uuid
from typing import Any

import pytest

from ledger import attempts, looks
from ledger.states import StepStatus
from tests.fakes.runs import assert_books_balance, one

RESCUE = "chat: a THEN IF_FAILURE chat: b"


def cancel(api: Any, run: str, step: str) -> Any:
    return api.client.post(f"/v1/runs/{run}/steps/{step}/cancel")


def statuses(api: Any, run: str) -> list[str]:
    return [step["status"] for step in api.run(run)["steps"]]


def test_a_step_that_has_not_begun_ends_at_once_and_what_is_left_is_sent_anew(api: Any) -> None:
    run = api.submit(RESCUE)
    answer = cancel(api, run, "step1")
    assert answer.status_code == 202
    shown = answer.json()
    assert (shown["id"], shown["outcome"], shown["error"]["type"]) == ("step1", "cancelled", "cancelled")
    assert statuses(api, run) == ["cancelled", "pending"]
    row = one(api.hand.ledger, "select epoch, published_epoch, open_steps from runs where id = %s", uuid.UUID(run))
    assert tuple(row) == (2, 2, 1)


def test_a_step_that_waits_leaves_nothing_to_wait_for(api: Any) -> None:
    run = api.submit("chat: a AND chat: b")
    assert attempts.wait(api.hand.ledger, uuid.UUID(run), 0, 1, {})
    assert cancel(api, run, "step1").json()["status"] == "cancelled"
    look = looks.look(api.hand.ledger, uuid.UUID(run), 1)
    assert look is not None
    assert (look.epoch, look.status, look.is_cancelled) == (2, StepStatus.PENDING, False)


def test_a_run_whose_last_step_is_cancelled_ends(api: Any) -> None:
    run = api.submit("chat: a")
    assert cancel(api, run, "step1").status_code == 202
    assert api.run(run)["status"] == "cancelled"
    assert [kind for _, kind, _ in api.events(run)] == ["step.finished", "run.finished"]


def test_a_failure_beside_a_cancelled_step_is_the_run_s(api: Any) -> None:
    run = api.submit("chat: a AND chat: b")
    api.hand.end(run, api.hand.begin(run), None, step=StepStatus.FAILED, error={"type": "x", "message": "y"})
    cancel(api, run, "step2")
    assert api.run(run)["status"] == "failed"


def test_a_running_step_is_asked_and_ends_with_what_it_has_spent(api: Any) -> None:
    run = api.submit(RESCUE)
    attempt = api.hand.begin(run)
    assert cancel(api, run, "step1").json()["status"] == "running"
    owner = one(api.hand.ledger, "select owner from attempts where id = %s", attempt).owner
    assert attempts.renew(api.hand.ledger, owner, 60, {attempt: 0}) == (frozenset({attempt}), frozenset({attempt}))
    api.hand.end(run, attempt, None, step=StepStatus.PENDING, error={"type": "unreachable", "message": "x"})
    assert statuses(api, run) == ["cancelled", "pending"]
    assert api.run(run)["steps"][0]["cost_usd"] == "0.000004000"
    assert_books_balance(api.hand.ledger)


def test_an_answer_that_came_before_its_step_was_cut_is_kept(api: Any) -> None:
    run = api.submit(RESCUE)
    attempt = api.hand.begin(run)
    cancel(api, run, "step1")
    api.hand.end(run, attempt, "whole")
    assert statuses(api, run) == ["succeeded", "pending"]


def test_a_cancelled_step_whose_worker_went_away_is_not_called_again(api: Any) -> None:
    run = api.submit(RESCUE)
    attempt = api.hand.begin(run)
    cancel(api, run, "step1")
    expire = "update attempts set lease_until = now() - interval '1 second' where id = %s returning id"
    one(api.hand.ledger, expire, attempt)
    (lost,) = attempts.abandon(api.hand.ledger, calm=0, limit=10)
    assert (lost.open_steps, statuses(api, run)) == (1, ["cancelled", "pending"])
    assert_books_balance(api.hand.ledger)


def test_cancelling_a_step_again_is_the_same(api: Any) -> None:
    run = api.submit(RESCUE)
    assert [cancel(api, run, "step1").status_code for _ in range(2)] == [202, 202]


def test_cancelling_a_step_that_has_ended_is_a_conflict(api: Any) -> None:
    run = api.submit(RESCUE)
    api.hand.end(run, api.hand.begin(run), "x")
    answer = cancel(api, run, "step1")
    assert (answer.status_code, answer.json()["detail"]) == (409, "the step has succeeded already")


@pytest.mark.parametrize("step", ["step3", "step0", "1", "step1x"])
def test_a_step_that_does_not_exist_is_not_found(api: Any, step: str) -> None:
    assert cancel(api, api.submit(RESCUE), step).status_code == 404
