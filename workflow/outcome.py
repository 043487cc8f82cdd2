"""The algebra of outcomes: may a step run now, what is it shown, and how did the run end. Pure; called once per step.

Nothing is replayed: a stage's outcome is read from what its steps became, so only the stages just before a step, and
before each group around it, are looked at. A stage fails if a branch failed, else succeeds if one succeeded, else it
is skipped; what is *carried* is the outcome of the last stage that was not skipped. A cancelled step counts as failed,
but for one that was cancelled before its turn and would have been passed over: its stage is skipped all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from workflow.plan import Condition, On, Plan, PlanError, Sequence, Stage, Step


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Settled:
    """What a step became. `output` is only looked at when the plan `needs_outputs`: by `decide`, and by the others if a
    step was cancelled."""

    outcome: Outcome
    output: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """The step may run; `context` are the steps whose outputs or errors it is shown, in text order."""

    context: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Skip:
    """The step is passed over: settle it as skipped."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """Something that it depends on has not settled."""


Decision = Run | Skip | NotYet


@dataclass(frozen=True, slots=True)
class _Carried:
    """An outcome (never CANCELLED) and the steps that it came from."""

    outcome: Outcome
    steps: tuple[int, ...] = ()


_NOTHING = _Carried(Outcome.SKIPPED)


def decide(plan: Plan, idx: int, settled: Mapping[int, Settled], fail_fast: bool = True) -> Decision:
    """Whether step `idx` runs, given what has settled. Every skipped step is expected to be settled as SKIPPED.

    With `fail_fast` false, a plain THEN runs whatever came before. Raises PlanError for a step that does not exist.
    """
    return _decide(plan, idx, _counting(plan, settled, fail_fast), fail_fast)


def conclude(plan: Plan, settled: Mapping[int, Settled], fail_fast: bool = True) -> Outcome:
    """The run's outcome: what is carried at its end. Raises PlanError while a step that counts has not settled."""
    carried = _carried(plan.root.stages, _counting(plan, settled, fail_fast))
    if carried is None:
        raise PlanError("the run has not ended: not all of its steps have settled")
    return carried.outcome


def produced(plan: Plan, settled: Mapping[int, Settled], fail_fast: bool = True) -> tuple[int, ...]:
    """The steps whose outputs are the output of a run that has ended: those behind what is carried at its end."""
    carried = _carried(plan.root.stages, _counting(plan, settled, fail_fast))
    return carried.steps if carried else ()


def _counting(plan: Plan, settled: Mapping[int, Settled], fail_fast: bool) -> Mapping[int, Settled]:
    """What the steps became, as it counts: a step may be cancelled before anybody knows whether it is to run. One that
    is passed over counts as skipped, and as long as that is not known it has not settled."""
    known = dict(settled)
    for idx in sorted(idx for idx, one in settled.items() if one.outcome is Outcome.CANCELLED):
        match _decide(plan, idx, known, fail_fast):  # looks at steps before it in the text alone
            case Skip():
                known[idx] = Settled(Outcome.SKIPPED)
            case NotYet():
                del known[idx]
    return known


def _decide(plan: Plan, idx: int, settled: Mapping[int, Settled], fail_fast: bool) -> Decision:
    context: tuple[int, ...] = ()
    for place in plan.place(idx).path:
        if place.index == 0:
            continue  # the first stage of a group runs when its group does, and is shown what the group is shown
        carried = _carried(place.stages[: place.index], settled)
        if carried is None:
            return NotYet()
        if _holds(place.stage.condition, carried, settled, fail_fast) == place.is_otherwise:
            return Skip()
        context = carried.steps or context
    return Run(context)


def _carried(stages: tuple[Stage, ...], settled: Mapping[int, Settled]) -> _Carried | None:
    """What the last stage that was not skipped hands on; None while a stage on the way to it has not settled."""
    for stage in reversed(stages):
        of_stage = _of_stage(stage, settled)
        if of_stage is None or of_stage.outcome is not Outcome.SKIPPED:
            return of_stage
    return _NOTHING


def _of_stage(stage: Stage, settled: Mapping[int, Settled]) -> _Carried | None:
    """Both sides in one: of a stage and its ELSE one was skipped, and skipped branches do not count."""
    outcome, steps = Outcome.SKIPPED, _NOTHING.steps
    for branch in stage.every_branch:
        of_branch = _of_branch(branch, settled)
        if of_branch is None:
            return None
        steps += of_branch.steps
        if of_branch.outcome is Outcome.FAILED or outcome is Outcome.SKIPPED:
            outcome = of_branch.outcome
    return _Carried(outcome, steps)


def _of_branch(branch: Step | Sequence, settled: Mapping[int, Settled]) -> _Carried | None:
    if isinstance(branch, Sequence):
        return _carried(branch.stages, settled)
    if branch.idx not in settled:
        return None
    match settled[branch.idx].outcome:
        case Outcome.SKIPPED:
            return _NOTHING
        case Outcome.SUCCEEDED:
            return _Carried(Outcome.SUCCEEDED, (branch.idx,))
        case Outcome.FAILED | Outcome.CANCELLED:
            return _Carried(Outcome.FAILED, (branch.idx,))


def _holds(condition: Condition | None, carried: _Carried, settled: Mapping[int, Settled], fail_fast: bool) -> bool:
    succeeded = carried.outcome is Outcome.SUCCEEDED
    if condition is None:
        return succeeded or not fail_fast
    match condition.on:
        case On.SUCCESS:
            return succeeded
        case On.FAILURE:
            return carried.outcome is Outcome.FAILED
        case On.CONTAINS:
            return succeeded and _contains(carried, condition.needle or "", settled)


def _contains(carried: _Carried, needle: str, settled: Mapping[int, Settled]) -> bool:
    """All steps behind a success succeeded, so their outputs joined are the output of the stage."""
    output = "\n".join(settled[idx].output for idx in carried.steps)
    return needle.casefold() in output.casefold()
