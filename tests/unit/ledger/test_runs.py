"""Submitting: once per idempotency key and API key, whoever asks again and however many ask at once."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from goblin.errors import Conflict, NotFound
from ledger import attempts, keys, runs
from ledger.looks import look
from ledger.runs import NewStep, Standing, Submitted
from ledger.session import Ledger
from ledger.states import RunStatus, StepStatus
from tests.fakes.racing import at_once
from tests.fakes.runs import FAULT, accept, claim, one, request, run_row, step_rows

ASKED = request("chat: one AND chat: two THEN review: three")


def test_a_run_is_stored_with_its_steps(ledger: Ledger) -> None:
    run = runs.submit(ledger, ASKED)
    assert run.is_new
    row = run_row(ledger, run.id)
    assert (row.status, row.epoch, row.published_epoch, row.open_steps, row.cost_nanousd) == ("queued", 1, 0, 3, 0)
    steps = [(step.idx, step.goblin, step.task, step.after, step.status) for step in step_rows(ledger, run.id)]
    assert steps == [
        (0, "chat", "one", [], "pending"),
        (1, "chat", "two", [], "pending"),
        (2, "review", "three", [0, 1], "pending"),
    ]


def test_without_a_key_the_same_request_is_another_run(ledger: Ledger) -> None:
    assert runs.submit(ledger, ASKED).id != runs.submit(ledger, ASKED).id


def test_the_same_key_and_the_same_request_are_the_same_run(ledger: Ledger) -> None:
    first = runs.submit(ledger, replace(ASKED, idempotency_key="same"))
    assert runs.submit(ledger, replace(ASKED, idempotency_key="same")) == Submitted(first.id, is_new=False)
    assert len(step_rows(ledger, first.id)) == 3


@pytest.mark.parametrize(
    "change", [{"input": {"text": "bye"}}, {"options": {"priority": 3}}, {"workflow": "say  hello"}]
)
def test_the_same_key_with_another_request_is_a_conflict(ledger: Ledger, change: dict[str, object]) -> None:
    asked = replace(request(), idempotency_key=f"other {change}")
    runs.submit(ledger, asked)
    with pytest.raises(Conflict, match="belongs to another request"):
        runs.submit(ledger, replace(asked, **change))  # type: ignore[arg-type]


def test_an_input_in_another_order_is_the_same_request(ledger: Ledger) -> None:
    asked = replace(request(), idempotency_key="order", input={"code": "a", "language": "b"})
    first = runs.submit(ledger, asked)
    assert runs.submit(ledger, replace(asked, input={"language": "b", "code": "a"})).id == first.id


def test_two_api_keys_may_use_the_same_idempotency_key(ledger: Ledger) -> None:
    keys.create(ledger, "anna")
    keys.create(ledger, "bert")
    owners = [key.id for key in keys.all_keys(ledger)]
    ids = {runs.submit(ledger, request(key_id=owner, idempotency_key="mine")).id for owner in [*owners, None]}
    assert len(ids) == 3


def test_a_key_whose_run_is_forgotten_while_it_is_asked_for_is_free_again(database: str) -> None:
    class Forgetful(Ledger):
        """A ledger whose runs are pruned between two statements of a submission."""

        def run(self, name: str, /, patience: float = 0, **parameters: Any) -> Sequence[Any]:
            if name == "runs.submitted_before":
                with self.engine.connect() as connection:
                    connection.exec_driver_sql("delete from runs")
            return super().run(name, patience, **parameters)

    ledger, asked = Forgetful(database, connections=2), replace(ASKED, idempotency_key="old")
    first = runs.submit(ledger, asked)
    again = runs.submit(ledger, asked)
    assert again.is_new
    assert again.id != first.id
    assert len(step_rows(ledger, again.id)) == 3
    ledger.close()


def test_of_many_submissions_at_once_one_is_new_and_all_are_the_same(ledger: Ledger) -> None:
    asked = replace(ASKED, idempotency_key="at once")
    submitted = at_once(*(partial(runs.submit, ledger, asked) for _ in range(16)))
    made = [one for one in submitted if isinstance(one, Submitted)]
    assert len(made) == 16
    assert len({one.id for one in made}) == 1
    assert sum(one.is_new for one in made) == 1
    assert len(step_rows(ledger, made[0].id)) == 3


def test_of_different_submissions_at_once_under_one_key_one_wins(ledger: Ledger) -> None:
    asked = [replace(request(), idempotency_key="one wins", input={"text": str(n)}) for n in range(12)]
    submitted = at_once(*(partial(runs.submit, ledger, one) for one in asked))
    assert sum(isinstance(one, Submitted) for one in submitted) == 1
    assert sum(isinstance(one, Conflict) for one in submitted) == 11


def test_what_is_left_of_a_run_that_does_not_exist_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(NotFound):
        runs.remainder(ledger, uuid.uuid4())
    assert look(ledger, uuid.uuid4(), 0) is None
    assert runs.request_cancel(ledger, uuid.uuid4()) == ()
    assert runs.finish(ledger, uuid.uuid4(), RunStatus.FAILED) is None


def test_a_cancelled_run_ends_its_open_steps_at_once(ledger: Ledger) -> None:
    run = accept(ledger, "chat: one THEN chat: two")
    failed = claim(run)
    attempts.open_attempt(ledger, failed)
    attempts.settle(ledger, failed.attempt, FAULT, goblin="chat", key_id=None)
    assert runs.request_cancel(ledger, run) == (0, 1)
    assert [step.error for step in step_rows(ledger, run)] == [None, None]
    assert runs.request_cancel(ledger, run) == ()
    assert runs.standing(ledger, run) == Standing({0: StepStatus.CANCELLED, 1: StepStatus.CANCELLED}, is_cancelled=True)
    assert runs.remainder(ledger, run).settled == {0, 1}
    assert runs.finish(ledger, run, RunStatus.CANCELLED) == 0
    assert run_row(ledger, run).status == RunStatus.CANCELLED


def test_a_publication_is_noted_for_its_epoch_alone(ledger: Ledger) -> None:
    run = accept(ledger)
    assert runs.renew_epochs(ledger, {run: 1}) == {run: 2}
    runs.mark_published(ledger, run, 1)
    assert run_row(ledger, run).published_epoch == 0
    runs.mark_published(ledger, run, 2)
    assert run_row(ledger, run).published_epoch == 2


storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@hypothesis(max_examples=30, deadline=None)
@given(storable, storable)
def test_any_text_comes_back_as_it_was(ledger: Ledger, task: str, code: str) -> None:
    asked = replace(request(), input={"code": code}, steps=[NewStep("chat", task, ())])
    seen = look(ledger, runs.submit(ledger, asked).id, 0)
    assert seen is not None
    assert seen.input == {"code": code}


def test_a_plan_comes_back_as_it_was(ledger: Ledger) -> None:
    run = accept(ledger)
    assert json.dumps(runs.remainder(ledger, run).plan, sort_keys=True) == json.dumps(request().plan, sort_keys=True)
    assert one(ledger, "select task from steps where run_id = %s", run).task == "say hello"
