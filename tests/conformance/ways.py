"""How our own client speaks each dialect to the simulator."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import SecretStr

from providers.answer import collect
from providers.call import Caller, Control
from providers.message import Chat, Finish, Message, Usage
from providers.provider import Deadlines, Model, Provider


@dataclass(frozen=True)
class Way:
    """How a dialect is spoken to the simulator."""

    path: str
    models_path: str | None
    auth: str = "bearer"
    key: str = "sim-key"
    owner: str = ""  # before the names of models
    off: Mapping[str, Any] = field(default_factory=dict)


WAYS = {
    "openai": Way("/openai/v1", "/models", off={"reasoning_effort": "none"}),
    "anthropic": Way("/anthropic", "/v1/models", "x-api-key"),
    "gemini": Way("/gemini", "/v1beta/models", "x-goog-api-key"),
    "ollama": Way("/ollama", "/api/tags", "bearer-optional"),
    "cohere": Way("/cohere", "/v1/models"),
    "replicate": Way("/replicate/v1", "/models", owner="sim/", off={"reasoning_effort": "minimal"}),
    "bedrock": Way("/bedrock", None, "sigv4", "sim-id:sim-secret:sim-token"),
    "cloudflare": Way("/cloudflare/client/v4/accounts/a1/ai", "/models/search", off={"reasoning_effort": "none"}),
}
REASONER = "sim-reasoner+ttft=0+speed=0"
PATIENT = Deadlines(connect=10, first_token=20, stall=20, total=40)


class Simulator(Protocol):
    @property
    def url(self) -> str: ...

    def get(self, path: str) -> Any: ...
    def last_call(self) -> dict[str, Any]: ...


def vendor_at(url: str, dialect: str) -> Provider:
    way = WAYS[dialect]
    return Provider(
        id=dialect,
        name="Simulator",
        dialect=dialect,
        base_url=url + way.path,
        auth=way.auth,
        key=SecretStr(way.key),
        models=(Model(way.owner + REASONER, reasoning=True), Model(way.owner + "sim-instant")),
        models_path=way.models_path,
        deadlines=PATIENT,
        variables={"region": "us-east-1"},
    )


def ask(model: str, said: str = "Say something about the weather.", **wishes: Any) -> Chat:
    messages = (Message("system", "Be brief."), Message("user", said))
    return Chat(**{"model": model, "messages": messages, "max_output_tokens": 500, **wishes})


def answer(caller: Caller, vendor: Provider, call: Chat) -> tuple[str, str, Finish | None, Usage | None]:
    return collect(caller.stream(vendor, owned(vendor, call), Control()))


def owned(vendor: Provider, call: Chat) -> Chat:
    return replace(call, model=WAYS[vendor.dialect].owner + call.model)


def saying(text: str) -> str:
    return "+say=" + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
