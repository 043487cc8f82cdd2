"""Amazon's Converse, streamed. Requests are signed (SigV4) unless the key is a bearer token.

botocore signs and reads the binary frames; it is imported with the first call, and is not needed by anybody else.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from providers.errors import (
    BadCredentials,
    BadRequest,
    BrokenStream,
    ContextTooLong,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
    UnknownModel,
)
from providers.message import Chat, Event, Finish, FinishReason, Message, Reasoned, Report, Text, Thought, Usage
from providers.provider import Provider
from providers.wire import dialect, reason
from providers.wire.complaint import TOO_LONG, judge, read, rule, understand
from providers.wire.dialect import HttpRequest
from providers.wire.field import count, counted, load, text, tree
from providers.wire.sse import LONGEST_LINE
from providers.wire.tool import NO_TOOLS, Pieces, arguments, functions, schema, turns

STREAM_TYPE = "application/vnd.amazon.eventstream"

RULES = (
    rule(QuotaSpent, "servicequotaexceededexception"),
    rule(QuotaSpent, "throttlingexception", contains=("per day",)),
    rule(UnknownModel, "resourcenotfoundexception"),
    rule(UnknownModel, "accessdeniedexception", contains=("access to the model",)),
    rule(
        UnknownModel, "validationexception",
        contains=(
            "model identifier is invalid", "on-demand throughput", "doesn't support the model", "end of its life",
            "operation not allowed",
        ),
    ),
    rule(
        BadCredentials,
        "accessdeniedexception", "unrecognizedclientexception", "invalidsignatureexception", "expiredtokenexception",
        "missingauthenticationtokenexception", "incompletesignatureexception",
    ),
    rule(Throttled, "throttlingexception"),
    rule(Overloaded, "modelnotreadyexception", "serviceunavailableexception"),
    TOO_LONG,
    rule(ContextTooLong, "validationexception", contains=("too many input tokens", "expected maxlength")),  # Titan's
    NO_TOOLS,
    rule(BadRequest, "validationexception"),
    rule(ServerError, "modelerrorexception", "modeltimeoutexception", "modelstreamerrorexception"),
)  # fmt: skip

_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "filtered",
    "content_filtered": "filtered",
    "tool_use": "tool",
}
_MALFORMED = ("malformed_model_output", "malformed_tool_use")


class Bedrock(dialect.Dialect):
    words: ClassVar = {"temperature": "temperature", "top_p": "topP", "stop": "stopSequences"}
    forms: ClassVar = frozenset({"json_schema"})

    def request(self, provider: Provider, chat: Chat) -> HttpRequest:
        ways = dialect.quirks(provider, chat.model)
        settings: dict[str, Any] = {"maxTokens": chat.max_output_tokens}
        settings |= dialect.sampling(provider, chat, self.words)
        body: dict[str, Any] = {
            "messages": [_turn(turn) for turn in turns(chat.messages)],
            "inferenceConfig": settings,
        }
        if system := [{"text": message.content} for message in chat.messages if message.role == "system"]:
            body["system"] = system
        if chat.sampling.response_format is not None:
            body["outputConfig"] = {"textFormat": _form(chat.sampling.response_format["json_schema"])}
        if chat.tools:
            body["toolConfig"] = {"tools": [{"toolSpec": _tool(function)} for function in functions(chat)]}
        body = dialect.patched(body, dialect.reasoning(provider, reason.answerable(chat), {}, {}))
        request = HttpRequest(
            "POST",
            dialect.url(provider, provider.stream_path or "/model/{model}/converse-stream", chat.model),
            dialect.headers(provider, STREAM_TYPE, ways.get("headers")),
            json.dumps(dialect.patched(body, ways.get("body", {}))).encode(),
        )
        return signed(provider, request) if provider.auth == "sigv4" else request

    def decoder(self, provider: Provider) -> "Decoder":
        return Decoder(provider)

    def fault(self, provider: Provider, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
        kind = headers.get("x-amzn-errortype", "").partition(":")[0]
        complaint = read(status, headers, body)
        if kind:
            complaint = understand({"message": complaint.message, "type": kind}, status, headers)
        return judge(provider.name, complaint, provider.rules, RULES, _secret(provider))


def _turn(turn: Sequence[Message]) -> dict[str, Any]:
    """What tools have answered is the user's to say, in one turn."""
    role = "assistant" if turn[0].role == "assistant" else "user"
    return {"role": role, "content": [block for message in turn for block in _blocks(message)]}


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.answers is not None:
        return [{"toolResult": {"toolUseId": message.answers.id, "content": [{"text": message.content}]}}]
    words = [{"text": message.content}] if message.content or not message.calls else []
    thoughts = map(_thought, message.reasoned) if message.calls else ()
    uses = ({"toolUseId": call.id, "name": call.name, "input": arguments(call)} for call in message.calls)
    return [*filter(None, thoughts), *words, *({"toolUse": use} for use in uses)]


def _thought(block: Reasoned) -> dict[str, Any] | None:
    """As it was signed; what nobody signed is nothing to hand back."""
    if not block.signature:
        return None
    told = (
        {"redactedContent": block.signature}
        if block.is_hidden
        else {"reasoningText": {"text": block.text, "signature": block.signature}}
    )
    return {"reasoningContent": told}


def _form(described: Mapping[str, Any]) -> dict[str, Any]:
    """A schema is a text here."""
    named = {key: described[key] for key in ("name", "description") if key in described}
    return {
        "type": "json_schema",
        "structure": {"jsonSchema": {**named, "schema": json.dumps(described["schema"])}},
    }


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    named = {key: function[key] for key in ("name", "description") if key in function}
    return {**named, "inputSchema": {"json": schema(function)}}


def _secret(provider: Provider) -> str | None:
    """What must never be quoted. Of a signing key, that is its second part; the first is an open name."""
    parts = (dialect.key(provider) or "").split(":")
    return (parts[1] if provider.auth == "sigv4" and len(parts) > 1 else parts[0]) or None


def signed(provider: Provider, request: HttpRequest) -> HttpRequest:
    """The key is `access key id:secret access key`, with `:session token` behind it where there is one.

    Raises BadCredentials for a key of another form.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    access_key, _, rest = (dialect.key(provider) or "").partition(":")
    secret, _, token = rest.partition(":")
    if not access_key or not secret:
        raise BadCredentials(f"{provider.name}: a signing key is an access key id and a secret, with a colon between")
    signing = AWSRequest(request.method, request.url, dict(request.headers), request.body)
    SigV4Auth(Credentials(access_key, secret, token or None), "bedrock", _region(provider)).add_auth(signing)
    return HttpRequest(request.method, request.url, dict(signing.headers.items()), request.body)


def _region(provider: Provider) -> str:
    """As configured, else as the address names it: bedrock-runtime.REGION.amazonaws.com."""
    named = provider.variables.get("region")
    return named or next(iter(provider.base_url.partition("bedrock-runtime.")[2].split("."))) or "us-east-1"


class Decoder(dialect.Decoder):
    __slots__ = ("_buffer", "_fault", "_finished", "_provider", "_reasoned", "_tools", "_waiting", "done")

    def __init__(self, provider: Provider) -> None:
        from botocore.eventstream import EventStreamBuffer

        self._provider = provider
        self._buffer = EventStreamBuffer()
        self._waiting = 0  # bytes of a frame that is not there yet
        self._finished = False
        self._fault: ProviderFault | None = None  # of the answer's end, raised once its counts have come
        self._tools = Pieces()
        self._reasoned = reason.Blocks()
        self.done = False

    def feed(self, data: bytes, out: list[Event]) -> None:
        from botocore.eventstream import ParserError

        self._waiting += len(data)
        try:
            self._buffer.add_data(data)
            for message in self._buffer:
                self._waiting = 0
                self._take(message.headers, message.payload, out)
                if self.done:
                    return
        except (ParserError, struct.error, KeyError, UnicodeDecodeError):
            raise Malformed(f"{self._provider.name} sent something that is no frame of an event stream") from None
        if self._waiting > LONGEST_LINE:
            raise Malformed(f"a frame of the answer is longer than {LONGEST_LINE} bytes")

    def end(self, out: list[Event]) -> None:  # noqa: ARG002 - nothing is held back
        if self._fault is not None:
            raise self._fault
        if not self._finished:
            raise BrokenStream(f"{self._provider.name} ended its answer without saying that it is whole")

    def _take(self, headers: Mapping[str, Any], payload: bytes, out: list[Event]) -> None:
        if headers.get(":message-type") in ("exception", "error"):
            raise self._complaint(headers, payload)
        event = load(payload)
        match headers.get(":event-type"):
            case "contentBlockStart":
                if tool := tree(tree(event.get("start")).get("toolUse")):
                    self._tools.add(event.get("contentBlockIndex"), tool.get("toolUseId"), tool.get("name"))
            case "contentBlockDelta":
                self._speak(event.get("contentBlockIndex"), tree(event.get("delta")), out)
            case "contentBlockStop":
                self._reasoned.end()
                self._tell_calls(out, event.get("contentBlockIndex"))
            case "messageStop" if not self._finished:
                self._finish(text(event.get("stopReason")), out)
            case "metadata":
                self.done = self._finished
                if (usage := usage_of(tree(event.get("usage")))) is not None:
                    out.append(Report(usage))
                if self._fault is not None:
                    raise self._fault

    def _tell_calls(self, out: list[Event], index: Any = None) -> None:
        if self._tools.are_open:
            self._reasoned.tell(out)
            self._tools.close(out, index)

    def _finish(self, reason: str, out: list[Event]) -> None:
        self._finished = True
        if reason in _MALFORMED:
            self._fault = Malformed(f"{self._provider.name} says of its own answer: {reason}")
            return
        self._tell_calls(out)  # blocks may be left open
        out.append(Finish(_REASONS.get(reason, "stop"), reason or None))

    def _speak(self, index: Any, delta: dict[str, Any], out: list[Event]) -> None:
        if words := text(delta.get("text")):
            out.append(Text(words))
        elif reasoned := tree(delta.get("reasoningContent")):
            self._think(reasoned, out)
        elif piece := text(tree(delta.get("toolUse")).get("input")):
            self._tools.add(index, arguments=piece)

    def _think(self, said: dict[str, Any], out: list[Event]) -> None:
        if thought := text(said.get("text")):
            out.append(Thought(thought))
        if hidden := text(said.get("redactedContent")):
            self._reasoned.hide(hidden)
        self._reasoned.add(thought, text(said.get("signature")))

    def _complaint(self, headers: Mapping[str, Any], payload: bytes) -> ProviderFault:
        kind = text(headers.get(":exception-type")) or text(headers.get(":error-code"))
        words = read(200, {}, payload).message or text(headers.get(":error-message"))
        complaint = understand({"message": words, "type": kind}, 200)
        return judge(self._provider.name, complaint, self._provider.rules, RULES, _secret(self._provider))


def usage_of(usage: dict[str, Any]) -> Usage | None:
    """None unless both counts can be read.

    `inputTokens` leaves out what was read from and written to the cache, unless the total says that it does not.
    """
    found, written = count(usage.get("cacheReadInputTokens")), count(usage.get("cacheWriteInputTokens"))
    prompt, output = counted(usage.get("inputTokens")), counted(usage.get("outputTokens"))
    if prompt is None or output is None:
        return None
    if count(usage.get("totalTokens")) != prompt + output or found + written > prompt:
        prompt += found + written
    return Usage(prompt, found, written, output)
