"""The algebra: examples one can check by hand, then every order of events against the reference interpreter."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.oracle import interpret
from tests.fakes.plans import any_outcomes, outcomes, plans
from workflow.outcome import Decision, NotYet, Outcome, Run, Settled, Skip, conclude, decide, produced
from workflow.parse import parse
from workflow.plan import Plan, PlanError, Step

MARKS = {
    "+": Outcome.SUCCEEDED,
    "-": Outcome.FAILED,
    ".": Outcome.SKIPPED,
    "x": Outcome.CANCELLED,
}


def plan_of(text: str) -> Plan:
    return parse(text, goblins=["chat"], default_goblin="chat")


def settled_by(marks: str) -> dict[int, Settled]:
    """One mark a step, in text order; a blank has not settled."""
    return {idx: Settled(MARKS[mark]) for idx, mark in enumerate(marks) if mark != " "}


def drive(
    plan: Plan, answers: list[Settled], order: Random, fail_fast: bool = True, cancels: Sequence[int] = ()
) -> tuple[dict[int, Settled], dict[int, Decision]]:
    """Settles the steps in a random order of those that may be decided; fails if a run gets stuck.

    One that is cancelled before that, at any moment, is not decided.
    """
    settled: dict[int, Settled] = {}
    decided: dict[int, Decision] = {}
    left = list(cancels)
    while open_steps := [step.idx for step in plan.steps if step.idx not in settled]:
        if left and order.random() < 0.5:
            settled.setdefault(left.pop(), Settled(Outcome.CANCELLED))
            continue
        decisions = {idx: decide(plan, idx, settled, fail_fast) for idx in open_steps}
        ready = [idx for idx, decision in decisions.items() if not isinstance(decision, NotYet)]
        for idx in order.sample(ready, order.randint(1, len(ready))):
            decided[idx] = decisions[idx]
            settled[idx] = answers[idx] if isinstance(decisions[idx], Run) else Settled(Outcome.SKIPPED)
    return settled, decided


@pytest.mark.parametrize(
    ("text", "answers", "became", "outcome"),
    [
        ("a THEN b", "++", "++", "succeeded"),
        ("a THEN b", "-+", "-.", "failed"),
        ("a THEN b THEN c", "-++", "-..", "failed"),
        ("a AND b THEN c", "+-+", "+-.", "failed"),
        ("a THEN IF_SUCCESS b", "-+", "-.", "failed"),
        ("a THEN IF_FAILURE b", "++", "+.", "succeeded"),
        ("try THEN IF_FAILURE fallback THEN polish", "-++", "-++", "succeeded"),
        ("try THEN IF_FAILURE fallback THEN polish", "+++", "+.+", "succeeded"),
        ("try THEN IF_FAILURE fallback THEN polish", "--+", "--.", "failed"),
        ("a THEN IF_SUCCESS b ELSE c THEN d", "++++", "++.+", "succeeded"),
        ("a THEN IF_SUCCESS b ELSE c THEN d", "-+++", "-.++", "succeeded"),
        ("a THEN IF_SUCCESS b AND c ELSE d AND e", "-++++", "-..++", "succeeded"),
        ("a THEN b THEN IF_FAILURE c", "-++", "-.+", "succeeded"),
        ("a AND (b THEN IF_FAILURE c)", "+-+", "+-+", "succeeded"),
        ("a THEN IF_FAILURE (b THEN c) THEN d", "++++", "+..+", "succeeded"),
        ("a THEN IF_FAILURE b", "x+", "x+", "succeeded"),
        ("a", "x", "x", "failed"),
    ],
)
def test_a_run_takes_the_way_that_its_outcomes_choose(text: str, answers: str, became: str, outcome: str) -> None:
    plan = plan_of(text)
    settled, _ = drive(plan, list(settled_by(answers).values()), Random(0))
    assert settled == settled_by(became)
    assert conclude(plan, settled) == outcome


def test_without_fail_fast_a_plain_then_runs_whatever_came_before() -> None:
    plan = plan_of("a THEN b THEN IF_SUCCESS c ELSE d")
    settled, _ = drive(plan, list(settled_by("--++").values()), Random(0), fail_fast=False)
    assert settled == settled_by("--.+")
    assert conclude(plan, settled, fail_fast=False) is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("needle", "outputs", "holds"),
    [
        ("approved", ["all good", "APPROVED."], True),
        ("Approved", ["it is approved", ""], True),
        ("straße", ["Hauptstrasse", ""], True),
        ("approved", ["all", "good"], False),
        ("approved", ["appro", "ved"], False),
        ("first\nsecond", ["the first", "second one"], True),
    ],
)
def test_contains_looks_through_all_outputs_of_the_stage_line_after_line_whatever_their_case(
    needle: str, outputs: list[str], holds: bool
) -> None:
    plan = plan_of(f'a AND b THEN IF_CONTAINS("{needle}") c')
    settled = {idx: Settled(Outcome.SUCCEEDED, output) for idx, output in enumerate(outputs)}
    assert decide(plan, 2, settled) == (Run((0, 1)) if holds else Skip())


def test_contains_does_not_look_at_what_failed() -> None:
    plan = plan_of('a THEN IF_CONTAINS("yes") b ELSE c')
    settled = {0: Settled(Outcome.FAILED, "yes")}
    assert decide(plan, 1, settled) == Skip()
    assert decide(plan, 2, settled) == Run((0,))


def test_the_output_of_a_group_is_that_of_its_last_stage_that_ran() -> None:
    plan = plan_of('(a THEN b) THEN IF_CONTAINS("early") c ELSE d')
    settled = {0: Settled(Outcome.SUCCEEDED, "early"), 1: Settled(Outcome.SUCCEEDED, "late")}
    assert decide(plan, 2, settled) == Skip()
    assert decide(plan, 3, settled) == Run((1,))


@pytest.mark.parametrize(
    ("text", "marks", "idx", "context"),
    [
        ("a", "", 0, ()),
        ("a AND b THEN c", "++", 2, (0, 1)),
        ("a THEN IF_FAILURE b THEN c", "+.", 2, (0,)),
        ("a THEN IF_FAILURE b THEN c", "-+", 2, (1,)),
        ("a THEN IF_SUCCESS b ELSE c THEN d", "-.+", 3, (2,)),
        ("a AND (b THEN c) THEN d", "+++", 3, (0, 2)),
        ("a THEN (b THEN c) AND d", "+", 1, (0,)),
        ("a THEN (b THEN c) AND d", "++ +", 2, (1,)),
        ("a AND b THEN IF_FAILURE c", "+-", 2, (0, 1)),
        ("(a THEN IF_FAILURE b) THEN c", "+.", 2, (0,)),
    ],
)
def test_a_step_is_shown_the_stage_that_is_carried_to_it(
    text: str, marks: str, idx: int, context: tuple[int, ...]
) -> None:
    assert decide(plan_of(text), idx, settled_by(marks)) == Run(context)


def test_a_step_waits_for_all_of_the_stage_before_it() -> None:
    plan = plan_of("a AND (b THEN c) THEN d")
    assert decide(plan, 3, settled_by("++ ")) == NotYet()
    assert decide(plan, 3, settled_by(" ++")) == NotYet()
    assert decide(plan, 2, settled_by("+")) == NotYet()


@pytest.mark.parametrize(
    ("text", "marks", "outcome", "behind"),
    [
        ("a THEN IF_FAILURE b", "+x", "succeeded", (0,)),
        ("a THEN IF_FAILURE b THEN c", "+x+", "succeeded", (2,)),
        ("a THEN IF_SUCCESS b ELSE c", "++x", "succeeded", (1,)),
        ("a THEN IF_SUCCESS b ELSE c", "-x+", "succeeded", (2,)),
        ('a THEN IF_CONTAINS("other") b', "+x", "succeeded", (0,)),
        ('a THEN IF_CONTAINS("word") b', "+x", "failed", (1,)),
        ("a THEN IF_FAILURE (b AND c)", "+x.", "succeeded", (0,)),
        ("a THEN b THEN IF_FAILURE c", "-x+", "succeeded", (2,)),
        ("a THEN b", "+x", "failed", (1,)),
        ("a THEN b", "-x", "failed", (0,)),
    ],
)
def test_a_step_that_was_cancelled_counts_only_where_it_would_have_run(
    text: str, marks: str, outcome: str, behind: tuple[int, ...]
) -> None:
    plan, settled = plan_of(text), settled_by(marks)
    settled[0] = Settled(settled[0].outcome, "a word")
    assert (conclude(plan, settled), produced(plan, settled)) == (outcome, behind)


def test_what_follows_a_cancelled_step_is_not_decided_before_it_is_known_whether_that_one_would_have_run() -> None:
    plan = plan_of("a THEN IF_FAILURE b THEN c")
    assert decide(plan, 2, settled_by(" x")) == NotYet()
    assert decide(plan, 2, settled_by("+x")) == Run((0,))
    assert decide(plan, 2, settled_by("-x")) == Skip()


def test_a_group_that_will_not_run_is_skipped_at_once_as_a_whole() -> None:
    plan = plan_of("a THEN IF_FAILURE (b THEN c THEN (d AND e THEN f))")
    assert all(decide(plan, idx, settled_by("+")) == Skip() for idx in range(1, 6))


def test_a_step_behind_nothing_but_skipped_ones_is_shown_what_its_group_is_shown() -> None:
    assert decide(plan_of("a THEN (b THEN c)"), 2, settled_by("+."), fail_fast=False) == Run((0,))


def test_a_run_that_has_not_ended_has_no_outcome() -> None:
    with pytest.raises(PlanError, match="not ended"):
        conclude(plan_of("a THEN b"), settled_by("+"))


def test_a_step_that_the_plan_does_not_hold_is_an_error() -> None:
    with pytest.raises(PlanError, match="no step 7"):
        decide(plan_of("a THEN b"), 7, {})


@settings(deadline=None, max_examples=300)
@given(st.data(), plans(max_steps=14), st.randoms(use_true_random=False), st.booleans())
def test_any_order_of_events_ends_as_the_reference_interpreter_says(
    data: st.DataObject, plan: Plan, order: Random, fail_fast: bool
) -> None:
    answers = data.draw(st.lists(any_outcomes, min_size=len(plan.steps), max_size=len(plan.steps)))
    contexts: dict[int, tuple[int, ...]] = {}

    def answer(step: Step, context: tuple[int, ...]) -> Settled:
        contexts[step.idx] = context
        return answers[step.idx]

    story = interpret(plan, answer, fail_fast)
    settled, decided = drive(plan, answers, order, fail_fast)
    assert settled == story.steps
    assert conclude(plan, settled, fail_fast) == story.outcome
    assert produced(plan, settled, fail_fast) == story.behind
    assert {idx: run.context for idx, run in decided.items() if isinstance(run, Run)} == contexts
    # A message that comes again, after everything, is decided as it was.
    assert {step.idx: decide(plan, step.idx, settled, fail_fast) for step in plan.steps} == decided


@settings(deadline=None, max_examples=300)
@given(st.data(), plans(max_steps=14), st.randoms(use_true_random=False), st.booleans())
def test_steps_that_are_cancelled_at_any_moment_count_as_the_reference_interpreter_says(
    data: st.DataObject, plan: Plan, order: Random, fail_fast: bool
) -> None:
    answers = data.draw(st.lists(outcomes, min_size=len(plan.steps), max_size=len(plan.steps)))
    cancels = data.draw(st.lists(st.integers(0, len(plan.steps) - 1), max_size=4))
    settled, _ = drive(plan, answers, order, fail_fast, cancels)
    cancelled = {idx for idx, one in settled.items() if one.outcome is Outcome.CANCELLED}
    story = interpret(plan, lambda step, _: answers[step.idx], fail_fast, cancelled)
    assert settled == story.steps
    assert (conclude(plan, settled, fail_fast), produced(plan, settled, fail_fast)) == (story.outcome, story.behind)


@settings(deadline=None, max_examples=200)
@given(st.data(), plans(max_steps=14), st.randoms(use_true_random=False))
def test_a_step_can_be_decided_as_soon_as_its_dependencies_have_settled(
    data: st.DataObject, plan: Plan, order: Random
) -> None:
    answers = data.draw(st.lists(any_outcomes, min_size=len(plan.steps), max_size=len(plan.steps)))
    final, _ = drive(plan, answers, order)
    for step in plan.steps:
        settled = {idx: final[idx] for idx in reach(plan, step.idx)}
        assert not isinstance(decide(plan, step.idx, settled), NotYet)


def reach(plan: Plan, idx: int) -> set[int]:
    """The dependencies of a step, and theirs, which had to settle before."""
    found: set[int] = set()
    open_steps = {idx}
    while open_steps:
        open_steps = {before for step in open_steps for before in plan.dependencies(step)} - found
        found |= open_steps
    return found
