"""What a dialect is: values to bytes and bytes to values, without IO. `providers/call.py` carries them over HTTP."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

from providers.errors import Malformed, ProviderFault
from providers.message import Chat, Event
from providers.provider import Provider
from providers.wire.complaint import Complaint, Rule, judge
from providers.wire.complaint import quote as quote_words
from providers.wire.field import text

JSON = frozenset({"json_object", "json_schema"})
UNREASONED = ("temperature", "top_p")  # what some refuse while a model reasons


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The key is in the headers and nowhere else. `after_s` is how long to wait before it is sent, in seconds."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    after_s: float = 0.0


class Decoder(Protocol):
    """One answer, fed in pieces. Where the pieces were cut changes nothing.

    Events are added to `out`; what was read before a fault is there when the fault is raised.
    """

    __slots__ = ()
    done: bool  # the vendor's own terminator was read: nothing that counts can follow

    def feed(self, data: bytes, out: list[Event]) -> None:
        """Raises the ProviderFault that the vendor reports inside its stream, or Malformed."""

    def end(self, out: list[Event]) -> None:
        """What was still held back when the bytes ended. Raises BrokenStream unless the answer is whole."""

    def follow(self) -> HttpRequest | None:
        """After `end`: a further exchange that the answer needs, whose bytes are fed next. `done` counts anew."""
        return None

    def abandon(self) -> HttpRequest | None:
        """How to stop a vendor that would work on after its caller has gone; sent when a call ends before its end."""
        return None


class Dialect(Protocol):
    """Stateless; what differs between two providers of one dialect is read from their rows.

    `words` are its names for what a Sampling may want, `forms` the types of response_format that it can ask for.
    """

    words: ClassVar[Mapping[str, str]]
    forms: ClassVar[frozenset[str]]

    def request(self, provider: Provider, chat: Chat) -> HttpRequest: ...

    def decoder(self, provider: Provider) -> Decoder: ...

    def fault(self, provider: Provider, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
        """The meaning of an error answer. Header names are lower-case."""

    def models_request(self, provider: Provider) -> HttpRequest | None:
        """How to ask which models are served; None when the provider does not tell."""
        return listing(provider, provider.models_path)

    def parse_models(self, body: bytes) -> tuple[str, ...]:
        """Ids of models that answer chats. Raises Malformed."""
        raise Malformed(f"a list of models that nobody asked for ({len(body)} bytes)")


def url(provider: Provider, path: str, model: str = "") -> str:
    return provider.base_url.rstrip("/") + path.replace("{model}", quote(model, safe=""))


def key(provider: Provider) -> str | None:
    return provider.key.get_secret_value() if provider.key is not None else None


def headers(provider: Provider, accept: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Headers of any request to a provider, its credentials among them."""
    said = {"content-type": "application/json", "accept": accept, **(more or {})}
    if (secret := key(provider)) is not None:
        if provider.auth in ("bearer", "bearer-optional"):
            said["authorization"] = f"Bearer {secret}"
        elif provider.auth not in ("none", "sigv4"):  # a key that signs is never sent
            said[provider.auth] = secret
    return said


def listing(provider: Provider, path: str | None, more: Mapping[str, str] | None = None) -> HttpRequest | None:
    """How to ask for a list of models; None without a path."""
    if path is None:
        return None
    return HttpRequest("GET", url(provider, path), headers(provider, "application/json", more))


def blame(provider: Provider, complaint: Complaint, rules: Iterable[Rule]) -> ProviderFault:
    """The fault that a complaint of a provider means; `rules` are its dialect's."""
    return judge(provider.name, complaint, provider.rules, rules, key(provider))


def word(provider: Provider, said: Any) -> str:
    """The provider's own word for something, such as the end of an answer, as it may be shown."""
    return quote_words(text(said), key(provider)) if said else ""


def quirks(provider: Provider, model_id: str) -> Mapping[str, Any]:
    """The provider's quirks, with the model's own over them."""
    model = provider.known(model_id)
    return {**provider.quirks, **model.quirks} if model is not None and model.quirks else provider.quirks


def reasoning(provider: Provider, chat: Chat, on: Mapping[str, Any], off: Mapping[str, Any]) -> Mapping[str, Any]:
    """What to add to the body so that the model reasons, or does not.

    Nothing for a model that is not known to take such a wish, unless the row says that all of them do. `on` and `off`
    are the dialect's ways, where the row has none.
    """
    model, ways = provider.known(chat.model), quirks(provider, chat.model)
    if not (model is not None and model.reasoning) and not ways.get("reasoning_always"):
        return {}
    way: Mapping[str, Any] = ways.get("reasoning_on", on) if chat.reasoning else ways.get("reasoning_off", off)
    return way


def sampling(provider: Provider, chat: Chat, words: Mapping[str, str]) -> dict[str, Any]:
    """What the chat wants of how its answer is drawn, under the names of the row, else of the dialect (`words`).

    The answer's form is left to the dialect. Left out is what the row refuses, always or while a model reasons.
    """
    ways = quirks(provider, chat.model)
    names = {**words, **ways.get("sampling", {})}
    if chat.reasoning and ways.get("reasoning_temperature") is False:
        names |= dict.fromkeys(UNREASONED, False)
    wanted = chat.sampling.as_value().items()
    return {names[wish]: value for wish, value in wanted if names.get(wish)}


def patched(body: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with `patch` merged in, branch by branch."""
    merged = dict(body)
    for name, value in patch.items():
        old = merged.get(name)
        merged[name] = patched(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged
