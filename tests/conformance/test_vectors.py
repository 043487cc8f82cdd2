"""Our own embeddings and our own Vectorize against the simulator, over real HTTP."""

from collections.abc import Iterator
from typing import Any, Protocol

import cloudflare
import pytest
from pydantic import SecretStr

from goblin.settings import ProviderSettings, Settings
from providers.call import Caller, Control
from providers.errors import (
    BadCredentials,
    BadRequest,
    ContextTooLong,
    Overloaded,
    ProviderFault,
    ServerError,
    Throttled,
    UnknownModel,
    Unreachable,
)
from providers.message import Usage
from providers.provider import Deadlines, Provider
from providers.registry import load
from providers.vectorize import Index, Query, Record

WAYS = {
    "openai": ("/openai/v1", "bearer"),
    "gemini": ("/gemini", "x-goog-api-key"),
    "ollama": ("/ollama", "none"),
    "cohere": ("/cohere", "bearer"),
}
PATIENT = Deadlines(connect=10, first_token=20, stall=20, total=40)
HOUSES = ("voyage", "jina")  # rows of the catalog, with words of their own
VECTORIZE = "/cloudflare/client/v4/accounts/a1/vectorize/v2"


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


@pytest.fixture(params=[*WAYS, *HOUSES])
def vendor(request: pytest.FixtureRequest, simulator: Simulator) -> Provider:
    if request.param in WAYS:
        return at(simulator, request.param, *WAYS[request.param])
    said = ProviderSettings(base_url=f"{simulator.url}/embeddings/{request.param}/v1", api_key=SecretStr("key"))
    return load(Settings(providers={request.param: said}), {}).get(request.param)


def test_texts_become_vectors_and_are_counted(caller: Caller, vendor: Provider, simulator: Simulator) -> None:
    found = caller.embed(vendor, "sim-embed", ["red fox", "red fox", "blue sky"], Control())
    first, second, third = found.vectors
    assert first == second != third
    assert len(first) == 64
    counted = Usage(input=simulator.last_call()["input_tokens"])
    assert found.usage == (None if vendor.dialect == "gemini" else counted)


def test_more_texts_than_a_request_holds_are_all_embedded(
    caller: Caller, vendor: Provider, simulator: Simulator
) -> None:
    texts = [f"text {number}" for number in range(130)]
    found = caller.embed(vendor, "sim-embed", texts, Control())
    assert len(found.vectors) == 130
    assert found.vectors[7] == caller.embed(vendor, "sim-embed", ["text 7"], Control()).vectors[0]
    requests = {"gemini": 2, "cohere": 2, "embeddings": 2}.get(vendor.dialect, 1)
    assert len(simulator.get("calls")) == requests + 1


@pytest.mark.parametrize("vendor", ["openai", "gemini", "cohere", *HOUSES], indirect=True)
def test_vectors_can_be_shorter(caller: Caller, vendor: Provider) -> None:
    found = caller.embed(vendor, "sim-embed", ["red fox"], Control(), purpose="query", dimensions=16)
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
        ("sim-unheard-of", UnknownModel),
        ("sim-fast", BadRequest),
    ],
)
def test_a_fault_is_told_for_what_it_is(
    caller: Caller, vendor: Provider, model: str, fault: type[ProviderFault]
) -> None:
    with pytest.raises(fault):
        caller.embed(vendor, model, ["red fox"], Control())


@pytest.fixture
def index(caller: Caller, simulator: Simulator) -> Index:
    with cloudflare.Cloudflare(api_token="key", base_url=f"{simulator.url}/cloudflare/client/v4") as client:
        config: Any = {"dimensions": 64, "metric": "cosine"}
        client.vectorize.indexes.create(account_id="a1", name="docs", config=config)
    return Index(caller, at(simulator, "vectorize", VECTORIZE), "docs")


def test_what_was_written_is_found_again(caller: Caller, simulator: Simulator, index: Index) -> None:
    texts = ["the red fox runs", "the blue sky rains", "a bill of money"]
    vectors = caller.embed(at(simulator, "openai", "/openai/v1"), "sim-embed", texts, Control()).vectors
    records = [Record(str(number), vector, {"text": texts[number]}) for number, vector in enumerate(vectors)]
    mutation = index.upsert(records, Control())
    assert index.info(Control()).mutation == mutation
    best, *rest = index.query(Query(vectors[1], top_k=2), Control())
    assert (best.id, best.metadata) == ("1", {"text": texts[1]})
    assert best.score == pytest.approx(1)
    assert len(rest) == 1
    (only,) = index.query(Query(vectors[1], filter={"text": texts[2]}, values=True), Control())
    assert only.values == pytest.approx(vectors[2])


def test_the_faults_of_an_index_are_told(caller: Caller, simulator: Simulator, index: Index) -> None:
    with pytest.raises(BadRequest):
        index.query(Query((1.0, 2.0)), Control())
    with pytest.raises(BadRequest):
        Index(caller, at(simulator, "vectorize", VECTORIZE), "unheard-of").info(Control())
    with pytest.raises(BadCredentials):
        Index(caller, at(simulator, "vectorize", VECTORIZE, key="wrong"), "docs").info(Control())
