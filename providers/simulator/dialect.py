"""What a dialect is to the simulator: how it reads a request, speaks an answer, words a refusal. One module each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator.answer import Ask, Reply
from providers.simulator.limits import Gauge
from providers.simulator.pace import Voice
from providers.simulator.refusal import Kind, Refused
from providers.simulator.tool import check
from providers.simulator.world import House

Json: TypeAlias = dict[str, Any]

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode(value: object) -> bytes:
    """Compact JSON, as vendors send it. Lone surrogates, which UTF-8 cannot carry, become question marks."""
    return _ENCODER.encode(value).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class EmbedAsk:
    """A request for embeddings, read from any dialect."""

    model: str
    texts: Sequence[str]
    dimensions: int | None = None
    as_base64: bool = False
    cuts: bool = False  # what is too long, in place of refusing it
    cut: frozenset[int] = frozenset()  # the texts of which only the beginning is here


class Dialect(Protocol):
    """Pure but for `routes`, which binds the dialect's doors to the house."""

    @property
    def name(self) -> str: ...
    @property
    def needs_key(self) -> bool: ...
    @property
    def id_header(self) -> str:
        """The header that tells the id of a request; empty for none."""

    @property
    def stream_type(self) -> str:
        """The content type of a stream."""

    def routes(self, house: House, /) -> list[Route]: ...
    def key(self, request: Request, /) -> str | None: ...
    def rate_headers(self, gauge: Gauge, /) -> dict[str, str]: ...
    def refusal(self, refused: Refused, call_id: str, /) -> tuple[int, dict[str, str], Json]:
        """Status, headers of its own, body."""

    def voice(self, ask: Ask, reply: Reply, call_id: str, /) -> Voice: ...


def bearer(request: Request) -> str | None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def field(body: Mapping[str, Any], name: str, kind: type[Any], default: Any = None) -> Any:
    """A field of a request, or the default when it is absent or null. Raises Refused when it is of another type."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Refused(Kind.BAD_REQUEST, f"{name}: {kind.__name__} expected")
    return value


def stops(body: Mapping[str, Any], name: str, most: int | None = None) -> tuple[str, ...]:
    """What an answer is to end before. Raises Refused."""
    given = field(body, name, list, [])
    if not all(isinstance(one, str) for one in given) or (most is not None and len(given) > most):
        raise Refused(Kind.BAD_REQUEST, f"{name}: texts expected" + (f", at most {most}" if most else ""))
    return tuple(given)


def needed(body: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    """A field that must be there and not be empty. Raises Refused."""
    value = field(body, name, kind)
    if value is None or value in ("", []):
        raise Refused(Kind.BAD_REQUEST, f"{name}: field required")
    return value


def texts(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts of which those with a `text` count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""


def joined(parts: Sequence[str]) -> str:
    """The prompt as the simulator counts and hashes it: all texts in order, a blank line between them."""
    return "\n\n".join(part for part in parts if part)


def messages(body: Mapping[str, Any]) -> list[Json]:
    """The `messages` of a request. Raises Refused."""
    found = needed(body, "messages", list)
    if not all(isinstance(message, dict) for message in found):
        raise Refused(Kind.BAD_REQUEST, "messages: a list of objects expected")
    return list(found)


def begun(body: Mapping[str, Any]) -> str:
    """What the assistant has said, when that is how a conversation ends. Raises Refused."""
    last = messages(body)[-1]
    return texts(last.get("content")) if last.get("role") == "assistant" else ""


def described(body: Mapping[str, Any], name: str = "tools") -> str:
    """Tools as part of the prompt: vendors count them, too."""
    return encode(body[name]).decode() if body.get(name) else ""


def told_by_id(body: Mapping[str, Any]) -> bool:
    """Whether the result of a tool ends the conversation. Raises Refused for results of calls that nobody made."""
    spoken = messages(body)
    made = [call.get("id") for message in spoken for call in message.get("tool_calls") or ()]
    check(made, (message.get("tool_call_id") for message in spoken if message.get("role") == "tool"))
    return bool(spoken[-1].get("role") == "tool")


def retry_after(refused: Refused) -> dict[str, str]:
    return {} if refused.retry_after is None else {"retry-after": f"{refused.retry_after:g}"}
