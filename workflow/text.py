"""A plan written back as text, in one canonical form: every label spelled out, quotes only where a task needs them.

`parse(text(plan)) == plan`. The text is one line, except for line breaks that a task itself holds.
"""

from workflow.plan import Condition, Plan, Sequence, Stage, Step
from workflow.syntax import Kind, quote, scan


def text(plan: Plan) -> str:
    return _sequence(plan.root)


def _sequence(sequence: Sequence) -> str:
    return " THEN ".join(_stage(stage) for stage in sequence.stages)


def _stage(stage: Stage) -> str:
    words = " AND ".join(_branch(branch) for branch in stage.branches)
    if stage.condition:
        words = f"{_condition(stage.condition)} {words}"
    return f"{words} ELSE {_stage(stage.otherwise)}" if stage.otherwise else words


def _condition(condition: Condition) -> str:
    return condition.on if condition.needle is None else f"{condition.on}({quote(condition.needle)})"


def _branch(branch: Step | Sequence) -> str:
    if isinstance(branch, Sequence):
        return f"({_sequence(branch)})"
    pin = "/".join(part for part in (branch.provider, branch.model) if part)
    label = f"{branch.goblin}@{pin}" if pin else branch.goblin
    return f"{label}: {branch.task if _is_plain(branch.task) else quote(branch.task)}"


def _is_plain(task: str) -> bool:
    """Whether the bare task would be read back as it is: up to its end, and without being unquoted."""
    if task != task.strip() or not task:
        return False
    depth = 0
    for token in scan(task):
        match token.kind:
            case Kind.QUOTE:
                return False
            case Kind.STRING if token.text == task:
                return False
            case Kind.KEYWORD if depth == 0:
                return False
            case Kind.OPEN:
                depth += 1
            case Kind.CLOSE if depth == 0:
                return False
            case Kind.CLOSE:
                depth -= 1
    return depth == 0
