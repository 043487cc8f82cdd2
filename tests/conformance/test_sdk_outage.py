"""Faults, limits and the invoice while the simulator runs, seen through OpenAI's own client."""

import hashlib
import json
from decimal import ROUND_HALF_EVEN, Decimal

import httpx
import openai
import pytest

PROMPT = "Say something about rain."


@pytest.fixture
def connect(simulator):
    """A client of the provider of a name."""
    clients = []

    def connect(name):
        url = f"{simulator.url}/at/{name}/openai/v1"
        clients.append(openai.OpenAI(base_url=url, api_key="key", max_retries=0, timeout=10))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def ask(client, model="sim-instant", **more):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": PROMPT}], **more)


def wait_until_idle(simulator, name):
    for _ in range(10_000):
        if not simulator.get("limits")[name]["concurrent"]:
            return
    pytest.fail("a call never ended")


def test_a_fault_hits_one_provider_until_it_is_cleared(connect, simulator):
    simulator.post("faults", name="north", directives="+fail=503")
    with pytest.raises(openai.InternalServerError):
        ask(connect("north"))
    with pytest.raises(openai.InternalServerError):
        connect("north").models.list()
    assert ask(connect("south")).choices
    simulator.post("faults", name="north", directives="")
    assert ask(connect("north")).choices


def test_a_fault_can_be_of_one_model(connect, simulator):
    simulator.post("faults", name="north", model="sim-instant", directives="+auth")
    with pytest.raises(openai.AuthenticationError):
        ask(connect("north"), "sim-instant+tokens=5")
    assert ask(connect("north"), "sim-fast+ttft=0+speed=0").choices
    assert connect("north").models.list().data


def test_a_flaky_provider_recovers_and_can_be_made_flaky_again(connect, simulator):
    client = connect("north")
    for _ in range(2):
        simulator.post("faults", name="north", directives="+flaky=1")
        with pytest.raises(openai.InternalServerError):
            ask(client)
        assert ask(client).choices


def test_an_order_that_cannot_be_read_is_refused_whole(simulator):
    for order in ({"name": "north", "directives": "+nonsense"}, {"name": "north", "directives": "fail=500"}, {}):
        assert simulator.control.post("/_sim/faults", json=order).status_code == 400
    assert simulator.get("faults") == []


def test_a_limit_of_calls_refuses_the_next_and_tells_when(connect, simulator):
    simulator.post("limits", name="north", rpm=2)
    client = connect("north")
    left = []
    for _ in range(2):
        raw = client.chat.completions.with_raw_response.create(
            model="sim-instant", messages=[{"role": "user", "content": PROMPT}]
        )
        left.append(raw.headers["x-ratelimit-remaining-requests"])
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert left == ["1", "0"]
    assert 0 < float(caught.value.response.headers["retry-after"]) <= 60
    limits = simulator.get("limits")["north"]
    assert (limits["calls"], limits["refused"], limits["max_in_window"]) == (3, 1, 3)
    assert simulator.get("invoice")["calls"] == 2


def test_a_limit_of_tokens_counts_prompt_and_answer(connect, simulator):
    simulator.post("limits", name="north", tpm=30)
    client = connect("north")
    ask(client, "sim-instant+tokens=10")
    with pytest.raises(openai.RateLimitError):
        ask(client, "sim-instant+tokens=10")


def test_a_limit_of_calls_at_once_frees_its_place_when_a_call_ends(connect, simulator):
    simulator.post("limits", name="north", concurrency=1)
    client = connect("north")
    with ask(client, "sim-instant+stall=1:30", stream=True) as stream:
        next(iter(stream))
        with pytest.raises(openai.RateLimitError):
            ask(client)
    wait_until_idle(simulator, "north")
    assert ask(client).choices
    assert simulator.get("limits")["north"]["max_concurrent"] == 2


def test_a_client_that_leaves_pays_for_what_was_produced(connect, simulator):
    with ask(connect("north"), "sim-smart+ttft=0+speed=0+tokens=50+stall=20:30", stream=True) as stream:
        seen = 0
        for chunk in stream:
            seen += bool(chunk.choices[0].delta.content)
            if seen == 20:
                break
    wait_until_idle(simulator, "north")
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("client_gone", 20)
    expected = (Decimal(call["input_tokens"]) * 3 + Decimal(20) * 15) * 1000
    assert call["nanousd"] == int(expected.to_integral_value(ROUND_HALF_EVEN))


def test_a_call_is_recorded_with_the_hash_of_its_prompt_and_its_idempotency_key(connect, simulator):
    ask(connect("north"), extra_headers={"Idempotency-Key": "step-1"})
    call = simulator.last_call()
    assert (call["name"], call["dialect"], call["status"], call["outcome"]) == ("north", "openai", 200, "whole")
    assert call["prompt_sha256"] == hashlib.sha256(PROMPT.encode()).hexdigest()
    assert call["prompt_length"] == len(PROMPT)
    assert call["idempotency_key"] == "step-1"


def test_the_invoice_adds_up_by_name_and_model(connect, simulator):
    ask(connect("north"))
    ask(connect("north"), "sim-fast+ttft=0+speed=0")
    ask(connect("south"))
    invoice = simulator.get("invoice")
    assert set(invoice["names"]) == {"north", "south"}
    assert invoice["calls"] == 3
    assert invoice["nanousd"] == sum(call["nanousd"] for call in simulator.get("calls"))
    assert invoice["names"]["north"]["nanousd"] == sum(
        model["nanousd"] for model in invoice["names"]["north"]["models"].values()
    )


def test_a_reset_forgets_faults_limits_and_calls(connect, simulator):
    simulator.post("faults", name="north", directives="+fail=500")
    simulator.post("limits", name="north", rpm=1)
    simulator.post("reset")
    assert ask(connect("north")).choices
    assert ask(connect("north")).choices
    assert simulator.get("invoice")["calls"] == 2


def test_the_same_prompt_gets_the_same_answer_everywhere(connect):
    texts = {ask(connect(name)).choices[0].message.content for name in ("north", "south")}
    assert len(texts) == 1


def test_a_body_that_is_no_json_is_a_bad_request(simulator):
    url = f"{simulator.url}/openai/v1/chat/completions"
    for body in (b"{", b"[]", b'{"model":"sim-instant","messages":7}', b'{"messages":[{"content":"hi"}]}'):
        answer = httpx.post(url, headers={"authorization": "Bearer k"}, content=body, trust_env=False)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


def stream_of(dialect, model):
    """The path and the body of a streamed call."""
    messages = [{"role": "user", "content": PROMPT}]
    match dialect:
        case "openai":
            return "openai/v1/chat/completions", {"model": model, "messages": messages, "stream": True}
        case "anthropic":
            body = {"model": model, "messages": messages, "max_tokens": 99, "stream": True}
            return "anthropic/v1/messages", body
        case "gemini":
            body = {"contents": [{"parts": [{"text": PROMPT}]}]}
            return f"gemini/v1beta/models/{model}:streamGenerateContent?alt=sse", body
    return "ollama/api/chat", {"model": model, "messages": messages}


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini", "ollama"])
def test_garbage_ends_the_connection_in_every_dialect(simulator, dialect):
    path, body = stream_of(dialect, "sim-instant+malformed=3")
    headers = {"authorization": "Bearer key", "anthropic-version": "2023-06-01"}
    received: list[bytes] = []
    with (
        httpx.Client(trust_env=False) as client,
        client.stream("POST", f"{simulator.url}/{path}", json=body, headers=headers) as answer,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        received.extend(answer.iter_raw())
    with pytest.raises(json.JSONDecodeError):
        json.loads(b"".join(received).strip().splitlines()[-1].removeprefix(b"data: "))
    call = simulator.last_call()
    assert (call["dialect"], call["outcome"], call["output_tokens"]) == (dialect, "cut", 3)


def test_a_termination_ends_open_calls_and_the_process(own_process):
    process, url = own_process
    client = openai.OpenAI(base_url=f"{url}/openai/v1", api_key="key", max_retries=0, timeout=10)
    with client, ask(client, "sim-instant+stall=1:30", stream=True) as stream:
        parts = iter(stream)
        next(parts)
        process.terminate()
        with pytest.raises(openai.APIConnectionError):
            list(parts)
    assert process.wait(10) is not None
