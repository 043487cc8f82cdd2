"""What bedrock sends, and what it says. Written by hand from the wire format."""

from providers.message import Finish, Reasoned, Report, Text, Thought, ToolCall, Usage
from tests.fakes.said import Transcript, framed

SAID = (
    Transcript(
        "frames that call a tool",
        "bedrock",
        framed(
            (
                "contentBlockStart",
                {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "look"}}},
            ),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"at": '}}}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '"☃"}'}}}),
            ("contentBlockStop", {"contentBlockIndex": 1}),
            ("messageStop", {"stopReason": "tool_use"}),
        ),
        (ToolCall("t1", "look", '{"at": "☃"}'), Finish("tool", "tool_use")),
    ),
    Transcript(
        "blocks in frames",
        "bedrock",
        framed(
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "c2ln"}}}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Hel"}}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "lo ☃"}}),
            ("messageStop", {"stopReason": "end_turn"}),
            (
                "metadata",
                {"usage": {"inputTokens": 9, "cacheReadInputTokens": 4, "outputTokens": 3, "totalTokens": 16}},
            ),
        ),
        (
            Thought("hm"),
            Text("Hel"),
            Text("lo ☃"),
            Finish("stop", "end_turn"),
            Report(Usage(13, 4, 0, 3, 0)),
        ),
    ),
    Transcript(
        "thoughts, some of them hidden, that lead to a call",
        "bedrock",
        framed(
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "c2ln"}}}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"reasoningContent": {"redactedContent": "aGlk"}}}),
            ("contentBlockStop", {"contentBlockIndex": 1}),
            ("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "look"}}}),
            ("contentBlockStop", {"contentBlockIndex": 2}),
            ("messageStop", {"stopReason": "tool_use"}),
        ),
        (
            Thought("hm"),
            Reasoned("hm", "c2ln"),
            Reasoned("", "aGlk", is_hidden=True),
            ToolCall("t1", "look", "{}"),
            Finish("tool", "tool_use"),
        ),
    ),
    Transcript(
        "a total that counts what was cached once",
        "bedrock",
        framed(
            ("messageStop", {"stopReason": "guardrail_intervened"}),
            (
                "metadata",
                {"usage": {"inputTokens": 9, "cacheReadInputTokens": 4, "outputTokens": 3, "totalTokens": 12}},
            ),
        ),
        (Finish("filtered", "guardrail_intervened"), Report(Usage(9, 4, 0, 3, 0))),
    ),
)
