"""What anthropic sends, and what it says. Written by hand from the wire format."""

from providers.message import Finish, Reasoned, Report, Text, Thought, ToolCall, Usage
from tests.fakes.said import MESSAGE_START, Transcript, block, named

SAID = (
    Transcript(
        "blocks, pings and a running total",
        "anthropic",
        named(
            MESSAGE_START,
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            {"type": "ping"},
            block("thinking_delta", thinking="hm"),
            block("signature_delta", signature="c2ln"),
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
            block("text_delta", text="Hel"),
            block("text_delta", text="lo"),
            {"type": "content_block_stop", "index": 1},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 30}},
            {"type": "message_stop"},
        ),
        (
            Thought("hm"),
            Text("Hel"),
            Text("lo"),
            Finish("stop", "end_turn"),
            Report(Usage(16, 5, 2, 30, 0), "claude"),
        ),
    ),
    Transcript(
        "a refusal",
        "anthropic",
        named(MESSAGE_START, {"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {}}),
        (Finish("filtered", "refusal"), Report(Usage(16, 5, 2, 1, 0), "claude")),
    ),
    Transcript(
        "blocks that call tools",
        "anthropic",
        named(
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "tool_use", "id": "t1", "name": "look", "input": {}},
            },
            block("input_json_delta", partial_json=""),
            block("input_json_delta", partial_json='{"at": '),
            block("input_json_delta", partial_json='"☃"}'),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}},
        ),
        (ToolCall("t1", "look", '{"at": "☃"}'), Finish("tool", "tool_use")),
    ),
    Transcript(
        "thoughts, some of them hidden, that lead to a call",
        "anthropic",
        named(
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            block("thinking_delta", thinking="h"),
            block("thinking_delta", thinking="m"),
            block("signature_delta", signature="c2ln"),
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "aGlk"}},
            {"type": "content_block_stop", "index": 1},
            {
                "type": "content_block_start",
                "index": 2,
                "content_block": {"type": "tool_use", "id": "t1", "name": "look"},
            },
            {"type": "content_block_stop", "index": 2},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}},
        ),
        (
            Thought("h"),
            Thought("m"),
            Reasoned("hm", "c2ln"),
            Reasoned("", "aGlk", is_hidden=True),
            ToolCall("t1", "look", "{}"),
            Finish("tool", "tool_use"),
        ),
    ),
    Transcript(
        "no counts at all",
        "anthropic",
        named(
            {"type": "message_start", "message": {"model": "claude", "content": [], "stop_reason": None}},
            block("text_delta", text="Hi"),
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        ),
        (Text("Hi"), Finish("stop", "end_turn")),
    ),
    Transcript(
        "half a count is none",
        "anthropic",
        named({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
        (Finish("stop", "end_turn"),),
    ),
)
