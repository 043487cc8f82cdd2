"""Vendors who speak the openai dialect in words of their own, each under its name. What one of them does not do in its
own way, and what is not known of it, is as OpenAI does it.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator.answer import Ask, Reply
from providers.simulator.completion import Completion, completion_calls
from providers.simulator.dialect import Json, needed
from providers.simulator.door import Chat, Embed
from providers.simulator.openai import OpenAI, embeddings, read, read_embed
from providers.simulator.pace import Chunk
from providers.simulator.refusal import Kind, Refused
from providers.simulator.world import House

Asked = TypeVar("Asked")


class GroqVoice(Completion):
    """Counts, and why a stream was broken off, stand in a field of the vendor's."""

    think_field = "reasoning"

    def first(self) -> Json:
        return {"x_groq": {"id": self.id}}

    def last(self) -> Json:
        counts = {"usage": self.usage()} if self.reply.reports_usage else {}
        return {"x_groq": {"id": self.id, **counts}}

    def trouble(self) -> bytes:
        return self.chunk(None, {"x_groq": {"id": self.id, "error": Refused(Kind.SERVER).text()}})


class Groq(OpenAI):
    name = "groq"
    root = "/openai/v1"

    def voice(self, ask: Ask, reply: Reply, call_id: str) -> Completion:
        return GroqVoice(ask, reply, call_id, self.error(Refused(Kind.SERVER)))


class MistralVoice(Completion):
    """Counts come unasked with the end, calls whole, and a thought as an item of the content."""

    def counts(self) -> bool:
        return False

    def last(self) -> Json:
        return {"usage": self.usage()} if self.reply.reports_usage else {}

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.part is not None:
            (call,) = completion_calls([chunk.part.call])
            return self.delta({"tool_calls": [{"index": chunk.part.index, **call}]}) if chunk.part.is_last else b""
        return self.delta({"content": [_thought(chunk.text)]}) if chunk.thinking else super().piece(chunk)

    def message(self) -> Json:
        message = super().message()
        if thought := message.pop(self.reply.think_field, ""):
            message["content"] = [_thought(thought), {"type": "text", "text": self.reply.content()}]
        return message


def _thought(text: str) -> Json:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


class Mistral(OpenAI):
    """An error is not wrapped."""

    name = "mistral"
    types: ClassVar = {
        **OpenAI.types,
        Kind.BAD_REQUEST: (422, "invalid_request_error"),
        Kind.QUOTA: (402, "insufficient_quota"),
    }

    def error(self, refused: Refused) -> Json:
        return {"object": "error", **self.described(refused)}

    def voice(self, ask: Ask, reply: Reply, call_id: str) -> Completion:
        return MistralVoice(ask, reply, call_id, self.error(Refused(Kind.SERVER)))


class MiniMax(OpenAI):
    """What it has a number for, it tells inside HTTP 200."""

    name = "minimax"
    numbers: Mapping[Kind, int] = {
        Kind.SERVER: 1000,
        Kind.TIMEOUT: 1001,
        Kind.RATE: 1002,
        Kind.AUTH: 1004,
        Kind.QUOTA: 1008,
        Kind.FILTERED: 1026,
        Kind.CONTEXT: 1039,
        Kind.BAD_REQUEST: 2013,
    }

    def refusal(self, refused: Refused, call_id: str) -> tuple[int, dict[str, str], Json]:
        status, headers, body = super().refusal(refused, call_id)
        return 200 if refused.kind in self.numbers else status, headers, body

    def error(self, refused: Refused) -> Json:
        number = self.numbers.get(refused.kind)
        if number is None:
            return super().error(refused)
        return {"base_resp": {"status_code": number, "status_msg": refused.text()}}


class AzureVoice(Completion):
    """A first chunk tells what the filter of the prompt found, and says nothing."""

    def opening(self) -> bytes:
        found = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
        return self.chunk(None, found) + super().opening()


class Azure(OpenAI):
    """A model is a deployment: named in the path, with the version of the API, or in the body of the newer form."""

    name = "azure"
    root = "/openai/v1"

    def routes(self, house: House) -> list[Route]:
        path = "/openai/deployments/{deployment}"
        return [
            *super().routes(house),
            Route(f"{path}/chat/completions", Chat(house, self, _deployed(read)), methods=["POST"]),
            Route(f"{path}/embeddings", Embed(house, self, _deployed(read_embed), embeddings), methods=["POST"]),
        ]

    def error(self, refused: Refused) -> Json:
        described = self.described(refused)
        if refused.kind is Kind.FILTERED:
            described["innererror"] = {"code": "ResponsibleAIPolicyViolation"}
        return {"error": described}

    def voice(self, ask: Ask, reply: Reply, call_id: str) -> Completion:
        return AzureVoice(ask, reply, call_id, self.error(Refused(Kind.SERVER)))


def _deployed(read: Callable[[Request, Json], Asked]) -> Callable[[Request, Json], Asked]:
    def read_deployed(request: Request, body: Json) -> Asked:
        needed(request.query_params, "api-version", str)
        return read(request, {**body, "model": request.path_params["deployment"]})

    return read_deployed


class Own(OpenAI):
    """A server of one's own, as some of them are: no key is needed, and an error is a text."""

    name = "own"
    needs_key = False

    def error(self, refused: Refused) -> Json:
        return {"error": refused.text()}


HOUSES = (Groq(), Mistral(), MiniMax(), Azure(), Own())
