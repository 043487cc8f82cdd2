"""The reference interpreter: what a run must come to, written as plainly as the language is explained.

It runs a plan in one thread by asking `answer` for every step that is to run. All else is compared to it.
"""

from collections.abc import Callable
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


SKIPPED = Result(Outcome.SKIPPED)


def interpret(plan: Plan, answer: Answer, fail_fast: bool = True) -> tuple[Outcome, dict[int, Settled]]:
    """The run's outcome and what every step became; `answer` gets the step and the steps whose results it is shown."""
    interpreter = Interpreter(answer, fail_fast)
    outcome = interpreter.sequence(plan.root, ()).outcome
    return outcome, {step.idx: interpreter.answers.get(step.idx, Settled(Outcome.SKIPPED)) for step in plan.steps}


@dataclass
class Interpreter:
    answer: Answer
    fail_fast: bool
    answers: dict[int, Settled] = field(default_factory=dict)

    def sequence(self, sequence: Sequence, shown: tuple[int, ...]) -> Result:
        carried = SKIPPED
        for number, stage in enumerate(sequence.stages):
            if number == 0 or self.holds(stage.condition, carried):
                result = self.stage(stage, shown)
            elif stage.otherwise:
                result = self.stage(stage.otherwise, shown)
            else:
                continue
            if result.outcome != Outcome.SKIPPED:
                carried, shown = result, result.steps
        return carried

    def stage(self, stage: Stage, shown: tuple[int, ...]) -> Result:
        results = [self.branch(branch, shown) for branch in stage.branches]
        outcomes = [result.outcome for result in results]
        steps = tuple(idx for result in results for idx in result.steps)
        if Outcome.FAILED in outcomes:
            return Result(Outcome.FAILED, steps)
        if Outcome.SUCCEEDED in outcomes:
            outputs = [result.output for result in results if result.outcome == Outcome.SUCCEEDED]
            return Result(Outcome.SUCCEEDED, steps, "\n".join(outputs))
        return SKIPPED

    def branch(self, branch: Step | Sequence, shown: tuple[int, ...]) -> Result:
        if isinstance(branch, Sequence):
            return self.sequence(branch, shown)
        settled = self.answers[branch.idx] = self.answer(branch, shown)
        if settled.outcome == Outcome.SKIPPED:
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
