"""The simulator's replicate dialect, judged by Replicate's own client."""

import pytest
import replicate
from replicate.exceptions import ModelError, ReplicateError

PROMPT = "Task: summarize this\n```python\nclass Basket:\n    pass\n```"
WISHES = {"prompt": PROMPT, "system_prompt": "Be brief."}


@pytest.fixture
def client(simulator):
    return replicate.Client(api_token="token", base_url=f"{simulator.url}/replicate", timeout=10)


def streamed(client, model, **wishes):
    return [str(event) for event in client.stream(f"sim/{model}", input={**WISHES, **wishes})]


def created(client, model, **wishes):
    return client.models.predictions.create(model=("sim", model), input={**WISHES, **wishes})


def test_a_run_waits_for_its_output(client, simulator):
    output = client.run("sim/sim-instant", input=WISHES)
    assert "`Basket`" in "".join(output)
    assert simulator.last_call()["outcome"] == "whole"


def test_a_stream_says_the_same_as_a_run(client):
    assert "".join(streamed(client, "sim-instant")) == "".join(client.run("sim/sim-instant", input=WISHES))


def test_a_finished_prediction_tells_its_counts(client, simulator):
    prediction = created(client, "sim-instant")
    prediction.wait()
    call = simulator.last_call()
    assert prediction.status == "succeeded"
    assert prediction.metrics["input_token_count"] == call["input_tokens"]
    assert prediction.metrics["output_token_count"] == call["output_tokens"]


def test_a_prediction_can_be_cancelled_and_pays_for_what_was_produced(client, simulator):
    prediction = created(client, "sim-instant+tokens=50+stall=7:30")
    assert prediction.status == "processing"
    prediction.cancel()
    assert prediction.status == "canceled"
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("client_gone", 7)


def test_an_output_ends_at_the_limit_that_was_asked_for(client, simulator):
    streamed(client, "sim-instant+tokens=50", max_tokens=7)
    assert simulator.last_call()["output_tokens"] == 7


def test_thinking_comes_in_tags_and_can_be_kept_short(client):
    quick = "sim-reasoner+ttft=0+speed=0"
    assert "".join(streamed(client, quick)).startswith("<think>The task is")
    assert "<think>" not in "".join(streamed(client, quick, reasoning_effort="minimal"))


def test_a_failed_prediction_is_the_clients_own_error(client):
    with pytest.raises(ModelError):
        client.run("sim/sim-instant+midfail=5", input=WISHES)
    with pytest.raises(RuntimeError, match="error"):
        streamed(client, "sim-instant+midfail=5")


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("sim-instant+auth", 401),
        ("sim-instant+quota", 402),
        ("sim-unheard-of", 404),
        ("sim-instant+context", 422),
        ("sim-instant+fail=429", 429),
        ("sim-instant+fail=500", 500),
    ],
)
def test_a_refusal_is_the_clients_own_error(client, model, status):
    with pytest.raises(ReplicateError) as caught:
        created(client, model)
    assert (caught.value.status, bool(caught.value.detail)) == (status, True)


def test_models_are_listed(client):
    assert "sim-fast" in {model.name for model in client.models.list()}
