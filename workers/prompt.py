"""What a model is told for a step. Neutral between providers, so that it is the same wherever the step is moved to."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goblin.settings import GoblinSettings
from providers.message import Message
from workflow.plan import Step

_VERDICT = re.compile(  # alone, or with its reason behind a sign
    r"[\W_]*VERDICT[\W_]+(PASS|FAIL)(?:[\W_]*|[\s*_`]*(?:[–—(]|[-:;,.](?=\s))(?!.*VERDICT).*)", re.IGNORECASE
)
_LONGEST_QUESTION = 8_000  # characters: models that make vectors read little
_ASK_FOR_VERDICT = (
    "Others act on your judgement. End your answer with a line of its own that reads `VERDICT: PASS` when what you"
    " looked at may go on, or `VERDICT: FAIL` when it may not."
)


@dataclass(frozen=True, slots=True)
class Before:
    """A step that this one follows: what it wrote, or in plain words why it failed."""

    step: Step
    output: str | None
    error: Mapping[str, Any] | None


def compose(
    goblin: GoblinSettings, step: Step, given: Mapping[str, Any], before: Sequence[Before], *, is_gate: bool
) -> tuple[Message, ...]:
    asks = [goblin.instructions, _ASK_FOR_VERDICT] if is_gate and goblin.verdict else [goblin.instructions]
    parts = [f"Task: {step.task}", *_given(given), *(_earlier(one) for one in before)]
    return Message("system", "\n\n".join(asks)), Message("user", "\n\n".join(parts))


def asked(messages: Sequence[Message]) -> str:
    """What is looked for by a step that looks things up: all that a model would be told, but its instructions."""
    return "\n\n".join(message.content for message in messages if message.role == "user")[:_LONGEST_QUESTION]


def has_failed_verdict(output: str) -> bool:
    """Whether the last line of an answer that holds a verdict says FAIL."""
    for line in reversed(output.splitlines()):
        if (match := _VERDICT.fullmatch(line.strip())) is not None:
            return match[1].upper() == "FAIL"
    return False


def _given(given: Mapping[str, Any]) -> list[str]:
    parts = []
    if code := given.get("code"):
        language = " ".join((given.get("language") or "").replace("`", "").split())
        fence = _fence(code)
        parts.append(f"Input{f' ({language})' if language else ''}:\n{fence}{language}\n{code}\n{fence}")
    if text := given.get("text"):
        parts.append(f"Input:\n{text}")
    return parts


def _fence(code: str) -> str:
    """Backticks enough that nothing in the code closes the fence."""
    return "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code))])


def _earlier(before: Before) -> str:
    name = f"{before.step.id} ({before.step.goblin}: {_clip(before.step.task)})"
    if before.error is not None:
        told = f"{name} failed: {before.error.get('message', 'no reason is known')}"
        return f"{told}\n{before.output}" if before.output else told
    return f"Result of {name}:\n{before.output or '(nothing)'}"


def _clip(task: str, limit: int = 80) -> str:
    return task if len(task) <= limit else task[: limit - 1] + "…"
