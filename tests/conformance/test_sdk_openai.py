"""The simulator's openai dialect, judged by OpenAI's own client."""

import base64
import json
import math

import httpx
import openai
import pytest

TASK = [
    {"role": "system", "content": "You write documentation."},
    {"role": "user", "content": "Task: document this code\n```python\ndef add(a, b):\n    return a + b\n```"},
]


@pytest.fixture
def client(simulator):
    with openai.OpenAI(base_url=f"{simulator.url}/openai/v1", api_key="key", max_retries=0, timeout=10) as client:
        yield client


def ask(client, model, **more):
    return client.chat.completions.create(model=model, messages=TASK, **more)


def chunks(client, model, **more):
    return list(ask(client, model, stream=True, **more))


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_an_answer_is_about_the_code_and_is_counted(client, simulator):
    answer = ask(client, "sim-instant")
    assert "`add(a, b)`" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    call = simulator.last_call()
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (call["input_tokens"], call["output_tokens"])


def test_a_stream_says_the_same_as_a_whole_answer(client):
    parts = chunks(client, "sim-instant")
    assert text_of(parts) == ask(client, "sim-instant").choices[0].message.content
    assert parts[-1].choices[0].finish_reason == "stop"
    assert all(part.usage is None for part in parts)


def test_an_answer_ends_before_what_stops_it_and_has_the_form_that_is_wanted(client):
    whole = ask(client, "sim-instant").choices[0].message.content
    for stop in ("returns", ["nowhere", "returns"]):
        stopped = ask(client, "sim-instant", stop=stop).choices[0]
        assert (stopped.message.content, stopped.finish_reason) == (whole[: whole.index("returns")], "stop")
    drawn = {"top_p": 0.5, "seed": 7, "frequency_penalty": 1, "presence_penalty": -1}
    formed = ask(client, "sim-instant", response_format={"type": "json_object"}, **drawn)
    assert json.loads(formed.choices[0].message.content) == {"answer": whole}
    for wrong in ({"stop": list("abcde")}, {"response_format": {"type": "xml"}}):
        with pytest.raises(openai.BadRequestError, match=next(iter(wrong))):
            ask(client, "sim-instant", **wrong)


def test_usage_comes_last_and_without_choices_when_it_was_asked_for(client, simulator):
    parts = chunks(client, "sim-instant", stream_options={"include_usage": True})
    assert parts[-1].choices == []
    assert parts[-1].usage.completion_tokens == simulator.last_call()["output_tokens"]
    assert all(part.usage is None for part in parts[:-1])


def test_usage_may_be_withheld(client):
    parts = chunks(client, "sim-instant+nousage", stream_options={"include_usage": True})
    assert all(part.usage is None for part in parts)
    assert ask(client, "sim-instant+nousage").usage is None


def test_reasoning_is_kept_apart_and_counted(client):
    parts = chunks(client, "sim-instant+think", stream_options={"include_usage": True})
    thought = "".join(getattr(part.choices[0].delta, "reasoning_content", None) or "" for part in parts if part.choices)
    assert "document this code" in thought
    assert "document this code" not in text_of(parts)
    assert 0 < parts[-1].usage.completion_tokens_details.reasoning_tokens < parts[-1].usage.completion_tokens


def test_a_reasoning_model_can_be_told_not_to_reason(client):
    quick = "sim-reasoner+ttft=0+speed=0"
    assert ask(client, quick).choices[0].message.reasoning_content
    silenced = ask(client, quick, extra_body={"enable_thinking": False})
    assert silenced.usage.completion_tokens_details.reasoning_tokens == 0
    assert not hasattr(silenced.choices[0].message, "reasoning_content")


def test_reasoning_may_stand_inside_the_content(client):
    assert text_of(chunks(client, "sim-instant+thinktag")).startswith("<think>")


def test_an_answer_ends_at_the_limit_that_was_asked_for(client):
    answer = ask(client, "sim-instant+tokens=100", max_completion_tokens=7)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 7)


def test_cached_input_is_reported(client):
    assert ask(client, "sim-instant+cached=9").usage.prompt_tokens_details.cached_tokens == 9


@pytest.mark.parametrize(
    ("model", "error", "code"),
    [
        ("sim-instant+auth", openai.AuthenticationError, "invalid_api_key"),
        ("sim-instant+quota", openai.RateLimitError, "insufficient_quota"),
        ("sim-instant+fail=429", openai.RateLimitError, "rate_limit_exceeded"),
        ("sim-instant+context", openai.BadRequestError, "context_length_exceeded"),
        ("sim-instant+filtered=400", openai.BadRequestError, "content_filter"),
        ("sim-instant+fail=503", openai.InternalServerError, None),
        ("sim-instant+overloaded", openai.InternalServerError, None),
        ("sim-unheard-of", openai.NotFoundError, "model_not_found"),
        ("sim-instant+nonsense", openai.BadRequestError, None),
    ],
)
def test_a_refusal_is_the_clients_own_error(client, simulator, model, error, code):
    with pytest.raises(error) as caught:
        ask(client, model)
    assert caught.value.code == code
    assert simulator.last_call()["outcome"] == "error"
    assert simulator.get("invoice")["nanousd"] == 0


def test_a_wrong_key_is_refused(simulator):
    with (
        openai.OpenAI(base_url=f"{simulator.url}/openai/v1", api_key="a wrong one", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        ask(client, "sim-instant")


def test_a_missing_key_is_refused(simulator):
    answer = httpx.post(f"{simulator.url}/openai/v1/chat/completions", json={}, trust_env=False)
    assert answer.status_code == 401


def at(simulator, house):
    return openai.OpenAI(base_url=f"{simulator.url}/{house}/v1", api_key="key", max_retries=0, timeout=10)


def test_an_error_may_be_a_text(simulator):
    with at(simulator, "own") as client:
        with pytest.raises(openai.NotFoundError) as caught:
            ask(client, "sim-unheard-of")
        assert caught.value.body == "model 'sim-unheard-of' not found"
        with pytest.raises(openai.APIError):
            chunks(client, "sim-instant+midfail=5")


def test_an_error_may_be_a_number_with_a_status_of_success(simulator):
    with at(simulator, "minimax") as client:
        answer = ask(client, "sim-instant+quota")
    assert (answer.choices, answer.base_resp["status_code"]) == (None, 1008)
    assert simulator.get("invoice")["nanousd"] == 0


def test_a_rate_limit_says_how_long_to_wait(client):
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, "sim-instant+fail=429+after=2")
    assert caught.value.response.headers["retry-after"] == "2"


def test_a_prompt_beyond_the_window_is_refused(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="sim-tiny", messages=[{"role": "user", "content": "word " * 300}])
    assert caught.value.code == "context_length_exceeded"


def test_a_filtered_answer_says_so(client):
    assert ask(client, "sim-instant+filtered").choices[0].finish_reason == "content_filter"
    assert chunks(client, "sim-instant+filtered")[-1].choices[0].finish_reason == "content_filter"


def test_an_error_in_mid_stream_reaches_the_client(client, simulator):
    with pytest.raises(openai.APIError):
        chunks(client, "sim-instant+midfail=5")
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("error", 5)


def test_a_cut_stream_is_billed_what_was_produced(client, simulator):
    with pytest.raises(openai.APIConnectionError):
        chunks(client, "sim-instant+tokens=60+cut=40")
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("cut", 40)
    assert simulator.get("invoice")["output_tokens"] == 40


def test_garbage_is_garbage(client, simulator):
    with pytest.raises(ValueError):
        chunks(client, "sim-instant+malformed=3")
    assert simulator.last_call()["outcome"] == "cut"


def test_a_reset_connection_has_no_answer(client, simulator):
    with pytest.raises(openai.APIConnectionError):
        ask(client, "sim-instant+reset")
    assert simulator.last_call()["status"] == 0


def test_silence_lasts_until_the_client_goes(client, simulator):
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.2), "sim-instant+silent")


def test_embeddings_are_the_same_in_both_encodings(client):
    floats = client.embeddings.create(model="sim-embed", input=["red fox", "red fox"], encoding_format="float")
    packed = client.embeddings.create(model="sim-embed", input="red fox", dimensions=64)
    assert floats.data[0].embedding == floats.data[1].embedding
    assert packed.data[0].embedding == pytest.approx(floats.data[0].embedding)
    assert math.hypot(*floats.data[0].embedding) == pytest.approx(1)
    assert floats.usage.prompt_tokens == 2 * packed.usage.prompt_tokens


def test_models_are_listed(client):
    assert {"sim-fast", "sim-smart", "sim-free", "sim-reasoner"} <= {model.id for model in client.models.list()}


def test_an_answer_can_be_dictated(client):
    said = "Grüße,\n\n“déjà vu” 🙂  "
    encoded = base64.urlsafe_b64encode(said.encode()).decode()
    assert text_of(chunks(client, f"sim-instant+say={encoded}")) == said


def raw_stream(simulator, model):
    order = {"model": model, "messages": TASK, "stream": True}
    url = f"{simulator.url}/openai/v1/chat/completions"
    return httpx.post(url, headers={"authorization": "Bearer key"}, json=order, trust_env=False).text


def test_a_stream_ends_with_done_unless_that_is_withheld(simulator):
    assert raw_stream(simulator, "sim-instant").endswith("data: [DONE]\n\n")
    without = raw_stream(simulator, "sim-instant+nodone")
    assert "[DONE]" not in without
    assert '"finish_reason":"stop"' in without
    assert simulator.last_call()["outcome"] == "whole"


def test_chunks_hold_as_many_tokens_as_ordered(client):
    counts = [len(chunks(client, f"sim-instant+tokens=12+per={per}")) for per in (1, 5, 100)]
    assert counts == [14, 5, 3]


def test_reasoning_can_be_in_the_other_field(client):
    assert ask(client, "sim-instant+think=reasoning").choices[0].message.reasoning


def test_a_stall_delays_and_does_not_break(client, simulator):
    assert chunks(client, "sim-instant+tokens=9+stall=4:0.05")[-1].choices[0].finish_reason == "stop"
    assert simulator.last_call()["output_tokens"] == 9


def test_a_paced_stream_is_whole(client, simulator):
    chunks(client, "sim-instant+tokens=30+ttft=0.01+speed=1000")
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("whole", 30)
