"""The simulator's openai dialect, judged by the clients of vendors who speak it in their own way."""

import json

import groq
import httpx
import httpx2
import huggingface_hub
import openai
import pytest
import together
from huggingface_hub.errors import HfHubHTTPError, TextGenerationError
from mistralai.client import Mistral
from mistralai.client.errors import MistralError, SDKError

TASK = [{"role": "user", "content": "Task: summarize this\n```python\nclass Basket:\n    pass\n```"}]


class Groq:
    def __init__(self, url):
        self._client = groq.Groq(api_key="key", base_url=url, max_retries=0, timeout=10)

    def ask(self, model):
        return self._client.chat.completions.create(model=model, messages=TASK)

    def stream(self, model):
        return self._client.chat.completions.create(model=model, messages=TASK, stream=True)

    def status(self, error):
        return error.status_code

    def embed(self, model, texts):
        return self._client.embeddings.create(model=model, input=texts).data

    refused = groq.APIStatusError
    broken, cut = groq.APIError, httpx.RemoteProtocolError


class HuggingFace:
    def __init__(self, url):
        self._client = huggingface_hub.InferenceClient(base_url=f"{url}/v1", api_key="key", timeout=10)

    def ask(self, model):
        return self._client.chat_completion(TASK, model=model)

    def stream(self, model):
        return self._client.chat_completion(TASK, model=model, stream=True, stream_options={"include_usage": True})

    def status(self, error):
        return error.response.status_code

    refused = HfHubHTTPError
    broken, cut = TextGenerationError, httpx2.RemoteProtocolError


class MistralAi:
    def __init__(self, url):
        self._client = Mistral(api_key="key", server_url=url, timeout_ms=10_000)

    def ask(self, model):
        return self._client.chat.complete(model=model, messages=TASK)

    def stream(self, model):
        return (event.data for event in self._client.chat.stream(model=model, messages=TASK))

    def status(self, error):
        return error.status_code

    def embed(self, model, texts):
        return self._client.embeddings.create(model=model, inputs=texts).data

    refused = SDKError
    broken, cut = MistralError, httpx2.RemoteProtocolError


class Together:
    def __init__(self, url):
        self._client = together.Together(api_key="key", base_url=url, max_retries=0, timeout=10)

    def ask(self, model):
        return self._client.chat.completions.create(model=model, messages=TASK)

    def stream(self, model):
        return self._client.chat.completions.create(model=model, messages=TASK, stream=True)

    def status(self, error):
        return error.status_code

    def embed(self, model, texts):
        return self._client.embeddings.create(model=model, input=texts).data

    refused = together.APIStatusError
    broken, cut = together.APIError, httpx.RemoteProtocolError


class Azure:
    def __init__(self, url):
        self._client = openai.AzureOpenAI(
            azure_endpoint=url, api_version="2024-10-21", api_key="key", max_retries=0, timeout=10
        )

    def ask(self, model, **more):
        return self._client.chat.completions.create(model=model, messages=TASK, **more)

    def stream(self, model):
        return self.ask(model, stream=True)

    def status(self, error):
        return error.status_code

    def embed(self, model, texts):
        return self._client.embeddings.create(model=model, input=texts).data

    refused = openai.APIStatusError
    broken, cut = openai.APIError, openai.APIConnectionError


# these bring the path of their vendor along, and are answered in its words
AT_HOME = {Groq: "groq", MistralAi: "mistral", Azure: "azure"}
CLIENTS = [HuggingFace, MistralAi, Groq, Together, Azure]


@pytest.fixture(params=CLIENTS, ids=lambda one: one.__name__)
def client(request, simulator):
    return request.param(f"{simulator.url}/{AT_HOME.get(request.param, 'openai')}")


def test_an_answer_is_about_the_code_and_is_counted(client, simulator):
    answer = client.ask("sim-instant")
    assert "`Basket`" in answer.choices[0].message.content
    call = simulator.last_call()
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (call["input_tokens"], call["output_tokens"])


def test_a_stream_says_the_same_as_a_whole_answer(client):
    chunks = [chunk for chunk in client.stream("sim-instant") if chunk.choices]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == client.ask("sim-instant").choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("model", "status"),
    [("sim-instant+auth", 401), ("sim-unheard-of", 404), ("sim-instant+fail=429", 429), ("sim-instant+context", 400)],
)
def test_a_refusal_is_the_clients_own_error(client, model, status):
    with pytest.raises(client.refused) as caught:
        client.ask(model)
    assert client.status(caught.value) == status


@pytest.mark.parametrize("client", [HuggingFace, Groq, Together], indirect=True)
def test_reasoning_is_a_field_of_its_own(client):
    message = client.ask("sim-instant+think=reasoning").choices[0].message
    assert message.reasoning.startswith("The task is")
    assert message.reasoning not in message.content


@pytest.mark.parametrize("client", [MistralAi], indirect=True)
def test_reasoning_is_an_item_of_the_content(client):
    thinking, said = client.ask("sim-instant+think").choices[0].message.content
    assert (thinking.type, said.type) == ("thinking", "text")
    assert thinking.thinking[0].text.startswith("The task is")
    pieces = [chunk.choices[0].delta.content for chunk in client.stream("sim-instant+think+per=3")]
    thought = [item.thinking[0].text for piece in pieces if isinstance(piece, list) for item in piece]
    assert "".join(thought) == thinking.thinking[0].text
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == said.text


@pytest.mark.parametrize("client", [Groq], indirect=True)
def test_a_stream_says_its_counts_in_a_field_of_the_vendor(client, simulator):
    first, *_, last = client.stream("sim-instant")
    call = simulator.last_call()
    assert (last.x_groq.usage.prompt_tokens, last.x_groq.usage.completion_tokens) == (
        call["input_tokens"],
        call["output_tokens"],
    )
    assert (first.x_groq.id, last.usage) == (last.x_groq.id, None)


@pytest.mark.parametrize("client", [MistralAi], indirect=True)
def test_a_stream_says_its_counts_unasked_with_the_end(client, simulator):
    *chunks, last = client.stream("sim-instant")
    assert last.usage.completion_tokens == simulator.last_call()["output_tokens"]
    assert (last.choices[0].finish_reason, {chunk.usage for chunk in chunks}) == ("stop", {None})


@pytest.mark.parametrize("client", [MistralAi], indirect=True)
def test_a_refusal_is_the_clients_own_error_and_flat(client):
    for model, status in (("sim-instant+quota", 402), ("sim-instant+fail=429", 429)):
        with pytest.raises(MistralError) as caught:
            client.ask(model)
        body = json.loads(caught.value.body)
        assert (caught.value.status_code, body["object"], "error" in body) == (status, "error", False)
        assert {"message", "type", "param", "code"} <= set(body)


@pytest.mark.parametrize("client", [Azure], indirect=True)
def test_a_refusal_is_the_clients_own_error_of_a_filter(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.ask("sim-instant+filtered=400")
    assert (caught.value.code, "innererror" in caught.value.body) == ("content_filter", True)
    assert client.ask("sim-instant+filtered").choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize("client", [Azure], indirect=True)
def test_a_stream_says_first_what_its_filter_found(client):
    first, second, *_ = client.stream("sim-instant")
    assert (first.choices, first.prompt_filter_results[0]["prompt_index"]) == ([], 0)
    assert second.choices[0].delta.role == "assistant"


@pytest.mark.parametrize("client", [Azure], indirect=True)
def test_a_thought_is_counted(client):
    assert client.ask("sim-instant+think=hidden").usage.completion_tokens_details.reasoning_tokens > 0


def test_a_deployment_is_asked_for_by_a_version(simulator):
    path, headers = f"{simulator.url}/azure/openai/deployments/sim-instant/chat/completions", {"api-key": "key"}
    answers = [
        httpx.post(url, headers=headers, json={"messages": TASK}, trust_env=False)
        for url in (path, f"{path}?api-version=2024-10-21")
    ]
    assert [answer.status_code for answer in answers] == [400, 200]


@pytest.mark.parametrize("client", [MistralAi, Together, Groq, Azure], indirect=True)
def test_texts_become_vectors(client):
    first, second, third = client.embed("sim-embed", ["red fox", "red fox", "blue sky"])
    assert first.embedding == second.embedding != third.embedding


@pytest.mark.parametrize("client", [Groq], indirect=True)
def test_an_error_in_mid_stream_may_be_a_field_of_the_vendor(client):
    *_, last = client.stream("sim-instant+midfail=5")
    assert (last.choices, last.x_groq.error) == ([], "The server had an error while processing your request.")


@pytest.mark.parametrize("client", [one for one in CLIENTS if one is not Groq], indirect=True)
def test_an_error_in_mid_stream_reaches_the_client(client, simulator):
    with pytest.raises(client.broken):
        list(client.stream("sim-instant+midfail=5"))
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("error", 5)


def test_a_cut_stream_is_billed_what_was_produced(client, simulator):
    with pytest.raises(client.cut):
        list(client.stream("sim-instant+tokens=60+cut=40"))
    call = simulator.last_call()
    assert (call["outcome"], call["output_tokens"]) == ("cut", 40)
