"""The simulator's anthropic dialect, judged by Anthropic's own client."""

import anthropic
import httpx
import pytest

TASK = [{"role": "user", "content": "Task: review this code\n```js\nfunction add(a, b) { return a + b }\n```"}]


@pytest.fixture
def client(simulator):
    with anthropic.Anthropic(base_url=f"{simulator.url}/anthropic", api_key="key", max_retries=0, timeout=10) as client:
        yield client


def ask(client, model, **more):
    return client.messages.create(
        **{"model": model, "max_tokens": 500, "system": "Be brief.", "messages": TASK, **more}
    )


def final(client, model, **more):
    order = {"model": model, "max_tokens": 500, "system": "Be brief.", "messages": TASK, **more}
    with client.messages.stream(**order) as stream:
        return stream.get_final_message()


def test_an_answer_is_about_the_code_and_is_counted(client, simulator):
    answer = ask(client, "sim-instant")
    assert "`add`" in answer.content[0].text
    assert answer.stop_reason == "end_turn"
    call = simulator.last_call()
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (call["input_tokens"], call["output_tokens"])


def test_a_stream_says_the_same_as_a_whole_answer(client):
    whole, streamed = ask(client, "sim-instant"), final(client, "sim-instant")
    assert streamed.content[0].text == whole.content[0].text
    assert streamed.usage.output_tokens == whole.usage.output_tokens


def test_thinking_comes_in_a_block_before_the_text(client):
    for answer in (ask(client, "sim-instant+think"), final(client, "sim-instant+think")):
        assert [block.type for block in answer.content] == ["thinking", "text"]
        assert "review this code" in answer.content[0].thinking
        assert answer.content[0].signature


def test_a_reasoning_model_thinks_only_when_asked(client):
    quick = "sim-reasoner+ttft=0+speed=0"
    assert [block.type for block in ask(client, quick).content] == ["text"]
    asked = ask(client, quick, thinking={"type": "enabled", "budget_tokens": 1024})
    assert [block.type for block in asked.content] == ["thinking", "text"]


def test_an_answer_ends_at_the_limit_that_was_asked_for(client):
    answer = ask(client, "sim-instant+tokens=100", max_tokens=7)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 7)


def test_cached_input_is_reported_apart(client, simulator):
    usage = ask(client, "sim-instant+cached=9").usage
    assert usage.cache_read_input_tokens == 9
    assert usage.input_tokens + 9 == simulator.last_call()["input_tokens"]


@pytest.mark.parametrize(
    ("model", "error", "name"),
    [
        ("sim-instant+auth", anthropic.AuthenticationError, "authentication_error"),
        ("sim-instant+quota", anthropic.APIStatusError, "billing_error"),
        ("sim-instant+fail=429", anthropic.RateLimitError, "rate_limit_error"),
        ("sim-instant+overloaded", anthropic.InternalServerError, "overloaded_error"),
        ("sim-instant+fail=500", anthropic.InternalServerError, "api_error"),
        ("sim-instant+context", anthropic.BadRequestError, "invalid_request_error"),
        ("sim-unheard-of", anthropic.NotFoundError, "not_found_error"),
    ],
)
def test_a_refusal_is_the_clients_own_error(client, model, error, name):
    with pytest.raises(error) as caught:
        ask(client, model)
    assert caught.value.body["error"]["type"] == name


def test_overload_has_the_status_of_this_vendor(client):
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(client, "sim-instant+overloaded")
    assert caught.value.status_code == 529


def test_a_filtered_answer_is_a_refusal(client):
    for answer in (ask(client, "sim-instant+filtered"), final(client, "sim-instant+filtered")):
        assert (answer.stop_reason, answer.content) == ("refusal", [])


def test_an_error_in_mid_stream_reaches_the_client(client, simulator):
    with pytest.raises(anthropic.APIStatusError) as caught:
        final(client, "sim-instant+midfail=5")
    assert caught.value.body["error"]["type"] == "overloaded_error"
    assert simulator.last_call()["output_tokens"] == 5


def test_a_cut_stream_is_billed_what_was_produced(client, simulator):
    with pytest.raises(Exception, match="peer closed connection"):
        final(client, "sim-instant+cut=5")
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("cut", 5)


def test_models_are_listed(client):
    assert "sim-smart" in {model.id for model in client.models.list()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "k", "anthropic-version": "2023-06-01"}, 200),
        ({"authorization": "Bearer k", "anthropic-version": "2026-10-21"}, 400),
        ({"authorization": "Bearer k", "anthropic-version": "2023-06-01"}, 200),
        ({"x-api-key": "k"}, 400),
        ({"x-api-key": "wrong", "anthropic-version": "2023-06-01"}, 401),
        ({"anthropic-version": "2023-06-01"}, 401),
    ],
)
def test_keys_and_versions_are_checked(simulator, headers, status):
    body = {"model": "sim-instant", "max_tokens": 5, "messages": TASK, "temperature": 0.2}
    answer = httpx.post(f"{simulator.url}/anthropic/v1/messages", headers=headers, json=body, trust_env=False)
    assert answer.status_code == status
