"""Why an answer ended, in every dialect's own words: some of them say that it is none."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from providers.answer import collect
from providers.errors import BrokenStream, Malformed, Overloaded, ProviderFault, ServerError
from providers.message import Event, Finish, Text, Usage
from providers.wire.complaint import CLIP
from providers.wire.spoken import SPOKEN
from tests.fakes.decode import decode
from tests.fakes.said import (
    DONE,
    MESSAGE_START,
    PLAIN_USAGE,
    block,
    content,
    delta,
    ended,
    framed,
    lines,
    named,
    partial,
    sse,
)
from tests.fakes.vendor import KEY, provider


def anthropic(word: str) -> bytes:
    end = {"type": "message_delta", "delta": {"stop_reason": word}, "usage": {"output_tokens": 3}}
    return named(MESSAGE_START, block("text_delta", text="Hi"), end, {"type": "message_stop"})


ANSWERS: Mapping[str, Callable[[str], bytes]] = {
    "openai": lambda word: sse(delta(content="Hi"), delta(word), end=DONE),
    "anthropic": anthropic,
    "gemini": lambda word: sse(partial({"text": "Hi"}, finish=word)),
    "ollama": lambda word: lines({"message": {"content": "Hi"}, "done": True, "done_reason": word}),
    "replicate": lambda word: json.dumps({"id": "p1", "status": word, "output": "Hi"}).encode(),
    "cohere": lambda word: sse(content(text="Hi"), ended(word)),
    "bedrock": lambda word: framed(
        ("contentBlockDelta", {"delta": {"text": "Hi"}}), ("messageStop", {"stopReason": word})
    ),
    "cloudflare": lambda word: sse(delta(content="Hi"), delta(word), end=DONE),
}
CHAT_COMPLETIONS = [
    ("stop", "stop"),
    ("eos", "stop"),
    ("length", "length"),
    ("model_length", "length"),
    ("model_context_window_exceeded", "length"),
    ("tool_calls", "tool"),
    ("function_call", "tool"),
    ("content_filter", "filtered"),
    ("sensitive", "filtered"),
    ("error", ServerError),
    ("network_error", ServerError),
    ("engine_overloaded", Overloaded),
    ("insufficient_system_resource", Overloaded),
]
ENDS: Mapping[str, list[tuple[str, Any]]] = {
    "openai": CHAT_COMPLETIONS,
    "cloudflare": CHAT_COMPLETIONS,
    "anthropic": [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool"),
        ("refusal", "filtered"),
        ("something_new", "stop"),
    ],
    "gemini": [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("SAFETY", "filtered"),
        ("PROHIBITED_CONTENT", "filtered"),
        ("BLOCKLIST", "filtered"),
        ("RECITATION", "filtered"),
        ("SPII", "filtered"),
        ("IMAGE_SAFETY", "filtered"),
        ("MODEL_ARMOR", "filtered"),
        ("ESCALATION", "filtered"),
        ("OTHER", "stop"),
        ("LANGUAGE", "stop"),
        ("MALFORMED_FUNCTION_CALL", Malformed),
        ("UNEXPECTED_TOOL_CALL", Malformed),
        ("MALFORMED_RESPONSE", Malformed),
    ],
    "ollama": [("stop", "stop"), ("length", "length")],
    "replicate": [
        ("succeeded", "stop"),
        ("failed", ServerError),
        ("canceled", ServerError),
        ("aborted", ServerError),
    ],
    "cohere": [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool"),
        ("ERROR_TOXIC", "filtered"),
        ("ERROR", ServerError),
        ("ERROR_LIMIT", ServerError),
        ("ERROR_OF_SOME_KIND", ServerError),
        ("TIMEOUT", ServerError),
        ("USER_CANCEL", ServerError),
    ],
    "bedrock": [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool"),
        ("guardrail_intervened", "filtered"),
        ("content_filtered", "filtered"),
        ("malformed_model_output", Malformed),
        ("malformed_tool_use", Malformed),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "word", "meaning"), [(dialect, *end) for dialect, ends in ENDS.items() for end in ends]
)
def test_the_word_for_an_end_means(dialect: str, word: str, meaning: str | type[ProviderFault]) -> None:
    body = ANSWERS[dialect](word)
    if isinstance(meaning, str):
        text, _, finish, _ = collect(decode(dialect, body))
        assert (text, finish) == ("Hi", Finish(meaning, word))  # type: ignore[arg-type]
        return
    with pytest.raises(ProviderFault) as caught:
        decode(dialect, body)
    assert type(caught.value) is meaning


@pytest.mark.parametrize("word", ["OTHER", "LANGUAGE", "TOO_MANY_TOOL_CALLS"])
@pytest.mark.parametrize("parts", [[], [{"text": "hm", "thought": True}]], ids=["nothing", "a thought"])
def test_an_answer_of_nothing_that_did_not_just_stop_is_none(word: str, parts: list[dict[str, Any]]) -> None:
    with pytest.raises(ServerError, match=word):
        decode("gemini", sse(partial(*parts, finish=word)))


def test_an_answer_of_nothing_that_just_stopped_is_one() -> None:
    assert decode("gemini", sse(partial(finish="STOP"))) == [Finish("stop", "STOP")]


@pytest.mark.parametrize(
    ("dialect", "body", "fault"),
    [
        ("openai", sse({**delta("error"), "usage": PLAIN_USAGE}), ServerError),
        (
            "gemini",
            sse(
                partial(
                    finish="MALFORMED_FUNCTION_CALL", usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 3}
                )
            ),
            Malformed,
        ),
        ("cohere", sse(ended("ERROR", usage={"tokens": {"input_tokens": 9, "output_tokens": 3}})), ServerError),
        (
            "bedrock",
            framed(
                ("messageStop", {"stopReason": "malformed_model_output"}),
                ("metadata", {"usage": {"inputTokens": 9, "outputTokens": 3}}),
            ),
            Malformed,
        ),
    ],
)
def test_what_a_broken_answer_has_cost_is_told_before_it_is_called_broken(
    dialect: str, body: bytes, fault: type[ProviderFault]
) -> None:
    events: list[Event] = []
    decoder = SPOKEN[dialect].decoder(provider(dialect=dialect))
    with pytest.raises(fault):
        decoder.feed(body, events)
    assert collect(events)[3] == Usage(input=9, output=3)


@pytest.mark.parametrize(
    ("dialect", "form"),
    [
        ("openai", lambda word: sse(delta(refusal="No"), delta(word), end=DONE)),
        ("gemini", lambda word: sse(partial(finish=word))),
        ("gemini", lambda word: sse({"promptFeedback": {"blockReason": word}})),
        ("cohere", lambda word: sse(ended(f"ERROR {word}"))),
    ],
)
def test_a_word_for_an_end_is_short_and_without_the_key(dialect: str, form: Callable[[str], bytes]) -> None:
    try:
        shown = repr(decode(dialect, form(f"{KEY}{'X' * 2 * CLIP}")))
    except ServerError as fault:
        shown = fault.message
    assert "[key]" in shown
    assert KEY not in shown
    assert len(shown) < 2 * CLIP


def test_an_end_that_is_not_specified_is_none() -> None:
    going_on = partial({"text": "a"}, finish="FINISH_REASON_UNSPECIFIED")
    with pytest.raises(BrokenStream):
        decode("gemini", sse(going_on))
    assert Finish("length", "MAX_TOKENS") in decode("gemini", sse(going_on, partial(finish="MAX_TOKENS")))


@pytest.mark.parametrize("no_word", ["", None])
def test_a_word_that_is_empty_ends_nothing(no_word: str | None) -> None:
    cut = sse(*({"choices": [{"delta": {"content": "a"}, "finish_reason": no_word}]} for _ in range(2)))
    with pytest.raises(BrokenStream):
        decode("openai", cut)
    assert decode("openai", cut + DONE.encode()) == [Text("a"), Text("a"), Finish("stop", "stop")]
