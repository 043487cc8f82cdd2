"""The real canvas on a real worker ends as the reference interpreter says, whatever the workflow and its outcomes."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.embedded import Stack
from tests.fakes.oracle import interpret
from tests.fakes.plans import WORDS, plans
from tests.processes import Processes
from tests.world import Sim, World, saying, world
from workflow.outcome import Outcome, Settled
from workflow.plan import Plan, Sequence, Stage, Step

ANSWERS = {
    saying(words): Settled(Outcome.SUCCEEDED, words) for words in (*WORDS, "approved needs work", "nothing to say")
} | {
    "sim-instant+fail=400": Settled(Outcome.FAILED),
    saying("Rejected\nVERDICT: FAIL"): Settled(Outcome.FAILED, "Rejected\nVERDICT: FAIL"),
}
FAILING_VERDICT = saying("Rejected\nVERDICT: FAIL")


def become(branch: Step | Sequence, models: list[str]) -> Step | Sequence:
    """The same tree, each step pinned to the model that gives it its outcome."""
    if isinstance(branch, Step):
        model = models[branch.idx]
        goblin = "analyze" if model == FAILING_VERDICT else branch.goblin
        return replace(branch, goblin=goblin, provider="sim", model=model)
    return Sequence(tuple(become_stage(stage, models) for stage in branch.stages))


def become_stage(stage: Stage, models: list[str]) -> Stage:
    branches = tuple(become(branch, models) for branch in stage.branches)
    return replace(stage, branches=branches, otherwise=stage.otherwise and become_stage(stage.otherwise, models))


@st.composite
def workflows(draw: st.DrawFn) -> Plan:
    plan = draw(plans(max_steps=14))
    count = len(plan.steps)
    models = draw(st.lists(st.sampled_from(sorted(ANSWERS)), min_size=count, max_size=count))
    root = become(plan.root, models)
    assert isinstance(root, Sequence)
    return Plan(root)


@pytest.fixture(scope="module")
def place(
    stack: Stack, processes: Processes, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("canvas")
    with world(processes, folder, database_url, stack.redis_url, Sim("sim", tuple(ANSWERS))) as made:
        made.start_worker()
        yield made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=workflows(), fail_fast=st.booleans())
def test_a_run_ends_as_the_oracle_says(place: World, plan: Plan, fail_fast: bool) -> None:
    expected, steps = interpret(plan, partial(answer, plan), fail_fast)
    run = place.submit(plan, fail_fast=fail_fast)
    ended = place.finished(run)
    assert place.statuses(run) == {idx: settled.outcome.value for idx, settled in steps.items()}
    assert ended.status == expected.value
    assert ended.open_steps == 0


def answer(plan: Plan, step: Step, _context: tuple[int, ...]) -> Settled:
    """A verdict counts where a condition looks at it."""
    assert step.model is not None
    settled = ANSWERS[step.model]
    if step.model == FAILING_VERDICT and step.idx not in plan.gates:
        return replace(settled, outcome=Outcome.SUCCEEDED)
    return settled
