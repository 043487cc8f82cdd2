"""Our own embeddings against the simulator, over real HTTP."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import httpx
import pytest
from pydantic import SecretStr

from goblin.settings import ProviderSettings, Settings
from providers.call import Caller, Control
from providers.errors import (
    BadCredentials,
    BadRequest,
    BrokenStream,
    ContextTooLong,
    Malformed,
    Overloaded,
    ProviderFault,
    ServerError,
    Throttled,
    TimedOut,
    UnknownModel,
    Unreachable,
)
from providers.message import Usage
from providers.provider import Deadlines, Provider
from providers.registry import load
from tests.conformance import ways

WAYS = {
    "openai": ("/openai/v1", "bearer"),
    "gemini": ("/gemini", "x-goog-api-key"),
    "ollama": ("/ollama", "none"),
    "cohere": ("/cohere", "bearer"),
    "bedrock": ("/bedrock", "sigv4"),
}
PATIENT = Deadlines(connect=10, first_token=20, stall=20, total=40)
HOUSES = ("voyage", "jina")  # rows of the catalog, with words of their own
VERTEX = {"vertex": "", "vertex gemini": "gemini-"}  # -> what makes it be asked for a model in words of its own


class Simulator(Protocol):
    @property
    def url(self) -> str: ...

    def get(self, path: str) -> Any: ...
    def last_call(self) -> dict[str, Any]: ...


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    one = Caller()
    yield one
    one.close()


def at(simulator: Simulator, dialect: str, path: str, auth: str = "bearer", key: str = "key") -> Provider:
    secret = SecretStr(key)
    return Provider(dialect, "Simulator", dialect, simulator.url + path, auth=auth, key=secret, deadlines=PATIENT)


def vertex_at(simulator: Simulator, name: str) -> Provider:
    place = {"project": "p1", "location": "us-central1"}
    said = ProviderSettings(base_url=f"{simulator.url}/gemini", api_key=SecretStr("token"), variables=place)
    return replace(load(Settings(providers={"vertex": said}), {}).get("vertex"), id=name)


def named(vendor: Provider, model: str) -> str:
    return VERTEX.get(vendor.id, "") + model


def spoken(vendor: Provider) -> str:
    return vendor.embeddings_dialect or vendor.dialect


@pytest.fixture(params=[*WAYS, *HOUSES, *VERTEX, "mistral", "azure", "azure deployment"])
def vendor(request: pytest.FixtureRequest, simulator: Simulator) -> Provider:
    if request.param in WAYS:
        return at(simulator, request.param, *WAYS[request.param], key=ways.WAYS[request.param].key)
    if request.param in VERTEX:
        return vertex_at(simulator, request.param)
    if request.param in ways.HOUSES:
        return ways.vendor_at(simulator.url, request.param)
    said = ProviderSettings(base_url=f"{simulator.url}/embeddings/{request.param}/v1", api_key=SecretStr("key"))
    return load(Settings(providers={request.param: said}), {}).get(request.param)


def test_texts_become_vectors_and_are_counted(caller: Caller, vendor: Provider, simulator: Simulator) -> None:
    found = caller.embed(vendor, named(vendor, "sim-embed"), ["red fox", "red fox", "blue sky"], Control())
    first, second, third = found.vectors
    assert first == second != third
    assert len(first) == 64
    counted = Usage(input=sum(call["input_tokens"] for call in simulator.get("calls")))
    assert found.usage == (None if spoken(vendor) == "gemini" else counted)


def test_more_texts_than_a_request_holds_are_all_embedded(
    caller: Caller, vendor: Provider, simulator: Simulator
) -> None:
    takes_one = spoken(vendor) in ("bedrock", "vertex")
    texts = [f"text {number}" for number in range(9 if takes_one else 130)]
    found = caller.embed(vendor, named(vendor, "sim-embed"), texts, Control())
    assert len(found.vectors) == len(texts)
    assert found.vectors[7] == caller.embed(vendor, named(vendor, "sim-embed"), ["text 7"], Control()).vectors[0]
    requests = len(texts) if takes_one else {"gemini": 2, "cohere": 2, "embeddings": 2}.get(spoken(vendor), 1)
    assert len(simulator.get("calls")) == requests + 1


@pytest.mark.parametrize("vendor", ["openai", "gemini", "cohere", "bedrock", *HOUSES, *VERTEX], indirect=True)
def test_vectors_can_be_shorter(caller: Caller, vendor: Provider) -> None:
    found = caller.embed(vendor, named(vendor, "sim-embed"), ["red fox"], Control(), purpose="query", dimensions=16)
    assert len(found.vectors[0]) == 16


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        ("sim-embed+context", ContextTooLong),
        ("sim-embed+auth", BadCredentials),
        ("sim-embed+fail=400", BadRequest),
        ("sim-embed+fail=404", UnknownModel),
        ("sim-embed+fail=429+after=2", Throttled),
        ("sim-embed+fail=500", ServerError),
        ("sim-embed+overloaded", Overloaded),
        ("sim-embed+reset", Unreachable),
        ("sim-embed+midfail=0", ServerError),
        ("sim-embed+fail=500+ok", ServerError),
        ("sim-embed+context+ok", ContextTooLong),
        ("sim-embed+cut=0", BrokenStream),
        ("sim-embed+malformed=0", Malformed),
        ("sim-unheard-of", UnknownModel),
        ("sim-fast", BadRequest),
    ],
)
def test_a_fault_is_told_for_what_it_is(
    caller: Caller, vendor: Provider, model: str, fault: type[ProviderFault]
) -> None:
    with pytest.raises(fault):
        caller.embed(vendor, named(vendor, model), ["red fox"], Control())


def test_what_is_too_long_is_refused_and_not_cut(caller: Caller, vendor: Provider) -> None:
    with pytest.raises(ContextTooLong):
        caller.embed(vendor, named(vendor, "sim-embed"), ["red fox " * 5000], Control())


@pytest.mark.parametrize(("name", "word", "is_cut"), [("voyage", "truncation", True), ("jina", "truncate", False)])
def test_what_is_too_long_is_cut_by_some_unless_they_may_not(
    simulator: Simulator, name: str, word: str, is_cut: bool
) -> None:
    def status(**wish: bool) -> int:
        body = {"model": "sim-embed", "input": ["red fox " * 5000], **wish}
        url, key = f"{simulator.url}/embeddings/{name}/v1/embeddings", {"authorization": "Bearer key"}
        return httpx.post(url, json=body, headers=key).status_code

    assert status() == (200 if is_cut else 400)
    assert (status(**{word: True}), status(**{word: False})) == (200, 400)


def test_a_silent_vendor_is_left(caller: Caller, vendor: Provider) -> None:
    hasty = replace(vendor, deadlines=Deadlines(connect=10, first_token=0.4, stall=0.4, total=40))
    with pytest.raises(TimedOut):
        caller.embed(hasty, named(vendor, "sim-embed+silent"), ["red fox"], Control())


def test_what_broke_off_is_billed_whole(caller: Caller, vendor: Provider, simulator: Simulator) -> None:
    with pytest.raises(BrokenStream):
        caller.embed(vendor, named(vendor, "sim-embed+cut=0"), ["red fox"], Control())
    call = simulator.last_call()
    assert (call["outcome"], call["nanousd"]) == ("cut", 20 * call["input_tokens"])
