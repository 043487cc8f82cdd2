"""The simulator's gemini dialect, judged by Google's own client."""

import httpx
import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

TASK = "Task: write a unit test\n```python\ndef add(a, b):\n    return a + b\n```"


@pytest.fixture
def client(simulator):
    options = types.HttpOptions(base_url=f"{simulator.url}/gemini", api_version="v1beta", timeout=10_000)
    with genai.Client(api_key="key", http_options=options) as client:
        yield client


def ask(client, model, **config):
    return client.models.generate_content(
        model=model, contents=TASK, config=types.GenerateContentConfig(system_instruction="Be brief.", **config)
    )


def parts(client, model, **config):
    return list(
        client.models.generate_content_stream(
            model=model, contents=TASK, config=types.GenerateContentConfig(system_instruction="Be brief.", **config)
        )
    )


def test_an_answer_is_about_the_code_and_is_counted(client, simulator):
    answer = ask(client, "sim-instant")
    assert "def test_add" in answer.text
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    call = simulator.last_call()
    usage = answer.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count) == (call["input_tokens"], call["output_tokens"])


def test_a_stream_says_the_same_as_a_whole_answer(client, simulator):
    streamed = parts(client, "sim-instant")
    assert "".join(part.text or "" for part in streamed) == ask(client, "sim-instant").text
    assert streamed[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert streamed[-1].usage_metadata.candidates_token_count == simulator.last_call()["output_tokens"]


def test_thoughts_show_only_when_asked_for_and_count_always(client, simulator):
    quick = "sim-reasoner+ttft=0+speed=0"
    hidden = ask(client, quick)
    shown = ask(client, quick, thinking_config=types.ThinkingConfig(include_thoughts=True))
    assert [part.thought for part in hidden.candidates[0].content.parts] == [None]
    assert [part.thought for part in shown.candidates[0].content.parts] == [True, None]
    for answer in (hidden, shown):
        usage = answer.usage_metadata
        assert usage.thoughts_token_count > 0
        assert usage.candidates_token_count + usage.thoughts_token_count == simulator.last_call()["output_tokens"]


def test_thinking_can_be_switched_off(client):
    quiet = ask(client, "sim-reasoner+ttft=0+speed=0", thinking_config=types.ThinkingConfig(thinking_budget=0))
    assert quiet.usage_metadata.thoughts_token_count is None


def test_an_answer_ends_at_the_limit_that_was_asked_for(client):
    answer = ask(client, "sim-instant+tokens=100", max_output_tokens=7)
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert answer.usage_metadata.candidates_token_count == 7


@pytest.mark.parametrize(
    ("model", "code", "status"),
    [
        ("sim-instant+auth", 401, "UNAUTHENTICATED"),
        ("sim-instant+quota", 429, "RESOURCE_EXHAUSTED"),
        ("sim-instant+fail=429", 429, "RESOURCE_EXHAUSTED"),
        ("sim-instant+overloaded", 503, "UNAVAILABLE"),
        ("sim-instant+fail=500", 500, "INTERNAL"),
        ("sim-instant+context", 400, "INVALID_ARGUMENT"),
        ("sim-unheard-of", 404, "NOT_FOUND"),
    ],
)
def test_a_refusal_is_the_clients_own_error(client, model, code, status):
    with pytest.raises(errors.APIError) as caught:
        ask(client, model)
    assert (caught.value.code, caught.value.status) == (code, status)


def test_a_rate_limit_says_in_its_body_how_long_to_wait(client):
    with pytest.raises(errors.ClientError) as caught:
        ask(client, "sim-instant+fail=429+after=17")
    details = caught.value.details["error"]["details"]
    assert [detail["retryDelay"] for detail in details if "retryDelay" in detail] == ["17s"]


def test_a_blocked_prompt_has_no_candidates(client):
    for answer in (ask(client, "sim-instant+filtered"), parts(client, "sim-instant+filtered")[-1]):
        assert not answer.candidates
        assert answer.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT


def test_an_error_in_mid_stream_reaches_the_client(client, simulator):
    with pytest.raises(errors.ServerError) as caught:
        parts(client, "sim-instant+midfail=5")
    assert caught.value.code == 503
    assert simulator.last_call()["output_tokens"] == 5


def test_a_cut_stream_is_billed_what_was_produced(client, simulator):
    with pytest.raises(Exception, match="peer closed connection"):
        parts(client, "sim-instant+cut=5")
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("cut", 5)


def test_a_name_with_a_colon_is_a_model(client):
    assert ask(client, "sim-instant+stall=3:0").text


def test_without_events_a_stream_is_one_array(simulator):
    answer = httpx.post(
        f"{simulator.url}/gemini/v1beta/models/sim-instant:streamGenerateContent?key=k",
        json={"contents": [{"parts": [{"text": "hi"}]}]},
        trust_env=False,
    )
    assert answer.json()[-1]["candidates"][0]["finishReason"] == "STOP"


def test_texts_are_embedded(client):
    answer = client.models.embed_content(model="sim-embed", contents=["red fox", "red fox", "blue sky"])
    first, second, third = (embedding.values for embedding in answer.embeddings)
    assert first == second != third


def test_models_are_listed(client):
    assert "models/sim-fast" in {model.name for model in client.models.list()}


@pytest.fixture
def vertex(simulator):
    options = types.HttpOptions(base_url=f"{simulator.url}/gemini", timeout=10_000)
    token = Credentials(token="token")
    with genai.Client(
        vertexai=True, project="p1", location="us-central1", credentials=token, http_options=options
    ) as client:
        yield client


def test_vertex_is_asked_with_a_bearer_token_at_addresses_of_its_own(simulator):
    options = types.HttpOptions(base_url=f"{simulator.url}/gemini", api_version="v1", timeout=10_000)
    token = Credentials(token="token")
    with genai.Client(
        vertexai=True, project="p1", location="us-central1", credentials=token, http_options=options
    ) as client:
        streamed = parts(client, "sim-instant")
        assert "".join(part.text or "" for part in streamed) == ask(client, "sim-instant").text


VERTEX_EMBEDS = pytest.mark.parametrize("model", ["sim-embed", "gemini-sim-embed"])


@VERTEX_EMBEDS
def test_a_text_is_embedded_by_vertex_and_counted(vertex, simulator, model):
    wish = types.EmbedContentConfig(task_type="RETRIEVAL_QUERY", output_dimensionality=16)
    (found,) = vertex.models.embed_content(model=model, contents="red fox", config=wish).embeddings
    assert len(found.values) == 16
    assert found.statistics.token_count == simulator.last_call()["input_tokens"]
    assert not found.statistics.truncated


def test_texts_are_embedded_by_vertex_in_order(vertex):
    answer = vertex.models.embed_content(model="sim-embed", contents=["red fox", "red fox", "blue sky"])
    first, second, third = (embedding.values for embedding in answer.embeddings)
    assert first == second != third


@VERTEX_EMBEDS
def test_what_is_too_long_is_embedded_by_vertex_in_part_unless_it_may_not(vertex, model):
    long = "red fox " * 5000
    (found,) = vertex.models.embed_content(model=model, contents=long).embeddings
    assert found.statistics.truncated
    assert found.statistics.token_count == 8192
    with pytest.raises(errors.ClientError) as caught:
        vertex.models.embed_content(model=model, contents=long, config=types.EmbedContentConfig(auto_truncate=False))
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
