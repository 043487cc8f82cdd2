"""Tokens as vendors count them: both counts are readable, or nothing is reported and the call is estimated."""

from typing import Any

import pytest

from providers.answer import collect
from providers.message import Usage
from providers.wire.embedding import EMBEDDING
from tests.fakes.decode import decode
from tests.fakes.said import DONE, MESSAGE_START, block, content, delta, ended, framed, lines, named, partial, sse

UNREADABLE: list[Any] = [None, "9", "many", -1, True, [], {}, 1e300, float("nan")]


def openai(prompt: Any, output: Any) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": 12}
    return sse(delta(content="Hi"), {**delta("stop"), "usage": usage}, end=DONE)


def groq(prompt: Any, output: Any) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": output}
    return sse(delta(content="Hi"), {**delta("stop"), "x_groq": {"usage": usage}}, end=DONE)


def anthropic(prompt: Any, output: Any) -> bytes:
    start = {"type": "message_start", "message": {"usage": {"input_tokens": prompt, "output_tokens": output}}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": output}}
    return named(start, block("text_delta", text="Hi"), end)


def gemini(prompt: Any, output: Any) -> bytes:
    return sse(
        partial(
            {"text": "Hi"}, finish="STOP", usageMetadata={"promptTokenCount": prompt, "candidatesTokenCount": output}
        )
    )


def ollama(prompt: Any, output: Any) -> bytes:
    return lines({"message": {"content": "Hi"}, "done": True, "prompt_eval_count": prompt, "eval_count": output})


def cohere(prompt: Any, output: Any) -> bytes:
    counts = {"input_tokens": prompt, "output_tokens": output}
    return sse(content(text="Hi"), ended("COMPLETE", usage={"billed_units": counts}))


def bedrock(prompt: Any, output: Any) -> bytes:
    return framed(
        ("contentBlockDelta", {"delta": {"text": "Hi"}}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": {"inputTokens": prompt, "outputTokens": output}}),
    )


def cloudflare(prompt: Any, output: Any) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": output}
    return sse({"response": "Hi"}, {"response": "", "usage": usage}, end=DONE)


EVERY = pytest.mark.parametrize("told", [openai, groq, anthropic, gemini, ollama, cohere, bedrock, cloudflare])


def counted(told: Any, prompt: Any, output: Any) -> Usage | None:
    dialect = "openai" if told is groq else told.__name__
    text, _, _, usage = collect(decode(dialect, told(prompt, output)))
    assert text == "Hi"
    return usage


@EVERY
@pytest.mark.parametrize(("prompt", "output"), [(9, 3), (9.0, 3.0), (0, 0)])
def test_counts_that_can_be_read_are_reported(told: Any, prompt: Any, output: Any) -> None:
    assert counted(told, prompt, output) == Usage(input=int(prompt), output=int(output))


@EVERY
@pytest.mark.parametrize("unreadable", UNREADABLE, ids=repr)
def test_half_a_count_is_none(told: Any, unreadable: Any) -> None:
    assert counted(told, unreadable, 3) is None
    assert counted(told, 9, unreadable) is None


def test_a_prediction_with_half_a_count_has_none() -> None:
    for prompt, output in ((None, 3), (9, "3")):
        metrics = f'{{"input_token_count": {prompt or "null"}, "output_token_count": "{output}"}}'
        body = f'{{"id": "p1", "status": "succeeded", "output": "Hi", "metrics": {metrics}}}'
        assert collect(decode("replicate", body.encode()))[3] is None


@pytest.mark.parametrize("usage", [{"total_tokens": 12}, {}, {"prompt_tokens": 9}])
def test_a_sum_is_no_count(usage: dict[str, int]) -> None:
    assert collect(decode("openai", sse(delta(content="Hi"), {**delta("stop"), "usage": usage}, end=DONE)))[3] is None


def test_counts_may_stand_in_the_choice_and_name_the_cache_beside_it() -> None:
    end = delta("stop")
    end["choices"][0]["usage"] = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cached_tokens": 5}
    assert collect(decode("openai", sse(end, end=DONE)))[3] == Usage(input=9, cache_read=5, output=3)


@pytest.mark.parametrize("dialect", ["openai", "cloudflare"])
def test_the_count_of_a_piece_is_not_the_answer_s(dialect: str) -> None:
    piece = {"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1}
    body = sse({**delta(content="a"), "usage": piece}, {**delta(content="b"), "usage": piece}, delta("stop"), end=DONE)
    assert collect(decode(dialect, body))[3] is None


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"output_tokens": 3}, Usage(16, 5, 2, 3)),
        ({"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 3}, Usage(16, 5, 2, 3)),
        ({"input_tokens": 0, "cache_read_input_tokens": 14, "output_tokens": 3}, Usage(16, 14, 2, 3)),
        ({"input_tokens": 12, "output_tokens": 0}, Usage(19, 5, 2, 0)),
    ],
)
def test_a_prompt_that_was_counted_at_the_start_is_not_nothing_at_the_end(told: dict[str, int], usage: Usage) -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": told}
    assert collect(decode("anthropic", named(MESSAGE_START, end)))[3] == usage


def test_google_leaves_out_a_count_of_nothing() -> None:
    counts = {"promptTokenCount": 9, "thoughtsTokenCount": 5, "totalTokenCount": 14}
    said = collect(
        decode("gemini", sse(partial({"text": "hm", "thought": True}, finish="MAX_TOKENS", usageMetadata=counts)))
    )
    assert said[3] == Usage(input=9, output=5, reasoning=5)


@pytest.mark.parametrize("unreadable", [None, "9", -1])
def test_vectors_whose_tokens_cannot_be_read_are_not_free(unreadable: Any) -> None:
    row = '"data": [{"index": 0, "embedding": [1.0]}]'
    said = "null" if unreadable is None else f'"{unreadable}"'
    body = f'{{{row}, "usage": {{"prompt_tokens": {said}}}}}'
    assert EMBEDDING["openai"].parse(body.encode(), 1).usage is None
