"""The simulator's openai dialect, judged by the clients of vendors who speak it in their own way."""

import groq
import httpx
import httpx2
import huggingface_hub
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


@pytest.fixture(params=[HuggingFace, MistralAi, Groq, Together], ids=lambda one: one.__name__)
def client(request, simulator):
    # This client brings the path of its vendor along.
    root = f"{simulator.url}/openai"
    return request.param(f"{simulator.url}/at/groq" if request.param is Groq else root)


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


@pytest.mark.parametrize("client", [MistralAi, Together], indirect=True)
def test_texts_become_vectors(client):
    first, second, third = client.embed("sim-embed", ["red fox", "red fox", "blue sky"])
    assert first.embedding == second.embedding != third.embedding


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
