"""The simulator's ollama dialect, judged by Ollama's own client."""

import httpx
import ollama
import pytest

TASK = [{"role": "user", "content": "Task: summarize this\n```python\nclass Basket:\n    pass\n```"}]


@pytest.fixture
def client(simulator):
    return ollama.Client(host=f"{simulator.url}/ollama", timeout=10, trust_env=False)


def parts(client, model, **more):
    return list(client.chat(model, TASK, stream=True, **more))


def test_an_answer_is_about_the_code_and_is_counted(client, simulator):
    answer = client.chat("sim-instant", TASK)
    assert "`Basket`" in answer.message.content
    assert (answer.done, answer.done_reason) == (True, "stop")
    call = simulator.last_call()
    assert (answer.prompt_eval_count, answer.eval_count) == (call["input_tokens"], call["output_tokens"])


def test_a_stream_says_the_same_as_a_whole_answer(client):
    streamed = parts(client, "sim-instant")
    assert "".join(part.message.content for part in streamed) == client.chat("sim-instant", TASK).message.content
    assert [part.done for part in streamed[-2:]] == [False, True]


def test_a_stream_is_what_one_gets_unasked(simulator):
    answer = httpx.post(f"{simulator.url}/ollama/api/chat", json={"model": "sim-instant", "messages": TASK})
    assert answer.headers["content-type"] == "application/x-ndjson"


def test_thinking_is_kept_apart_and_can_be_switched_off(client):
    quick = "sim-reasoner+ttft=0+speed=0"
    assert client.chat(quick, TASK, think=True).message.thinking
    assert "".join(part.message.thinking or "" for part in parts(client, quick, think=True))
    assert client.chat(quick, TASK, think=False).message.thinking is None


def test_an_answer_ends_at_the_limit_that_was_asked_for(client):
    answer = client.chat("sim-instant+tokens=100", TASK, options={"num_predict": 7})
    assert (answer.done_reason, answer.eval_count) == ("length", 7)


def test_a_prompt_beyond_the_window_is_shortened_in_silence(client):
    prompt = [{"role": "user", "content": "word " * 300}]
    assert client.chat("sim-instant", prompt, options={"num_ctx": 100}).prompt_eval_count == 100
    assert client.chat("sim-tiny", prompt).prompt_eval_count == 256


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("sim-instant+auth", 401),
        ("sim-instant+fail=429", 429),
        ("sim-instant+overloaded", 503),
        ("sim-instant+fail=500", 500),
        ("sim-instant+context", 400),
        ("sim-unheard-of", 404),
    ],
)
def test_a_refusal_is_the_clients_own_error(client, model, status):
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model, TASK)
    assert caught.value.status_code == status


def test_an_error_in_mid_stream_reaches_the_client(client, simulator):
    with pytest.raises(ollama.ResponseError) as caught:
        parts(client, "sim-instant+midfail=5")
    assert caught.value.status_code == -1
    assert simulator.last_call()["output_tokens"] == 5


def test_a_cut_stream_is_billed_what_was_produced(client, simulator):
    with pytest.raises(httpx.RemoteProtocolError):
        parts(client, "sim-instant+cut=5")
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("cut", 5)


def test_texts_are_embedded(client):
    answer = client.embed("sim-embed", ["red fox", "red fox", "blue sky"])
    first, second, third = answer.embeddings
    assert first == second != third
    assert answer.prompt_eval_count > 0


def test_what_is_too_long_is_embedded_in_part_unless_it_may_not(client):
    long = "red fox " * 5000
    assert client.embed("sim-embed", long).prompt_eval_count == 8192
    with pytest.raises(ollama.ResponseError) as caught:
        client.embed("sim-embed", long, truncate=False)
    assert (caught.value.status_code, caught.value.error) == (400, "the input length exceeds the context length")


def test_a_local_server_tells_of_its_models(client):
    assert "sim-fast" in {model.model for model in client.list().models}
    assert "sim-fast" in {model.model for model in client.ps().models}
    assert client.show("sim-reasoner").capabilities == ["completion", "thinking"]
    with pytest.raises(ollama.ResponseError):
        client.show("sim-unheard-of")
