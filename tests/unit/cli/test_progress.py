"""Events folded into the progress of a run, and the lines that are written off a terminal."""

import io
from typing import Any

from cli.events import Event
from cli.plain import PlainLines
from cli.progress import Progress

USAGE = {"input": 1, "cache_read": 0, "cache_write": 0, "output": 7, "reasoning": 0, "measured": True}


def run_of(*steps: tuple[str, list[str]]) -> dict[str, Any]:
    return {"steps": [{"id": id_, "goblin": "chat", "task": "talk", "dependencies": after} for id_, after in steps]}


def started(step: str, attempt: int = 1, provider: str = "openai") -> Event:
    return Event(
        "1-0", "step.started", {"step": step, "goblin": "chat", "provider": provider, "model": "m", "attempt": attempt}
    )


def delta(step: str, text: str, cost: str = "0.000000010") -> Event:
    return Event("1-1", "delta", {"step": step, "text": text, "tokens": 2, "cost": cost})


def reset(step: str, reason: str) -> Event:
    return Event("1-2", "step.reset", {"step": step, "reason": reason})


def finished(step: str, outcome: str = "succeeded", cost: str = "0.000000050") -> Event:
    data = {"step": step, "outcome": outcome, "cost_usd": cost, "usage": USAGE, "error": None}
    return Event("1-3", "step.finished", data)


def told(progress: Progress, *events: Event) -> str:
    stream = io.StringIO()
    with PlainLines(progress, stream) as lines:
        for event in events:
            progress.apply(event, 0.0)
            lines.hear(event)
    return stream.getvalue()


def after(*events: Event) -> Progress:
    progress = Progress.of_run(run_of(("step1", [])))
    for now, event in enumerate(events):
        progress.apply(event, float(now))
    return progress


def test_tokens_and_cost_add_up_while_a_step_talks() -> None:
    step = after(started("step1"), delta("step1", "a"), delta("step1", "b\nc")).steps["step1"]
    assert (step.status, step.by, step.tokens, step.cost, step.last_line) == ("running", "openai/m", 4, 20, "c")


def test_the_end_brings_what_was_counted_and_charged() -> None:
    step = after(started("step1"), delta("step1", "a"), finished("step1")).steps["step1"]
    assert (step.status, step.tokens, step.cost, step.elapsed(99)) == ("succeeded", 7, 50, 2.0)


def test_a_withdrawn_attempt_keeps_its_cost_and_loses_its_text() -> None:
    events = (started("step1"), delta("step1", "a"), reset("step1", "cut"), started("step1", 2), finished("step1"))
    step = after(*events).steps["step1"]
    assert (step.cost, step.attempt, step.tail, step.note) == (60, 2, "", "openai/m: cut")


def test_a_step_that_is_told_once_more_costs_once() -> None:
    events = (started("step1"), delta("step1", "a"), reset("step1", "replayed"), started("step1"), finished("step1"))
    assert after(*events).cost == 50


def test_events_of_steps_that_nobody_knows_change_nothing() -> None:
    assert after(delta("step9", "a")).cost == 0


def test_steps_that_wait_for_the_same_stand_side_by_side() -> None:
    progress = Progress.of_run(run_of(("step1", []), ("step2", ["step1"]), ("step3", ["step1"])))
    assert [[step.id for step in stage] for stage in progress.stages] == [["step1"], ["step2", "step3"]]
    assert progress.is_parallel


def test_steps_one_after_the_other_are_written_as_they_come() -> None:
    progress = Progress.of_run(run_of(("step1", []), ("step2", ["step1"])))
    events = (started("step1"), delta("step1", "one "), delta("step1", "line"), finished("step1"), started("step2"))
    assert told(progress, *events).splitlines() == [
        "== step1 chat: openai/m: talk",
        "one line",
        "== step1 chat: succeeded",
        "== step2 chat: openai/m: talk",
    ]


def test_steps_side_by_side_are_written_in_whole_lines_under_their_names() -> None:
    progress = Progress.of_run(run_of(("step1", []), ("step2", [])))
    events = (delta("step1", "a"), delta("step2", "b\nbb"), delta("step1", "aa\n"), finished("step2"))
    assert told(progress, started("step1"), *events).splitlines() == [
        "step1 == openai/m: talk",
        "step2 | b",
        "step1 | aaa",
        "step2 | bb",
        "step2 == succeeded",
    ]


def test_a_withdrawal_is_told_with_its_reason() -> None:
    progress = Progress.of_run(run_of(("step1", [])))
    text = told(progress, started("step1"), delta("step1", "half"), reset("step1", "cut"), started("step1", 2, "groq"))
    assert text.splitlines()[1:] == [
        "half",
        "== step1 chat: withdrawn: openai/m: cut",
        "== step1 chat: groq/m, attempt 2: talk",
    ]


def test_a_budget_that_is_nearly_spent_is_told_on_a_line_of_its_own() -> None:
    progress = Progress.of_run(run_of(("step1", [])))
    alert = Event("1-4", "budget.alert", {"budget": "all/hour"})
    assert told(progress, started("step1"), delta("step1", "half"), alert, finished("step1")).splitlines()[1:] == [
        "half",
        "== four fifths of the budget all/hour are spent",
        "== step1 chat: succeeded",
    ]
