"""Workflows whose every step is pinned to who decides what it becomes: an oracle can tell how such a run must end."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fakes.oracle import interpret
from tests.fakes.plans import plans
from workflow.outcome import Outcome, Settled
from workflow.plan import Plan, Stage, Step
from workflow.plan import Sequence as Stages


@dataclass(frozen=True)
class Fate:
    """A pin, and what a step becomes there. One that is `judged` says so by a verdict, which counts at a gate alone."""

    becomes: Settled
    provider: str
    model: str | None = None
    judged: bool = False

    @property
    def pin(self) -> tuple[str, str | None]:
        return self.provider, self.model


def fated(fates: Sequence[Fate], max_steps: int = 14) -> st.SearchStrategy[Plan]:
    """All that the language can say, with steps of these fates."""

    @st.composite
    def workflows(draw: st.DrawFn) -> Plan:
        plan = draw(plans(max_steps=max_steps))
        count = len(plan.steps)
        drawn = draw(st.lists(st.sampled_from(fates), min_size=count, max_size=count))
        root = _become(plan.root, drawn)
        assert isinstance(root, Stages)
        return Plan(root)

    return workflows()


def expected(
    plan: Plan,
    fates: Sequence[Fate],
    *,
    fail_fast: bool,
    cancelled: Collection[int] = (),
    late: Collection[int] = (),
) -> tuple[str, dict[int, str]]:
    """What the run and each of its steps must become, where some were cancelled and some had no time left."""
    by_pin: Mapping[tuple[str, str | None], Fate] = {fate.pin: fate for fate in fates}

    def answer(step: Step, _context: tuple[int, ...]) -> Settled:
        assert step.provider is not None
        fate = by_pin[step.provider, step.model]
        if step.idx in late:
            return Settled(Outcome.FAILED)
        if fate.judged and step.idx not in plan.gates:
            return replace(fate.becomes, outcome=Outcome.SUCCEEDED)
        return fate.becomes

    story = interpret(plan, answer, fail_fast, cancelled)
    steps = {idx: settled.outcome.value for idx, settled in story.steps.items()}
    behind = {steps[idx] for idx in story.behind}
    is_cancelled = "cancelled" in behind and "failed" not in behind
    return ("cancelled" if is_cancelled else story.outcome.value), steps


def drawn(strategy: st.SearchStrategy[Plan], count: int, seed: int) -> list[Plan]:
    """About so many, always the same for a seed."""
    found: list[Plan] = []

    @hypothesis.seed(seed)
    @settings(max_examples=count, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(plan: Plan) -> None:
        found.append(plan)

    collect()
    return found


def _become(branch: Step | Stages, fates: Sequence[Fate]) -> Step | Stages:
    if isinstance(branch, Step):
        fate = fates[branch.idx]
        goblin = "analyze" if fate.judged else branch.goblin
        return replace(branch, goblin=goblin, provider=fate.provider, model=fate.model)
    return Stages(tuple(_become_stage(stage, fates) for stage in branch.stages))


def _become_stage(stage: Stage, fates: Sequence[Fate]) -> Stage:
    branches = tuple(_become(branch, fates) for branch in stage.branches)
    return replace(stage, branches=branches, otherwise=stage.otherwise and _become_stage(stage.otherwise, fates))
