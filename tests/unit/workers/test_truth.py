"""What Flower is told: the event says what became of the step, not that its task returned."""

import pytest
from celery.utils.saferepr import saferepr

from goblin.errors import GoblinError
from ledger.states import StepStatus
from workers.errand import Done
from workers.tasks import as_line, truth


def told(done: Done) -> tuple[str, dict[str, object]]:
    """The event for a returned outcome, as Celery hands it over: its own representation of the returned text."""
    return truth({"result": saferepr(as_line(done), 1_024), "runtime": 1.5, "uuid": "x"})


def test_a_step_that_succeeded_shows_who_answered() -> None:
    event, shown = told(Done(StepStatus.SUCCEEDED, "review", "openai/gpt"))
    assert event == "task-succeeded"
    assert (shown["name"], shown["result"], shown["runtime"]) == ("review @ openai/gpt", "succeeded", 1.5)


@pytest.mark.parametrize(
    "error", ["no answer", "a | b || c", "it's 'quoted'", 'and "so"', "back\\slash", "two\nlines", "'", ""]
)
def test_a_step_that_failed_is_a_failed_task_with_its_error(error: str) -> None:
    event, shown = told(Done(StepStatus.FAILED, "chat", error=GoblinError(error).message))
    assert event == "task-failed"
    assert (shown["name"], shown["traceback"]) == ("chat", "")
    assert shown["exception"] == error


def test_steps_that_made_no_call_are_told_apart() -> None:
    assert told(Done(StepStatus.SKIPPED, "chat"))[0] == "task-skipped"
    assert told(Done(StepStatus.CANCELLED, "chat", "openai/gpt"))[0] == "task-revoked"


@pytest.mark.parametrize("result", ["None", "'done'", "", "'failedish|x|y'", "42"])
def test_what_is_no_outcome_is_left_as_it_is(result: str) -> None:
    assert truth({"result": result, "uuid": "x"}) == ("task-succeeded", {"result": result, "uuid": "x"})


def test_an_event_without_a_result_is_left_as_it_is() -> None:
    assert truth({"uuid": "x"}) == ("task-succeeded", {"uuid": "x"})


def test_a_long_error_is_cut() -> None:
    assert len(str(told(Done(StepStatus.FAILED, "chat", error="no " * 1_000))[1]["exception"])) < 300
