"""How our own client speaks each dialect to the simulator."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import SecretStr

from goblin.settings import ProviderSettings, Settings
from providers.answer import collect
from providers.call import Caller, Control
from providers.message import Chat, Finish, Message, Usage
from providers.provider import Deadlines, Model, Provider
from providers.registry import load


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
# vendors of the openai dialect with words of their own -> their rows in the catalog, the way to them, and the form of
# paths where they are not the row's
HOUSES: Mapping[str, tuple[str, str, str]] = {
    "groq": ("groq", "/groq/openai/v1", ""),
    "mistral": ("mistral", "/mistral/v1", ""),
    "minimax": ("minimax", "/minimax/v1", ""),
    "azure": ("azure_openai", "/azure/openai/v1", ""),
    "azure deployment": ("azure_openai", "/azure", "/openai/deployments/{model}%s?api-version=2024-10-21"),
    "own": ("lmstudio", "/own/v1", ""),
}
REASONER = "sim-reasoner+ttft=0+speed=0"
PATIENT = Deadlines(connect=10, first_token=20, stall=20, total=40)


class Simulator(Protocol):
    @property
    def url(self) -> str: ...

    def get(self, path: str) -> Any: ...
    def last_call(self) -> dict[str, Any]: ...


def vendor_at(url: str, dialect: str) -> Provider:
    """A provider that speaks a dialect in its plainest form, or the row of a house in the catalog."""
    if dialect in HOUSES:
        return house_at(url, dialect)
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


def house_at(url: str, house: str) -> Provider:
    row, path, form = HOUSES[house]
    said = ProviderSettings(base_url=url + path, api_key=SecretStr("sim-key"))
    found = load(Settings(providers={row: said}), {}).get(row)
    models = (Model(REASONER, reasoning=True), Model("sim-instant"))
    found = replace(found, models=models, deadlines=PATIENT)
    if form:
        found = replace(found, chat_path=form % "/chat/completions", embeddings_path=form % "/embeddings")
    return found


def ask(model: str, said: str = "Say something about the weather.", **wishes: Any) -> Chat:
    messages = (Message("system", "Be brief."), Message("user", said))
    return Chat(**{"model": model, "messages": messages, "max_output_tokens": 500, **wishes})


def answer(caller: Caller, vendor: Provider, call: Chat) -> tuple[str, str, Finish | None, Usage | None]:
    return collect(caller.stream(vendor, owned(vendor, call), Control()))


def owned(vendor: Provider, call: Chat) -> Chat:
    return replace(call, model=WAYS[vendor.dialect].owner + call.model)


def saying(text: str) -> str:
    return "+say=" + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
