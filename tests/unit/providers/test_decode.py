"""Decoders: what vendors send means the same however the bytes are cut, and nothing but our own errors comes out."""

import contextlib
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goblin.errors import GoblinError
from providers.answer import collect
from providers.errors import (
    BadRequest,
    BrokenStream,
    ContentFiltered,
    ContextTooLong,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
)
from providers.message import Event, Finish, Text, Thought, Usage
from providers.wire.reason import LONGEST, MOST_BLOCKS
from providers.wire.spoken import SPOKEN
from providers.wire.sse import LONGEST_LINE
from providers.wire.think import Splitter
from providers.wire.tool import LONGEST_CALLS, MOST_CALLS
from tests.fakes.decode import decode
from tests.fakes.said import (
    DONE,
    MESSAGE_START,
    PLAIN_USAGE,
    Transcript,
    block,
    content,
    delta,
    ended,
    excepted,
    framed,
    lines,
    named,
    partial,
    sse,
)
from tests.fakes.transcripts import TRANSCRIPTS
from tests.fakes.vendor import KEY, provider

EVERY = pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda one: f"{one.dialect}: {one.name}")


@EVERY
def test_a_whole_answer_gives_its_events(transcript: Transcript) -> None:
    assert tuple(decode(transcript.dialect, transcript.body)) == transcript.events


@EVERY
def test_an_answer_that_comes_byte_by_byte_gives_the_same_events(transcript: Transcript) -> None:
    pieces = [transcript.body[at : at + 1] for at in range(len(transcript.body))]
    assert tuple(decode(transcript.dialect, *pieces)) == transcript.events


@EVERY
@given(data=st.data())
def test_it_does_not_matter_where_the_bytes_are_cut(transcript: Transcript, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(transcript.body)), max_size=12)))
    pieces = [transcript.body[start:end] for start, end in zip([0, *cuts], [*cuts, len(transcript.body)], strict=True)]
    assert tuple(decode(transcript.dialect, *pieces)) == transcript.events


@EVERY
@given(data=st.data())
def test_an_answer_cut_anywhere_is_whole_or_says_that_it_is_not(transcript: Transcript, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(transcript.body) - 1))
    try:
        events = decode(transcript.dialect, transcript.body[:cut])
    except (BrokenStream, Malformed):
        return
    assert any(isinstance(event, Finish) for event in events)


@pytest.mark.parametrize("dialect", SPOKEN)
@given(data=st.data())
def test_garbage_raises_nothing_but_our_own_errors(dialect: str, data: st.DataObject) -> None:
    json_like = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
        max_leaves=12,
    )
    frame_it = {
        "ollama": lines,
        "replicate": lines,
        "bedrock": lambda value: framed((data.draw(st.sampled_from(FRAMES)), value)),
    }.get(dialect, sse)
    body = data.draw(st.binary(max_size=200) | json_like.map(frame_it))
    with contextlib.suppress(ProviderFault):
        decode(dialect, body)


FRAMES = ["contentBlockDelta", "messageStop", "metadata", "messageStart"]
WORDS = [
    "choices", "delta", "content", "finish_reason", "usage", "error", "code", "message", "type", "candidates", "parts",
    "tool_calls", "function", "arguments", "name", "index", "functionCall", "args", "tool_use", "start", "toolUse",
    "output", "status", "id", "urls", "metrics", "response", "result", "success", "errors", "usage", "stopReason",
    "inputTokens", "outputTokens", "billed_units", "input_tokens", "output_tokens", "reasoningContent", "type",
    "text", "usageMetadata", "finishReason", "prompt_tokens", "done", "base_resp", "status_code", "x_groq", "thinking",
]  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai", sse(delta(content="Hi"))),
        ("openai", DONE.encode()),
        ("openai", b""),
        ("anthropic", named(MESSAGE_START, block("text_delta", text="Hi"), {"type": "message_stop"})),
        ("gemini", sse(partial({"text": "Hi"}))),
        ("ollama", lines({"message": {"content": "Hi"}, "done": False})),
        ("cohere", sse(content(text="Hi"))),
        ("bedrock", framed(("contentBlockDelta", {"delta": {"text": "Hi"}}))),
        ("cloudflare", sse({"response": "Hi"}, {"response": "", "usage": PLAIN_USAGE})),
        ("replicate", b""),
    ],
)
def test_an_answer_without_its_end_is_broken(dialect: str, body: bytes) -> None:
    with pytest.raises(BrokenStream):
        decode(dialect, body)


@pytest.mark.parametrize(
    ("dialect", "trouble", "fault"),
    [
        ("openai", sse({"error": {"message": "x", "type": "server_error"}}), ServerError),
        ("openai", sse({"error": {"message": "x", "code": "rate_limit_exceeded"}}), Throttled),
        ("openai", sse({"error": {"message": "x", "code": 429}}), Throttled),
        ("openai", sse({"error": {"message": "x", "code": "502"}}), ServerError),
        ("openai", sse({"error": {"message": "x", "type": "insufficient_quota"}}), QuotaSpent),
        ("openai", sse({**delta("error")}), ServerError),
        ("openai", sse({"x_groq": {"error": "over capacity"}}), ServerError),
        ("openai", b'{"error":{"message":"x","code":"content_filter"}}', ContentFiltered),
        ("anthropic", named({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}), Overloaded),
        ("anthropic", named({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}), Throttled),
        ("gemini", sse({"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}), Overloaded),
        ("gemini", sse({"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}}), Throttled),
        (
            "gemini",
            sse({"error": {"code": 429, "message": "x", "details": [{"violations": [{"quotaId": "CallsPerDay"}]}]}}),
            QuotaSpent,
        ),
        ("ollama", lines({"error": "the runner has ended"}), ServerError),
        ("cohere", sse(ended("ERROR", error="x")), ServerError),
        ("cohere", sse(ended("TIMEOUT")), ServerError),
        ("cohere", sse({"message": "too many tokens: size limit exceeded"}), ContextTooLong),
        ("cohere", sse({"message": "x"}), ServerError),
        ("bedrock", excepted("modelStreamErrorException"), ServerError),
        ("bedrock", excepted("internalServerException"), ServerError),
        ("bedrock", excepted("throttlingException"), Throttled),
        ("bedrock", excepted("throttlingException", "Too many tokens per day"), QuotaSpent),
        ("bedrock", excepted("serviceUnavailableException"), Overloaded),
        ("bedrock", excepted("validationException"), BadRequest),
        ("bedrock", excepted("validationException", "Input is too long for requested model."), ContextTooLong),
        ("cloudflare", sse({"success": False, "errors": [{"code": 3040, "message": "x"}]}), Overloaded),
        ("cloudflare", sse({"errors": [{"code": 3036, "message": "x"}]}), QuotaSpent),
        ("replicate", b'{"id":"p1","status":"failed","error":"x"}', ServerError),
        ("replicate", b'{"id":"p1","status":"canceled"}', ServerError),
        ("replicate", b'{"id":"p1","status":"failed","error":"The input was flagged as sensitive"}', ContentFiltered),
        ("replicate", b'{"id":"p1","status":"dreaming"}', Malformed),
    ],
)
def test_an_error_inside_a_stream_is_told_by_its_type(dialect: str, trouble: bytes, fault: type[GoblinError]) -> None:
    with pytest.raises(fault):
        decode(dialect, trouble)


def test_an_error_inside_a_stream_does_not_show_the_key() -> None:
    with pytest.raises(ServerError) as caught:
        decode("openai", sse({"error": {"message": f"bad key {KEY} in cluster"}}))
    assert KEY not in caught.value.message
    assert "in cluster" in caught.value.message


@pytest.mark.parametrize("dialect", SPOKEN)
def test_a_line_without_end_is_malformed_and_not_kept(dialect: str) -> None:
    with pytest.raises(Malformed):
        decode(dialect, *([b"data: " + b"x" * 65_536] * (LONGEST_LINE // 65_536 + 2)), whole=False)


def test_an_event_of_endless_lines_is_malformed() -> None:
    with pytest.raises(Malformed):
        decode("openai", *([b"data: " + b"x" * 65_536 + b"\n"] * (LONGEST_LINE // 65_536 + 2)), whole=False)


def called(index: int, words: str) -> bytes:
    return sse(delta(tool_calls=[{"index": index, "function": {"name": "look", "arguments": words}}]))


@pytest.mark.parametrize(
    "body",
    [
        b"".join(called(index, "{}") for index in range(MOST_CALLS + 1)),
        called(0, "a" * 65_536) * (LONGEST_CALLS // 65_536 + 1),
    ],
    ids=["too many", "too long"],
)
def test_calls_without_end_are_malformed_and_not_kept(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode("openai", body, whole=False)


LONG = "n" * 65_536


def named_so(dialect: str, number: int) -> bytes:
    """The beginning of one call more, whose id and name are long."""
    call = {"id": LONG, "name": LONG}
    match dialect:
        case "anthropic":
            return named(
                {"type": "content_block_start", "index": number, "content_block": {"type": "tool_use", **call}}
            )
        case "cohere":
            made = {"tool_calls": {"id": LONG, "function": {"name": LONG}}}
            return sse({"type": "tool-call-start", "index": number, "delta": {"message": made}})
        case "bedrock":
            start = {"toolUse": {"toolUseId": LONG, "name": LONG}}
            return framed(("contentBlockStart", {"contentBlockIndex": number, "start": start}))
    return sse(delta(tool_calls=[{"index": number, "id": LONG, "function": {"name": LONG}}]))


@pytest.mark.parametrize("dialect", ["openai", "cloudflare", "anthropic", "cohere", "bedrock"])
def test_names_of_calls_without_end_are_malformed_and_not_kept(dialect: str) -> None:
    pieces = [named_so(dialect, number) for number in range(LONGEST_CALLS // 65_536 // 2 + 1)]
    decode(dialect, *pieces[:-1], whole=False)
    with pytest.raises(Malformed):
        decode(dialect, *pieces, whole=False)


def held(dialect: str, first: bytes, pieces: Iterable[bytes]) -> int:
    """The bytes that a decoder holds after an answer that goes on and on."""
    decoder = SPOKEN[dialect].decoder(provider("https://v.example/v1", dialect=dialect))
    decoder.feed(first, [])
    if dialect == "replicate":
        decoder.end([])
        decoder.follow()
    tracemalloc.start()
    try:
        for piece in pieces:
            decoder.feed(piece, [])
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_counts_that_nobody_knows_are_not_kept() -> None:
    usages = ({"type": "message_delta", "usage": {f"k{number}_{n}": n for n in range(5000)}} for number in range(40))
    assert held("anthropic", named(MESSAGE_START), (named(usage) for usage in usages)) < 2**20


def test_what_a_prediction_says_is_not_kept() -> None:
    begun = b'{"id": "p1", "status": "starting", "urls": {"stream": "https://v.example/v1/s"}}'
    assert held("replicate", begun, [b"event: output\ndata: ab\n\n" * 4000] * 40) < 2**20


@pytest.mark.parametrize(
    "pieces",
    [
        [sse(delta(reasoning_content="a" * 65_536))] * (LONGEST // 65_536 + 1),
        [sse(delta(thinking_blocks=[{"type": "redacted_thinking", "data": "a"}])) * (MOST_BLOCKS + 1)],
    ],
    ids=["too long", "too many blocks"],
)
def test_reasoning_without_end_is_malformed_and_not_kept(pieces: list[bytes]) -> None:
    with pytest.raises(Malformed):
        decode("openai", *pieces, whole=False)


@pytest.mark.parametrize(
    ("dialect", "body", "more"),
    [
        ("anthropic", named({"type": "message_stop"}), b"data: {nonsense\n\n"),
        (
            "bedrock",
            framed(("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": {}})),
            bytes(range(64)),
        ),
        ("openai", DONE.encode(), b"data: {nonsense\n\n"),
    ],
)
def test_what_follows_the_end_in_the_same_piece_spoils_nothing(dialect: str, body: bytes, more: bytes) -> None:
    assert decode(dialect, body + more, whole=False) == decode(dialect, body, whole=False)


def test_text_that_no_database_can_hold_is_replaced() -> None:
    events = decode(
        "openai", b'data: {"choices":[{"delta":{"content":"a\\u0000b\\ud800c"},"finish_reason":"stop"}]}\n\n'
    )
    assert events[0] == Text("a\ufffdb\ufffdc")


@pytest.mark.parametrize(
    ("said", "texts", "thoughts"),
    [
        ("<think>hm</think>Hi", "Hi", "hm"),
        ("\n<think>\nhm\n</think>\n\nHi", "\nHi", "\nhm\n"),
        ("a <think>hm</think> b <think>ho</think>c", "a b c", "hmho"),
        ("use `<think>` to mark it", "use `<think>` to mark it", ""),
        ("a </think> b", "a </think> b", ""),
        ("<think>never closed", "", "never closed"),
        ("1 < 2 <t <th <thi", "1 < 2 <t <th <thi", ""),
        ("<think></think>", "", ""),
    ],
)
@given(data=st.data())
def test_thinking_tags_are_taken_out_of_the_text(said: str, texts: str, thoughts: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=6)))
    pieces = [said[start:end] for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    events = decode("openai", sse(*(delta(content=piece) for piece in pieces), delta("stop"), end=DONE))
    assert collect(events)[:2] == (texts, thoughts)


class Copied(str):
    """Knows how many characters were copied out of it and its parts."""

    __slots__ = ()
    total = 0

    def __radd__(self, other: str) -> "Copied":
        return Copied(other + str(self))

    def __getitem__(self, at: Any) -> "Copied":
        part = Copied(super().__getitem__(at))
        Copied.total += len(part)
        return part


def test_splitting_off_thoughts_takes_time_as_the_text_is_long() -> None:
    said = Copied("<think>a</think>b" * 2_000)
    out: list[Event] = []
    Splitter().feed(said, out)
    assert collect(out)[:2] == ("b" * 2_000, "a" * 2_000)
    assert Copied.total < 4 * len(said)


def test_collect_keeps_the_last_report() -> None:
    first, last = delta(content="a"), delta("stop")
    body = sse(
        {**first, "usage": {"prompt_tokens": 1}}, {**last, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    )
    assert collect(decode("openai", body)) == ("a", "", Finish("stop", "stop"), Usage(input=1, output=2))


def test_collect_of_nothing_knows_no_usage() -> None:
    assert collect([Thought("hm")]) == ("", "hm", None, None)
