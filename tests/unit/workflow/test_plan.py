"""What a plan says about itself before it runs, and its stored form."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from tests.fakes.plans import nasty_tasks, plans
from workflow.parse import parse
from workflow.plan import Plan, PlanError, Sequence, Stage, Step


def plan_of(text: str) -> Plan:
    return parse(text, goblins=["chat"], default_goblin="chat")


@pytest.mark.parametrize(
    ("text", "dependencies"),
    [
        ("a AND b", [(), ()]),
        ("a THEN b THEN c", [(), (0,), (1,)]),
        ("a AND b THEN c AND d", [(), (), (0, 1), (0, 1)]),
        ("a THEN IF_SUCCESS b ELSE c THEN d", [(), (0,), (0,), (1, 2)]),
        ("a THEN (b THEN c) AND d THEN e", [(), (0,), (1,), (0,), (2, 3)]),
        ("(a AND b THEN c AND d) AND e THEN f", [(), (), (0, 1), (0, 1), (), (2, 3, 4)]),
        ("a THEN (b AND (c THEN d) THEN e)", [(), (0,), (0,), (2,), (1, 3)]),
    ],
)
def test_a_step_depends_on_the_last_steps_of_the_stage_before(text: str, dependencies: list[tuple[int, ...]]) -> None:
    plan = plan_of(text)
    assert [plan.dependencies(step.idx) for step in plan.steps] == dependencies


@pytest.mark.parametrize(
    ("text", "gates"),
    [
        ("a THEN b", set()),
        ("a THEN IF_SUCCESS b", {0}),
        ("a THEN b THEN IF_FAILURE c", {1}),
        ("a AND b THEN IF_SUCCESS c", {0, 1}),
        ("a THEN IF_FAILURE b THEN IF_SUCCESS c", {0, 1}),
        ("a THEN b THEN IF_FAILURE c THEN IF_FAILURE d THEN e", {1, 2}),
        ("a THEN b THEN IF_SUCCESS c ELSE d THEN IF_SUCCESS e", {1, 2, 3}),
        ("(a THEN b) AND c THEN IF_SUCCESS d", {1, 2}),
        ("(a THEN b THEN IF_FAILURE c) THEN IF_SUCCESS d", {1, 2}),
        ("(a THEN IF_SUCCESS b ELSE c) THEN IF_SUCCESS d", {0, 1, 2}),
        ('a THEN (b THEN IF_CONTAINS("x") c)', {1}),
    ],
)
def test_the_gates_are_the_steps_that_a_condition_looks_at(text: str, gates: set[int]) -> None:
    assert plan_of(text).gates == gates


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("a", 1),
        ("a THEN b", 1),
        ("a AND b AND c THEN d", 3),
        ("a THEN IF_SUCCESS b AND c ELSE d AND e", 2),
        ("a THEN IF_SUCCESS b ELSE c AND d AND e", 3),
        ("a AND (b THEN c AND d AND e)", 4),
        ("a AND (b THEN c) AND (d AND e THEN f)", 4),
    ],
)
def test_max_parallel_is_how_many_steps_can_run_at_once(text: str, width: int) -> None:
    assert plan_of(text).max_parallel == width


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("a THEN b", 0),
        ("a AND (b THEN c)", 1),
        ("a THEN (b AND (c THEN d)) AND (e THEN f)", 1),
        ("((a))", 0),
        ("a AND (b THEN (c THEN d) AND e)", 2),
        ("a THEN IF_SUCCESS b ELSE (c THEN d)", 1),
    ],
)
def test_depth_counts_the_groups_that_stand_in_each_other(text: str, depth: int) -> None:
    assert plan_of(text).depth == depth


@pytest.mark.parametrize(
    ("text", "needed"),
    [("a THEN IF_SUCCESS b", False), ('a THEN IF_CONTAINS("x") b', True), ('a AND (b THEN IF_CONTAINS("x") c)', True)],
)
def test_outputs_are_needed_only_where_something_looks_into_them(text: str, needed: bool) -> None:
    assert plan_of(text).needs_outputs is needed


def test_steps_are_named_from_one() -> None:
    assert [step.id for step in plan_of("a AND b THEN c").steps] == ["step1", "step2", "step3"]


@settings(deadline=None)
@given(plans(tasks=nasty_tasks))
def test_a_stored_plan_is_read_back_as_it_was(plan: Plan) -> None:
    assert Plan.from_value(json.loads(json.dumps(plan.as_value()))) == plan


def test_the_stored_form_is_small() -> None:
    value = plan_of('a THEN IF_CONTAINS("x") (b THEN c) ELSE d').as_value()
    assert json.dumps(value["stages"], separators=(",", ":")) == (
        '[[["chat","a"]],{"if":"IF_CONTAINS","do":[{"stages":[[["chat","b"]],[["chat","c"]]]}],'
        '"needle":"x","else":[["chat","d"]]}]'
    )


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"v": 1}, {"v": 1, "stages": []}, {"v": 1, "stages": [[["chat"]]]}, {"v": 99, "stages": []},
     {"v": 1, "stages": [{"if": "IF_RAIN", "do": [["chat", "a"]]}]}],
)  # fmt: skip
def test_a_stored_plan_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(PlanError):
        Plan.from_value(value)


def test_a_plan_numbers_its_steps_in_text_order() -> None:
    with pytest.raises(PlanError, match="numbered"):
        Plan(Sequence((Stage((Step(1, "chat", "a"),)), Stage((Step(0, "chat", "b"),)))))
