"""The reference interpreter: what a run must come to, written as plainly as the language is explained.

It runs a plan in one thread by asking `answer` for every step that is to run. All else is compared to it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from workflow.outcome import Outcome, Settled
from workflow.plan import Condition, On, Plan, Sequence, Stage, Step

Answer = Callable[[Step, tuple[int, ...]], Settled]


@dataclass(frozen=True)
class Result:
    """What a step, stage or group came to: its outcome, the steps that it comes from, and their output."""

    outcome: Outcome
    steps: tuple[int, ...] = ()
    output: str = ""


@dataclass(frozen=True)
class Story:
    """How a run went: its outcome, the steps that it comes from, and what every step became."""

    outcome: Outcome
    behind: tuple[int, ...]
    steps: dict[int, Settled]


SKIPPED = Result(Outcome.SKIPPED)


def interpret(plan: Plan, answer: Answer, fail_fast: bool = True, cancelled: Collection[int] = ()) -> Story:
    """`answer` gets the step and the steps whose results it is shown; those that were `cancelled` are not asked."""
    interpreter = Interpreter(answer, fail_fast, cancelled)
    end = interpreter.sequence(plan.root, ())
    steps = {step.idx: interpreter.answers.get(step.idx, Settled(Outcome.SKIPPED)) for step in plan.steps}
    return Story(end.outcome, end.steps, steps)


@dataclass
class Interpreter:
    """What is not due, as a condition does not hold, is passed over, also a step that was cancelled before."""

    answer: Answer
    fail_fast: bool
    cancelled: Collection[int] = ()
    answers: dict[int, Settled] = field(default_factory=dict)

    def sequence(self, sequence: Sequence, shown: tuple[int, ...], *, is_due: bool = True) -> Result:
        carried = SKIPPED
        for number, stage in enumerate(sequence.stages):
            holds = number == 0 or self.holds(stage.condition, carried)
            branches = self.branches(stage, shown, is_due=is_due and holds)
            if stage.otherwise:
                branches += self.branches(stage.otherwise, shown, is_due=is_due and not holds)
            result = together(branches)
            if result.outcome != Outcome.SKIPPED:
                carried, shown = result, result.steps
        return carried

    def branches(self, stage: Stage, shown: tuple[int, ...], *, is_due: bool) -> list[Result]:
        return [self.branch(branch, shown, is_due=is_due) for branch in stage.branches]

    def branch(self, branch: Step | Sequence, shown: tuple[int, ...], *, is_due: bool) -> Result:
        if isinstance(branch, Sequence):
            return self.sequence(branch, shown, is_due=is_due)
        if branch.idx in self.cancelled:
            settled = Settled(Outcome.CANCELLED)
        elif is_due:
            settled = self.answer(branch, shown)
        else:
            return SKIPPED
        self.answers[branch.idx] = settled
        if settled.outcome == Outcome.SKIPPED or not is_due:
            return SKIPPED
        if settled.outcome == Outcome.CANCELLED:
            return Result(Outcome.FAILED, (branch.idx,))
        return Result(settled.outcome, (branch.idx,), settled.output)

    def holds(self, condition: Condition | None, carried: Result) -> bool:
        succeeded = carried.outcome == Outcome.SUCCEEDED
        if condition is None:
            return succeeded or not self.fail_fast
        if condition.on == On.SUCCESS:
            return succeeded
        if condition.on == On.FAILURE:
            return carried.outcome == Outcome.FAILED
        return succeeded and str(condition.needle).casefold() in carried.output.casefold()


def together(results: list[Result]) -> Result:
    """The stage of these branches."""
    outcomes = [result.outcome for result in results]
    steps = tuple(idx for result in results for idx in result.steps)
    if Outcome.FAILED in outcomes:
        return Result(Outcome.FAILED, steps)
    if Outcome.SUCCEEDED in outcomes:
        outputs = [result.output for result in results if result.outcome == Outcome.SUCCEEDED]
        return Result(Outcome.SUCCEEDED, steps, "\n".join(outputs))
    return SKIPPED
