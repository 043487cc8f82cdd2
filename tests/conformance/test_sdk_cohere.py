"""The simulator's cohere dialect, judged by Cohere's own client."""

import cohere
import httpx
import pytest
from cohere.core.api_error import ApiError

TASK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Task: summarize this\n```python\nclass Basket:\n    pass\n```"},
]
ONCE = {"max_retries": 0}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the client's own


@pytest.fixture
def client(simulator):
    with httpx.Client(trust_env=False, timeout=10) as transport:
        yield cohere.ClientV2(api_key="key", base_url=f"{simulator.url}/cohere", httpx_client=transport)


def ask(client, model, **more):
    return client.chat(model=model, messages=TASK, request_options=ONCE, **more)


def events(client, model, **more):
    return list(client.chat_stream(model=model, messages=TASK, request_options=ONCE, **more))


def said(streamed, kind):
    deltas = [event.delta.message.content for event in streamed if event.type == "content-delta"]
    return "".join(getattr(delta, kind) or "" for delta in deltas)


def test_an_answer_is_about_the_code_and_is_counted(client, simulator):
    answer = ask(client, "sim-instant")
    assert "`Basket`" in answer.message.content[0].text
    assert answer.finish_reason == "COMPLETE"
    call, billed = simulator.last_call(), answer.usage.billed_units
    assert (billed.input_tokens, billed.output_tokens) == (call["input_tokens"], call["output_tokens"])
    assert answer.usage.tokens.input_tokens > billed.input_tokens


def test_a_stream_says_the_same_as_a_whole_answer(client, simulator):
    streamed = events(client, "sim-instant")
    assert said(streamed, "text") == ask(client, "sim-instant").message.content[0].text
    assert [event.type for event in streamed][:2] == ["message-start", "content-start"]
    end = streamed[-1].delta
    assert (streamed[-1].type, end.finish_reason) == ("message-end", "COMPLETE")
    assert end.usage.billed_units.output_tokens == simulator.last_call()["output_tokens"]


def test_thinking_is_a_block_of_its_own_and_can_be_switched_off(client):
    quick = "sim-reasoner+ttft=0+speed=0"
    whole = ask(client, quick)
    assert [part.type for part in whole.message.content] == ["thinking", "text"]
    assert said(events(client, quick), "thinking") == whole.message.content[0].thinking
    off = ask(client, quick, thinking={"type": "disabled"})
    assert [part.type for part in off.message.content] == ["text"]


def test_an_answer_ends_at_the_limit_that_was_asked_for(client, simulator):
    assert ask(client, "sim-instant+tokens=50", max_tokens=7).finish_reason == "MAX_TOKENS"
    assert simulator.last_call()["output_tokens"] == 7


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("sim-instant+auth", cohere.UnauthorizedError),
        ("sim-instant+fail=403", cohere.ForbiddenError),
        ("sim-unheard-of", cohere.NotFoundError),
        ("sim-instant+fail=429", cohere.TooManyRequestsError),
        ("sim-instant+context", cohere.BadRequestError),
        ("sim-instant+fail=500", cohere.InternalServerError),
        ("sim-instant+overloaded", cohere.ServiceUnavailableError),
        ("sim-instant+quota", ApiError),
    ],
)
def test_a_refusal_is_the_clients_own_error(client, model, error):
    with pytest.raises(error) as caught:
        ask(client, model)
    assert "message" in (caught.value.body if isinstance(caught.value.body, dict) else dict(caught.value.body))


def test_an_error_in_mid_stream_is_told_at_the_end(client, simulator):
    streamed = events(client, "sim-instant+midfail=5")
    assert (streamed[-1].delta.finish_reason, bool(streamed[-1].delta.error)) == ("ERROR", True)
    assert simulator.last_call()["output_tokens"] == 5


def test_a_cut_stream_is_billed_what_was_produced(client, simulator):
    with pytest.raises(httpx.RemoteProtocolError):
        events(client, "sim-instant+cut=5")
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("cut", 5)


def test_texts_are_embedded(client, simulator):
    answer = client.embed(
        model="sim-embed",
        input_type="search_document",
        embedding_types=["float"],
        texts=["red fox", "red fox", "blue sky"],
        request_options=ONCE,
    )
    first, second, third = answer.embeddings.float
    assert first == second != third
    assert answer.meta.billed_units.input_tokens == simulator.last_call()["input_tokens"]


def test_what_is_too_long_is_embedded_in_part_unless_it_may_not(client):
    wish = {"model": "sim-embed", "input_type": "search_document", "embedding_types": ["float"]}
    wish |= {"texts": ["red fox " * 5000], "request_options": ONCE}
    assert client.embed(**wish).meta.billed_units.input_tokens == 8192
    assert client.embed(**wish, truncate="END").meta.billed_units.input_tokens == 8192
    with pytest.raises(cohere.BadRequestError) as caught:
        client.embed(**wish, truncate="NONE")
    assert "too many tokens" in caught.value.body["message"]


def test_models_are_listed_with_what_they_can(client):
    models = {model.name: model.endpoints for model in client.models.list().models}
    assert (models["sim-fast"], models["sim-embed"]) == (["chat"], ["embed"])
