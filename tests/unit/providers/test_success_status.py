"""Errors that came with a status of success, flat, wrapped, as an event or in place of the stream: they mean what they
say, and an answer of which nothing came is not whole."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from goblin.settings import Settings
from providers.call import Caller, Control
from providers.errors import (
    BadCredentials,
    BadRequest,
    BrokenStream,
    ContextTooLong,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
)
from providers.message import Event, Finish, Text, ToolCall
from providers.registry import load
from providers.vectorize import Index, Query, Record
from providers.wire.spoken import SPOKEN
from tests.fakes.decode import decode
from tests.fakes.said import DONE, PLAIN_USAGE, delta, sse
from tests.fakes.scripts import say
from tests.fakes.vendor import KEY, PROMPT, Vendor, provider

TOO_LONG = {
    "object": "error",
    "message": "This model's maximum context length is 9 tokens",
    "type": "BadRequestError",
    "param": None,
    "code": 400,
}
THROTTLED = {"object": "error", "message": "Requests rate limit exceeded", "type": "rate_limit_error", "code": "1300"}


def plain(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


@pytest.mark.parametrize(
    ("dialect", "said", "fault"),
    [
        ("openai", TOO_LONG, ContextTooLong),
        ("openai", THROTTLED, Throttled),
        ("openai", {"detail": "boom"}, ServerError),
        ("openai", {"detail": [{"msg": "boom", "type": "x"}]}, ServerError),
        ("openai", {"message": "boom", "code": 503}, Overloaded),
        ("openai", {"message": {"detail": [{"msg": "boom"}]}, "object": "error"}, ServerError),
        ("openai", {"error": {"message": "x", "code": "rate_limit_exceeded"}}, Throttled),
        ("openai", {"error": {"message": "x", "type": "invalid_request_error"}}, BadRequest),
        (
            "openai",
            {"error": {"message": "x", "type": "invalid_request_error", "code": "invalid_api_key"}},
            BadCredentials,
        ),
        ("anthropic", {"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}, BadRequest),
        ("cloudflare", {"success": False, "errors": [{"code": 3040, "message": "x"}], "result": None}, Overloaded),
        ("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, Overloaded),
        ("cohere", {"message": "too many tokens: size limit exceeded by 9"}, ContextTooLong),
        ("cohere", {"id": "x", "message": "boom"}, ServerError),
        ("gemini", {"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}}, Throttled),
    ],
)
@pytest.mark.parametrize("form", [plain, sse, lambda said: sse(said, end=DONE)], ids=["plain", "event", "and done"])
def test_an_error_with_a_status_of_success_means(
    dialect: str, said: Any, fault: type[ProviderFault], form: Callable[[Any], bytes]
) -> None:
    with pytest.raises(ProviderFault) as caught:
        decode(dialect, form(said))
    assert type(caught.value) is fault


@pytest.mark.parametrize("dialect", ["gemini", "openai"])
def test_an_error_in_an_array_means_the_same(dialect: str) -> None:
    with pytest.raises(Throttled):
        decode(dialect, plain([{"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}}]))


def test_a_flat_error_is_known_by_the_codes_of_its_row() -> None:
    vendor = load(Settings(), {}).get("minimax")
    decoder = SPOKEN["openai"].decoder(vendor)
    with pytest.raises(Throttled):
        decoder.feed(sse({"message": "x", "code": 1002}), [])


def test_words_that_came_before_a_flat_error_do_not_make_it_an_answer() -> None:
    events: list[Event] = []
    decoder = SPOKEN["openai"].decoder(provider())
    with pytest.raises(ContextTooLong):
        decoder.feed(sse(delta(content="Hi"), TOO_LONG, end=DONE), events)
    assert events == [Text("Hi")]


@pytest.mark.parametrize(
    "chunk",
    [
        {**delta(content="Hi"), "message": "ok", "detail": "fine"},
        {**delta(content="Hi"), "object": "chat.completion.chunk"},
    ],
)
def test_words_beside_an_answer_are_no_error(chunk: dict[str, Any]) -> None:
    counted = {"choices": [], "usage": PLAIN_USAGE, "message": "counted"}
    events = decode("openai", sse(chunk, delta("stop"), counted, end=DONE))
    assert events[:2] == [Text("Hi"), Finish("stop", "stop")]


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai", sse({"id": "c1"}, end=DONE)),
        ("openai", sse({"choices": [], "usage": PLAIN_USAGE}, end=DONE)),
        ("openai", sse({"choices": [], "prompt_filter_results": []}, end=DONE)),
        ("cloudflare", sse({"result": {}}, end=DONE)),
        ("cloudflare", sse({"result": None, "success": True}, end=DONE)),
    ],
)
def test_a_stream_that_never_answered_is_not_whole(dialect: str, body: bytes) -> None:
    with pytest.raises(BrokenStream):
        decode(dialect, body)


@pytest.mark.parametrize(
    ("pieces", "events"),
    [
        ([delta(content="Hi"), delta("length")], [Text("Hi"), Finish("length", "length")]),
        ([{"response": "H"}, {"response": "i"}], [Text("H"), Text("i"), Finish("stop", "stop")]),
    ],
)
def test_what_a_stream_envelopes_piece_by_piece_is_taken_out(pieces: list[dict[str, Any]], events: list[Event]) -> None:
    assert decode("cloudflare", sse(*({"result": piece} for piece in pieces), end=DONE)) == events


def test_a_call_under_the_index_of_another_one_is_another_call() -> None:
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "look", "arguments": "{"}},
        {"index": 0, "id": "a", "function": {"arguments": "}"}},
        {"index": 0, "id": "b", "function": {"name": "wait", "arguments": ""}},
        {"index": 0, "id": "", "function": {"name": None, "arguments": '{"s": 1}'}},
    ]
    body = sse(*(delta(tool_calls=[piece]) for piece in pieces), delta("tool_calls"), end=DONE)
    assert decode("openai", body)[:2] == [ToolCall("a", "look", "{}"), ToolCall("b", "wait", '{"s": 1}')]


def embed(body: bytes, dialect: str = "openai") -> None:
    caller = Caller()
    with Vendor(say("200 OK", body)) as vendor:
        try:
            caller.embed(provider(vendor.url, dialect=dialect), "e-1", [PROMPT], Control())
        finally:
            caller.close()


@pytest.mark.parametrize(
    ("dialect", "said", "fault"),
    [
        ("openai", {"error": {"message": "slow", "code": "rate_limit_exceeded"}}, Throttled),
        ("openai", {"error": {"message": "x", "type": "insufficient_quota"}, "data": None}, QuotaSpent),
        ("openai", {"detail": "boom"}, ServerError),
        ("gemini", [{"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}], Overloaded),
        ("ollama", {"error": "the prompt exceeds the context length"}, ContextTooLong),
        ("cohere", {"message": "too many tokens: x"}, ContextTooLong),
        ("openai", {"data": []}, Malformed),
        ("openai", "no", Malformed),
    ],
)
def test_an_error_in_place_of_vectors_means(dialect: str, said: Any, fault: type[ProviderFault]) -> None:
    with pytest.raises(ProviderFault) as caught:
        embed(plain(said), dialect)
    assert type(caught.value) is fault


def test_an_error_in_place_of_vectors_repeats_neither_the_key_nor_the_text() -> None:
    for words in (f"bad key {KEY}", f"cannot read {PROMPT}"):
        with pytest.raises(ServerError) as caught:
            embed(plain({"error": {"message": words}}))
        assert KEY not in str(caught.value)
        assert PROMPT not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "fault"),
    [(3040, Overloaded), (10000, BadCredentials), (3000, BadRequest), (40006, BadRequest), (99999, ServerError)],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda index: index.upsert([Record("1", (1.0,))], Control()),
        lambda index: index.query(Query((1.0,)), Control()),
        lambda index: index.info(Control()),
    ],
    ids=["upsert", "query", "info"],
)
def test_an_index_that_refuses_with_a_status_of_success_is_known_by_its_code(
    ask: Callable[[Index], Any], code: int, fault: type[ProviderFault]
) -> None:
    body = plain({"success": False, "errors": [{"code": code, "message": f"words {KEY}"}], "result": None})
    caller = Caller()
    with Vendor(say("200 OK", body)) as vendor, pytest.raises(ProviderFault) as caught:
        ask(Index(caller, provider(vendor.url, dialect="vectorize"), "docs"))
    caller.close()
    assert type(caught.value) is fault
    assert KEY not in caught.value.message
