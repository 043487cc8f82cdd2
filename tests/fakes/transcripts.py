"""Answers as vendors send them, by dialect, and what they say. Written by hand from the wire formats."""

import json
from dataclasses import dataclass
from struct import pack
from typing import Any
from zlib import crc32

from providers.message import Event, Finish, Report, Text, Thought, ToolCall, Usage


@dataclass(frozen=True)
class Transcript:
    name: str
    dialect: str
    body: bytes
    events: tuple[Event, ...]


def sse(*payloads: Any, end: str = "") -> bytes:
    return ("".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads) + end).encode()


def named(*payloads: Any) -> bytes:
    return "".join(f"event: {payload['type']}\ndata: {json.dumps(payload)}\n\n" for payload in payloads).encode()


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame of an event stream as Amazon sends it."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    lengths = pack(">II", 16 + len(head) + len(payload), len(head))
    said = lengths + pack(">I", crc32(lengths)) + head + payload
    return said + pack(">I", crc32(said))


def framed(*events: tuple[str, Any]) -> bytes:
    return b"".join(
        frame({":message-type": "event", ":event-type": name}, json.dumps(payload).encode()) for name, payload in events
    )


def excepted(name: str, message: str = "x") -> bytes:
    headers = {":message-type": "exception", ":exception-type": name}
    return frame(headers, json.dumps({"message": message}).encode())


def content(**said: str) -> dict[str, Any]:
    return {"type": "content-delta", "index": 0, "delta": {"message": {"content": said}}}


def ended(reason: str, **more: Any) -> dict[str, Any]:
    return {"type": "message-end", "delta": {"finish_reason": reason, **more}}


def lines(*payloads: Any) -> bytes:
    return "".join(json.dumps(payload) + "\n" for payload in payloads).encode()


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m-1", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


DONE = "data: [DONE]\n\n"
PLAIN_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
MESSAGE_START = {
    "type": "message_start",
    "message": {
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "usage": {
            "input_tokens": 9,
            "output_tokens": 1,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 2,
        },
    },
}


def block(kind: str, **said: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **said}}


def partial(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": list(parts)}}
    return {"candidates": [{**candidate, "finishReason": finish} if finish else candidate], **more}


TRANSCRIPTS = [
    Transcript(
        "usage in a chunk of its own",
        "openai",
        b": keep-alive\n\n"
        + sse(
            delta(role="assistant", content=""),
            delta(content="Hel"),
            delta(content="lo ☃"),
            delta("stop"),
            {
                "model": "m-1",
                "choices": [],
                "usage": {
                    **PLAIN_USAGE,
                    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
                    "completion_tokens_details": {"reasoning_tokens": 2},
                },
            },
            end=DONE,
        ),
        (Text("Hel"), Text("lo ☃"), Finish("stop", "stop"), Report(Usage(9, 4, 1, 3, 2), "m-1")),
    ),
    Transcript(
        "usage on the last chunk and no terminator",
        "openai",
        sse(delta(content="Hi"), {**delta("length"), "usage": PLAIN_USAGE}),
        (Text("Hi"), Finish("length", "length"), Report(Usage(9, 0, 0, 3, 0), "m-1")),
    ),
    Transcript(
        "usage in x_groq",
        "openai",
        sse(delta(content="Hi"), {**delta("stop"), "x_groq": {"usage": PLAIN_USAGE}}, end=DONE),
        (Text("Hi"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0), "m-1")),
    ),
    Transcript(
        "reasoning_content beside the content, counted beside the completion",
        "openai",
        sse(
            delta(reasoning_content="hm"),
            delta(content="Hi"),
            {
                **delta("stop"),
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 3,
                    "total_tokens": 17,
                    "prompt_cache_hit_tokens": 6,
                    "completion_tokens_details": {"reasoning_tokens": 5},
                },
            },
            end=DONE,
        ),
        (Thought("hm"), Text("Hi"), Finish("stop", "stop"), Report(Usage(9, 6, 0, 8, 5), "m-1")),
    ),
    Transcript(
        "reasoning under its other name",
        "openai",
        sse(delta(reasoning="hm", reasoning_details=[{"text": "hm"}]), delta(content="Hi"), delta("stop"), end=DONE),
        (Thought("hm"), Text("Hi"), Finish("stop", "stop")),
    ),
    Transcript(
        "content as a list of parts",
        "openai",
        sse(
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta(content=[{"type": "text", "text": "Hi"}]),
            delta("stop"),
            end=DONE,
        ),
        (Thought("hm"), Text("Hi"), Finish("stop", "stop")),
    ),
    Transcript(
        "thinking tags cut by the stream",
        "openai",
        sse(
            *(delta(content=piece) for piece in ("<th", "ink>h", "m</thi", "nk>", "\n\n", "Hi <b>", " there")),
            delta("stop"),
            end=DONE,
        ),
        (Thought("h"), Thought("m"), Text("Hi <b>"), Text(" there"), Finish("stop", "stop")),
    ),
    Transcript(
        "text that only looks like a tag at its end",
        "openai",
        sse(delta(content="a <thi"), delta("stop"), end=DONE),
        (Text("a "), Text("<thi"), Finish("stop", "stop")),
    ),
    Transcript(
        "a filtered answer",
        "openai",
        sse(delta(content="No"), delta("content_filter"), end=DONE),
        (Text("No"), Finish("filtered", "content_filter")),
    ),
    Transcript(
        "a refusal in a field of its own",
        "openai",
        sse(delta(refusal="I cannot"), delta("stop"), end=DONE),
        (Text("I cannot"), Finish("filtered", "stop")),
    ),
    Transcript(
        "calls of tools in pieces",
        "openai",
        sse(
            delta(content="Let me look."),
            delta(tool_calls=[{"index": 0, "id": "t1", "function": {"name": "look", "arguments": ""}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '{"at": '}}]),
            delta(tool_calls=[{"index": 1, "id": "t2", "function": {"name": "wait", "arguments": None}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '"☃"}'}}]),
            delta("tool_calls"),
            end=DONE,
        ),
        (
            Text("Let me look."),
            ToolCall("t1", "look", '{"at": "☃"}'),
            ToolCall("t2", "wait", "{}"),
            Finish("tool", "tool_calls"),
        ),
    ),
    Transcript(
        "a call that was not streamed and is not told at the end",
        "openai",
        json.dumps(
            {
                "choices": [
                    {
                        "message": {
                            "content": None,
                            "tool_calls": [
                                {"id": "t1", "function": {"name": "look", "arguments": "{}"}},
                                {"id": "t2", "function": {"name": "wait", "arguments": "{}"}},
                            ],
                        },
                        "finish_reason": "stop",
                    }
                ]
            }
        ).encode(),
        (ToolCall("t1", "look", "{}"), ToolCall("t2", "wait", "{}"), Finish("tool", "stop")),
    ),
    Transcript(
        "a terminator without a reason",
        "openai",
        sse(delta(content="Hi"), end=DONE),
        (Text("Hi"), Finish("stop", "stop")),
    ),
    Transcript(
        "an answer that was not streamed",
        "openai",
        json.dumps(
            {
                "model": "m-1",
                "choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
                "usage": PLAIN_USAGE,
            },
            indent=1,
        ).encode(),
        (Text("Hi"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0), "m-1")),
    ),
    Transcript(
        "carriage returns and a byte order mark",
        "openai",
        b"\xef\xbb\xbf" + sse(delta(content="Hi"), delta("stop"), end=DONE).replace(b"\n", b"\r\n"),
        (Text("Hi"), Finish("stop", "stop")),
    ),
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
    Transcript(
        "partial answers with thoughts",
        "gemini",
        sse(
            partial({"text": "hm", "thought": True}, usageMetadata={"promptTokenCount": 9}),
            partial({"text": "Hel"}),
            partial(
                {"text": "lo"},
                finish="STOP",
                modelVersion="g-1",
                usageMetadata={
                    "promptTokenCount": 9,
                    "cachedContentTokenCount": 4,
                    "toolUsePromptTokenCount": 1,
                    "candidatesTokenCount": 3,
                    "thoughtsTokenCount": 5,
                },
            ),
        ),
        (Thought("hm"), Text("Hel"), Text("lo"), Finish("stop", "STOP"), Report(Usage(10, 4, 0, 8, 5), "g-1")),
    ),
    Transcript(
        "a part that calls a tool",
        "gemini",
        sse(partial({"functionCall": {"name": "look", "args": {"at": "here"}}}, finish="STOP")),
        (ToolCall("", "look", '{"at": "here"}'), Finish("tool", "STOP")),
    ),
    Transcript(
        "a signed call of a tool",
        "gemini",
        sse(partial({"functionCall": {"name": "look", "args": {}}, "thoughtSignature": "c2ln"}, finish="STOP")),
        (ToolCall("", "look", "{}", "c2ln"), Finish("tool", "STOP")),
    ),
    Transcript(
        "a blocked prompt",
        "gemini",
        sse({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}}),
        (Finish("filtered", "SAFETY"), Report(Usage(9), None)),
    ),
    Transcript(
        "lines with thinking",
        "ollama",
        lines(
            {"model": "q", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
            {"model": "q", "message": {"role": "assistant", "content": "Hello"}, "done": False},
            {
                "model": "q",
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": 9,
                "eval_count": 3,
            },
        ),
        (Thought("hm"), Text("Hello"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0), "q")),
    ),
    Transcript(
        "a line that calls a tool",
        "ollama",
        lines(
            {"message": {"content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"at": "here"}}}]}},
            {"message": {"content": ""}, "done": True, "done_reason": "stop"},
        ),
        (ToolCall("", "look", '{"at": "here"}'), Finish("tool", "stop")),
    ),
    Transcript(
        "half a count is none, and a last line may have no end",
        "ollama",
        lines({"message": {"content": "Hi"}}, {"done": True, "done_reason": "length", "eval_count": 3}).rstrip(),
        (Text("Hi"), Finish("length", "length")),
    ),
    Transcript(
        "blocks, and counts that are billed",
        "cohere",
        named(
            {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "thinking"}}}},
            content(thinking="hm"),
            {"type": "content-end", "index": 0},
            content(text="Hel"),
            content(text="lo ☃"),
            {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"text": "no text"}}}},
            ended(
                "COMPLETE",
                usage={
                    "billed_units": {"input_tokens": 9.0, "output_tokens": 3.0},
                    "tokens": {"input_tokens": 70.0, "output_tokens": 5.0},
                    "cached_tokens": 4.0,
                },
            ),
        )
        + DONE.encode(),
        (
            Thought("hm"),
            Text("Hel"),
            Text("lo ☃"),
            Finish("stop", "COMPLETE"),
            Report(Usage(9, 4, 0, 3, 0)),
        ),
    ),
    Transcript(
        "events without names, counts that are only real",
        "cohere",
        sse(content(text="Hi"), ended("MAX_TOKENS", usage={"tokens": {"input_tokens": 70, "output_tokens": 5}})),
        (Text("Hi"), Finish("length", "MAX_TOKENS"), Report(Usage(70, 0, 0, 5, 0))),
    ),
    Transcript(
        "half a count is none",
        "cohere",
        sse(content(text="Hi"), ended("COMPLETE", usage={"billed_units": {"output_tokens": 5}})),
        (Text("Hi"), Finish("stop", "COMPLETE")),
    ),
    Transcript(
        "a plan, and calls of tools in pieces",
        "cohere",
        named(
            {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I look."}}},
            {
                "type": "tool-call-start",
                "index": 0,
                "delta": {"message": {"tool_calls": {"id": "t1", "function": {"name": "look", "arguments": ""}}}},
            },
            {
                "type": "tool-call-delta",
                "index": 0,
                "delta": {"message": {"tool_calls": {"function": {"arguments": '{"at": "☃"}'}}}},
            },
            {"type": "tool-call-end", "index": 0},
            ended("TOOL_CALL"),
        ),
        (Thought("I look."), ToolCall("t1", "look", '{"at": "☃"}'), Finish("tool", "TOOL_CALL")),
    ),
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
    Transcript(
        "responses, and counts before the end",
        "cloudflare",
        sse(
            {"response": "<think>hm</think>"},
            {"response": "Hel"},
            {"response": "lo ☃"},
            {"response": "", "usage": PLAIN_USAGE},
            end=DONE,
        ),
        (Thought("hm"), Text("Hel"), Text("lo ☃"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0))),
    ),
    Transcript(
        "a call of a tool beside no response",
        "cloudflare",
        sse({"response": None, "tool_calls": [{"name": "look", "arguments": {"at": "here"}}]}, end=DONE),
        (ToolCall("", "look", '{"at": "here"}'), Finish("tool", "stop")),
    ),
    Transcript(
        "chunks as in chat completions",
        "cloudflare",
        sse(delta(content="Hi"), delta("length"), {"choices": [], "usage": PLAIN_USAGE}, end=DONE),
        (Text("Hi"), Finish("length", "length"), Report(Usage(9, 0, 0, 3, 0))),
    ),
    Transcript(
        "an envelope that was not streamed",
        "cloudflare",
        json.dumps({"success": True, "errors": [], "result": {"response": "Hi", "usage": PLAIN_USAGE}}).encode(),
        (Text("Hi"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0))),
    ),
    Transcript(
        "a prediction that is over at once",
        "replicate",
        json.dumps(
            {
                "id": "p1",
                "model": "o/n",
                "status": "succeeded",
                "output": ["<thi", "nk>hm</think>", "Hel", "lo ☃"],
                "metrics": {"predict_time": 1.5, "input_token_count": 9, "output_token_count": 3},
            }
        ).encode(),
        (Thought("hm"), Text("Hello ☃"), Finish("stop", "succeeded"), Report(Usage(9, 0, 0, 3, 0), "o/n")),
    ),
    Transcript(
        "a prediction without counts",
        "replicate",
        b'{"id": "p1", "status": "succeeded", "output": "Hi", "metrics": {"predict_time": 1.5}}',
        (Text("Hi"), Finish("stop", "succeeded")),
    ),
]
