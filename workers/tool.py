"""Tools that a run brings along: which steps they are offered to, and what a step says that calls some.

Nothing is executed here: calls are the step's output, in the form of an assistant's message of chat completions, so
that whoever submitted the run can carry them out and ask on.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from providers.message import ToolCall
from workflow.plan import Step


def offered(options: Mapping[str, Any], step: Step) -> tuple[Mapping[str, Any], ...]:
    """The run's tools, if the step is one of those that they are for: named by its id or its goblin."""
    wanted = options.get("tools_for")
    if wanted is not None and step.id not in wanted and step.goblin not in wanted:
        return ()
    return tuple(options.get("tools") or ())


def as_output(text: str, calls: Sequence[ToolCall], attempt: uuid.UUID) -> str:
    """Calls without an id (some vendors give none) get one of their attempt."""
    told = [
        {
            "id": call.id or f"call_{attempt.hex}_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text.strip() or None, "tool_calls": told}
    return json.dumps(message, ensure_ascii=False)
