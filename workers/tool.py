"""Tools that a run brings along: which steps they are offered to, and what a step says that calls some.

Nothing is executed here: calls are the step's output, in the form of an assistant's message of chat completions, so
that whoever submitted the run can carry them out and ask on.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from providers.message import Message, Reasoned, ToolCall
from providers.wire.reason import open_text, signed
from workflow.plan import Step


def offered(options: Mapping[str, Any], step: Step) -> tuple[Mapping[str, Any], ...]:
    """The run's tools, if the step is one of those that they are for: named by its id or its goblin."""
    wanted = options.get("tools_for")
    if wanted is not None and step.id not in wanted and step.goblin not in wanted:
        return ()
    return tuple(options.get("tools") or ())


def as_output(text: str, calls: Sequence[ToolCall], attempt: uuid.UUID, reasoned: Sequence[Reasoned] = ()) -> str:
    """Calls without an id (some vendors give none) get one of their attempt.

    What vendors want back with the calls stands beside them: signed reasoning as LiteLLM names it, its text as DeepSeek
    does, and a signature of a call as Google's own chat completions do.
    """
    told = [_told(call, call.id or f"call_{attempt.hex}_{number}") for number, call in enumerate(calls)]
    message: dict[str, Any] = {"role": "assistant", "content": text.strip() or None, "tool_calls": told}
    whole = Message("assistant", "", reasoned=tuple(reasoned))
    if words := open_text(whole):
        message["reasoning_content"] = words
    if blocks := signed(whole):
        message["thinking_blocks"] = blocks
    return json.dumps(message, ensure_ascii=False)


def _told(call: ToolCall, call_id: str) -> dict[str, Any]:
    value = {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    return {**value, "extra_content": {"google": {"thought_signature": call.signature}}} if call.signature else value
