"""How dialects are asked for vectors, and how they answer. One class each; `EMBEDDING` names them as rows do.

Many cut a text that is too long for a model and do not say so: those who have a word for it are asked to refuse.
"""

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from providers.embed import Embed, Embedder, Embeddings, Vector
from providers.errors import ContextTooLong, Malformed
from providers.message import Usage
from providers.provider import Provider
from providers.wire import dialect
from providers.wire.bedrock import signed
from providers.wire.dialect import HttpRequest
from providers.wire.field import count, counted, entries, load, tree


class Plain:
    """What many took over from OpenAI; what a provider calls otherwise stands in its row."""

    most_texts = 128

    def request(self, provider: Provider, embed: Embed) -> HttpRequest:
        words = dialect.quirks(provider, embed.model).get("embedding", {})
        body: dict[str, Any] = {"model": embed.model, "input": embed.texts}
        if (purpose := words.get("purpose_field")) is not None:
            body[purpose] = words.get(embed.purpose, embed.purpose)
        if embed.dimensions is not None:
            body[words.get("dimensions_field", "dimensions")] = embed.dimensions
        if (truncation := words.get("truncation_field")) is not None:
            body[truncation] = False
        return _post(provider, embed, "/embeddings", {**body, **self._format()})

    def _format(self) -> Mapping[str, str]:
        return {}

    def parse(self, body: bytes, count_: int) -> Embeddings:
        answer = load(body)
        rows = [tree(row) for row in entries(answer.get("data"))]
        rows.sort(key=lambda row: count(row.get("index")))
        usage = tree(answer.get("usage"))
        prompt = usage.get("prompt_tokens", usage.get("total_tokens"))
        return _embeddings([row.get("embedding") for row in rows], count_, prompt)


class OpenAi(Plain):
    most_texts = 2048

    def _format(self) -> Mapping[str, str]:
        return {"encoding_format": "float"}


class Gemini:
    most_texts = 100

    def request(self, provider: Provider, embed: Embed) -> HttpRequest:
        wish: dict[str, Any] = {"model": f"models/{embed.model}", "taskType": f"RETRIEVAL_{embed.purpose.upper()}"}
        if embed.dimensions is not None:
            wish["outputDimensionality"] = embed.dimensions
        body = {"requests": [{**wish, "content": {"parts": [{"text": text}]}} for text in embed.texts]}
        return _post(provider, embed, "/v1beta/models/{model}:batchEmbedContents", body)

    def parse(self, body: bytes, count_: int) -> Embeddings:
        answer = load(body)
        rows = [tree(row).get("values") for row in entries(answer.get("embeddings"))]
        return _embeddings(rows, count_, tree(answer.get("usageMetadata")).get("promptTokenCount"))


class Ollama:
    most_texts = 512

    def request(self, provider: Provider, embed: Embed) -> HttpRequest:
        body: dict[str, Any] = {"model": embed.model, "input": embed.texts, "truncate": False}
        if embed.dimensions is not None:
            body["dimensions"] = embed.dimensions
        return _post(provider, embed, "/api/embed", body)

    def parse(self, body: bytes, count_: int) -> Embeddings:
        answer = load(body)
        return _embeddings(entries(answer.get("embeddings")), count_, answer.get("prompt_eval_count"))


class Cohere:
    most_texts = 96

    def request(self, provider: Provider, embed: Embed) -> HttpRequest:
        body: dict[str, Any] = {
            "model": embed.model,
            "texts": embed.texts,
            "input_type": f"search_{embed.purpose}",
            "embedding_types": ["float"],
            "truncate": "NONE",
        }
        if embed.dimensions is not None:
            body["output_dimension"] = embed.dimensions
        return _post(provider, embed, "/v2/embed", body)

    def parse(self, body: bytes, count_: int) -> Embeddings:
        answer = load(body)
        rows = entries(tree(answer.get("embeddings")).get("float"))
        billed = tree(tree(answer.get("meta")).get("billed_units"))
        return _embeddings(rows, count_, billed.get("input_tokens"))


class Titan:
    """Amazon's own models behind Bedrock, where each vendor's take words of their own; a purpose has none."""

    most_texts = 1

    def request(self, provider: Provider, embed: Embed) -> HttpRequest:
        body: dict[str, Any] = {"inputText": "".join(embed.texts)}
        if embed.dimensions is not None:
            body["dimensions"] = embed.dimensions
        request = _post(provider, embed, "/model/{model}/invoke", body)
        return signed(provider, request) if provider.auth == "sigv4" else request

    def parse(self, body: bytes, count_: int) -> Embeddings:
        answer = load(body)
        rows = [answer["embedding"]] if "embedding" in answer else []
        return _embeddings(rows, count_, answer.get("inputTextTokenCount"))


class Vertex:
    """Google's models at Vertex: Gemini's take one text in a request and words of their own; those before them were
    asked for predictions, like any model there."""

    most_texts = 1

    def request(self, provider: Provider, embed: Embed) -> HttpRequest:
        text, task = "".join(embed.texts), f"RETRIEVAL_{embed.purpose.upper()}"
        wish: dict[str, Any] = {"autoTruncate": False}
        if embed.dimensions is not None:
            wish["outputDimensionality"] = embed.dimensions
        if "gemini" in embed.model:
            content = {"role": "user", "parts": [{"text": text}]}
            asked = {"content": content, "embedContentConfig": {**wish, "taskType": task}}
            return _post(provider, embed, _VERTEX, asked, ":embedContent")
        instances = [{"content": text, "task_type": task}]
        return _post(provider, embed, _VERTEX, {"instances": instances, "parameters": wish}, ":predict")

    def parse(self, body: bytes, count_: int) -> Embeddings:
        answer = load(body)
        predicted = [tree(row).get("embeddings") for row in entries(answer.get("predictions"))]
        found = [tree(one) for one in ([answer["embedding"]] if "embedding" in answer else predicted)]
        told = [tree(one.get("statistics")) for one in found]
        if any(one.get("truncated") is True for one in (answer, *told)):
            raise ContextTooLong("a text was cut before its vector was made")
        counts = [tree(answer.get("usageMetadata")).get("promptTokenCount"), *(one.get("token_count") for one in told)]
        read = next((one for one in counts if one is not None), None)
        return _embeddings([one.get("values") for one in found], count_, read)


_VERTEX = "/v1beta1/publishers/google/models/{model}"
EMBEDDING: Mapping[str, Embedder] = MappingProxyType(
    {
        "openai": OpenAi(),
        "embeddings": Plain(),
        "gemini": Gemini(),
        "ollama": Ollama(),
        "cohere": Cohere(),
        "bedrock": Titan(),
        "vertex": Vertex(),
    }
)


def _post(provider: Provider, embed: Embed, path: str, body: dict[str, Any], verb: str = "") -> HttpRequest:
    ways = dialect.quirks(provider, embed.model)
    return HttpRequest(
        "POST",
        dialect.url(provider, (provider.embeddings_path or path) + verb, embed.model),
        dialect.headers(provider, "application/json", ways.get("headers")),
        json.dumps(body).encode(),
    )


def _embeddings(rows: list[Any], count_: int, prompt: Any) -> Embeddings:
    vectors = tuple(_vector(row) for row in rows)
    if len(vectors) != count_:
        raise Malformed(f"{len(vectors)} vectors came for {count_} texts")
    if len({len(vector) for vector in vectors}) > 1:
        raise Malformed("vectors of different lengths came for texts of one request")
    read = counted(prompt)
    return Embeddings(vectors, None if read is None else Usage(input=read))


def _vector(values: Any) -> Vector:
    numbers = entries(values)
    if not numbers or not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise Malformed("something came in place of a vector")
    return tuple(map(float, numbers))
