"""The simulator's calls of tools, judged by the clients of the vendors: streamed, whole, and answered."""

import json

import anthropic
import boto3
import cohere
import groq
import huggingface_hub
import ollama
import openai
import pytest
import together
from google import genai
from google.genai import types
from mistralai.client import Mistral

from tests.conformance.test_tools import LOOK, SEEN, WAIT

ASKED = {"role": "user", "content": "How is the sea?"}
TOOLS = [LOOK, {**WAIT, "function": {**WAIT["function"], "parameters": {"type": "object", "properties": {}}}}]
MODEL = "sim-instant+call=2+per=1"


class Completions:
    """Whoever speaks chat completions as OpenAI's client does."""

    def __init__(self, create, stream=None):
        self._create = create
        self._stream = stream or (lambda **more: create(stream=True, **more))

    def whole(self):
        message = self._create(model=MODEL, messages=[ASKED], tools=TOOLS).choices[0].message
        return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]

    def streamed(self):
        found, reason = {}, None
        for chunk in self._stream(model=MODEL, messages=[ASKED], tools=TOOLS):
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                for call in choice.delta.tool_calls or ():
                    known = found.setdefault(call.index, ["", ""])
                    known[0] += call.function.name or ""
                    known[1] += call.function.arguments or ""
        assert reason == "tool_calls"
        return [(name, json.loads(arguments)) for name, arguments in found.values()]

    def answered(self):
        message = self._create(model=MODEL, messages=[ASKED], tools=TOOLS).choices[0].message
        calls = [
            {"id": c.id, "type": "function", "function": {"name": c.function.name, "arguments": c.function.arguments}}
            for c in message.tool_calls
        ]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "calm"} for call in calls]
        told = [ASKED, {"role": "assistant", "content": "", "tool_calls": calls}, *results]
        return self._create(model=MODEL, messages=told, tools=TOOLS).choices[0].message.content


def by_openai(url):
    return Completions(openai.OpenAI(base_url=f"{url}/openai/v1", api_key="key", max_retries=0).chat.completions.create)


def by_groq(url):
    return Completions(groq.Groq(base_url=f"{url}/groq", api_key="key", max_retries=0).chat.completions.create)


def by_huggingface(url):
    return Completions(huggingface_hub.InferenceClient(base_url=f"{url}/openai/v1", api_key="key").chat_completion)


def by_together(url):
    client = together.Together(base_url=f"{url}/openai", api_key="key", max_retries=0)
    return Completions(client.chat.completions.create)


def by_mistral(url):
    chat = Mistral(api_key="key", server_url=f"{url}/mistral").chat
    return Completions(chat.complete, lambda **more: (event.data for event in chat.stream(**more)))


def by_azure(url):
    version = "2024-10-21"
    client = openai.AzureOpenAI(azure_endpoint=f"{url}/azure", api_version=version, api_key="key", max_retries=0)
    return Completions(client.chat.completions.create)


class by_anthropic:  # noqa: N801 - stands beside functions that make the others
    tools = (
        {"name": "look", "input_schema": LOOK["function"]["parameters"]},
        {"name": "wait", "input_schema": {"type": "object", "properties": {}}},
    )

    def __init__(self, url):
        self._client = anthropic.Anthropic(base_url=f"{url}/anthropic", api_key="key", max_retries=0)

    def _ask(self, told=(ASKED,)):
        return {"model": MODEL, "max_tokens": 400, "messages": list(told), "tools": list(self.tools)}

    def whole(self):
        answer = self._client.messages.create(**self._ask())
        assert answer.stop_reason == "tool_use"
        return [(block.name, block.input) for block in answer.content if block.type == "tool_use"]

    def streamed(self):
        with self._client.messages.stream(**self._ask()) as stream:
            content = stream.get_final_message().content
        return [(block.name, block.input) for block in content if block.type == "tool_use"]

    def answered(self):
        made = self._client.messages.create(**self._ask()).content
        results = [{"type": "tool_result", "tool_use_id": block.id, "content": "calm"} for block in made]
        turn = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in made]}
        told = (ASKED, turn, {"role": "user", "content": results})
        return self._client.messages.create(**self._ask(told)).content[0].text


class by_gemini:  # noqa: N801
    def __init__(self, url):
        options = types.HttpOptions(base_url=f"{url}/gemini", api_version="v1beta")
        self._client = genai.Client(api_key="key", http_options=options)
        self._models = self._client.models
        told = [
            types.FunctionDeclaration(name="look", parameters_json_schema=LOOK["function"]["parameters"]),
            types.FunctionDeclaration(name="wait"),
        ]
        self._config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=told)])

    def whole(self):
        answer = self._models.generate_content(model=MODEL, contents="How is the sea?", config=self._config)
        return [(call.name, call.args) for call in answer.function_calls]

    def streamed(self):
        stream = self._models.generate_content_stream(model=MODEL, contents="How is the sea?", config=self._config)
        return [(call.name, call.args) for chunk in stream for call in chunk.function_calls or ()]

    def answered(self):
        answer = self._models.generate_content(model=MODEL, contents="How is the sea?", config=self._config)
        results = [
            types.Part.from_function_response(name=call.name, response={"result": "calm"})
            for call in answer.function_calls
        ]
        told = [
            types.UserContent("How is the sea?"),
            answer.candidates[0].content,
            types.Content(role="user", parts=results),
        ]
        return self._models.generate_content(model=MODEL, contents=told, config=self._config).text


class by_ollama:  # noqa: N801
    def __init__(self, url):
        self.seen = {**SEEN, "deep": {}}  # this client drops what a description says of objects in objects
        self._client = ollama.Client(host=f"{url}/ollama")

    def _ask(self, told=(ASKED,), **more):
        return self._client.chat(model=MODEL, messages=list(told), tools=TOOLS, **more)

    def whole(self):
        return [(call.function.name, call.function.arguments) for call in self._ask().message.tool_calls]

    def streamed(self):
        calls = [call for part in self._ask(stream=True) for call in part.message.tool_calls or ()]
        return [(call.function.name, call.function.arguments) for call in calls]

    def answered(self):
        message = self._ask().message
        results = [{"role": "tool", "tool_name": call.function.name, "content": "calm"} for call in message.tool_calls]
        return self._ask((ASKED, message, *results)).message.content


class by_cohere:  # noqa: N801
    def __init__(self, url):
        self._client = cohere.ClientV2(api_key="key", base_url=f"{url}/cohere")

    def whole(self):
        answer = self._client.chat(model=MODEL, messages=[ASKED], tools=TOOLS)
        assert answer.finish_reason == "TOOL_CALL"
        return [(call.function.name, json.loads(call.function.arguments)) for call in answer.message.tool_calls]

    def streamed(self):
        found = {}
        for event in self._client.chat_stream(model=MODEL, messages=[ASKED], tools=TOOLS):
            if event.type == "tool-call-start":
                found[event.index] = [event.delta.message.tool_calls.function.name, ""]
            elif event.type == "tool-call-delta":
                found[event.index][1] += event.delta.message.tool_calls.function.arguments
        return [(name, json.loads(arguments)) for name, arguments in found.values()]

    def answered(self):
        calls = self._client.chat(model=MODEL, messages=[ASKED], tools=TOOLS).message.tool_calls
        results = [{"role": "tool", "tool_call_id": call.id, "content": "calm"} for call in calls]
        told = [ASKED, {"role": "assistant", "tool_calls": calls, "tool_plan": "I look."}, *results]
        return self._client.chat(model=MODEL, messages=told, tools=TOOLS).message.content[0].text


class by_bedrock:  # noqa: N801
    tools = (
        {"toolSpec": {"name": "look", "inputSchema": {"json": LOOK["function"]["parameters"]}}},
        {"toolSpec": {"name": "wait", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
    )

    def __init__(self, url):
        keys = {"aws_access_key_id": "sim-id", "aws_secret_access_key": "sim-secret"}
        place = {"endpoint_url": f"{url}/bedrock", "region_name": "us-east-1"}
        self._client = boto3.client("bedrock-runtime", **place, **keys)

    def _ask(self, told=()):
        messages = [{"role": "user", "content": [{"text": "How is the sea?"}]}, *told]
        return {"modelId": MODEL, "messages": messages, "toolConfig": {"tools": list(self.tools)}}

    def whole(self):
        answer = self._client.converse(**self._ask())
        assert answer["stopReason"] == "tool_use"
        uses = [block["toolUse"] for block in answer["output"]["message"]["content"]]
        return [(use["name"], use["input"]) for use in uses]

    def streamed(self):
        found = {}
        for event in self._client.converse_stream(**self._ask())["stream"]:
            if "contentBlockStart" in event:
                start = event["contentBlockStart"]
                found[start["contentBlockIndex"]] = [start["start"]["toolUse"]["name"], ""]
            elif "contentBlockDelta" in event:
                delta = event["contentBlockDelta"]
                found[delta["contentBlockIndex"]][1] += delta["delta"]["toolUse"]["input"]
        return [(name, json.loads(arguments)) for name, arguments in found.values()]

    def answered(self):
        turn = self._client.converse(**self._ask())["output"]["message"]
        ids = [block["toolUse"]["toolUseId"] for block in turn["content"]]
        results = [{"toolResult": {"toolUseId": one, "content": [{"text": "calm"}]}} for one in ids]
        answer = self._client.converse(**self._ask((turn, {"role": "user", "content": results})))
        return answer["output"]["message"]["content"][0]["text"]


CLIENTS = [
    by_openai, by_groq, by_huggingface, by_mistral, by_together, by_anthropic, by_gemini, by_ollama, by_cohere,
    by_bedrock, by_azure,
]  # fmt: skip


@pytest.fixture(params=CLIENTS, ids=lambda one: one.__name__)
def client(request, simulator):
    return request.param(simulator.url)


def test_calls_come_whole(client):
    assert client.whole() == [("look", getattr(client, "seen", SEEN)), ("wait", {})]


def test_calls_come_in_pieces(client):
    assert client.streamed() == [("look", getattr(client, "seen", SEEN)), ("wait", {})]


def test_results_bring_an_answer(client):
    assert client.answered()


def test_a_result_of_a_call_that_nobody_made_is_refused(simulator):
    client = openai.OpenAI(base_url=f"{simulator.url}/openai/v1", api_key="key", max_retries=0)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="sim-instant", messages=[ASKED, {"role": "tool", "tool_call_id": "c9", "content": "calm"}]
        )
