"""Our own Vectorize against the simulator's, over real HTTP: what it keeps, what it costs, and every way it fails."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import cloudflare
import pytest
from pydantic import SecretStr

from goblin.settings import ProviderSettings, Settings
from providers import price
from providers.call import Caller, Control
from providers.errors import (
    BadCredentials,
    BadRequest,
    BrokenStream,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
    TimedOut,
    Unreachable,
)
from providers.message import Usage
from providers.provider import Deadlines, Provider
from providers.registry import load
from providers.vectorize import Index, Query, Record

CLOUDFLARE = "/cloudflare/client/v4"
EAST, NORTH = Record("east", (1, 0, 0)), Record("north", (0, 1, 0), {"cold": True})
FAULTS = [
    ("+auth", BadCredentials),
    ("+fail=400", BadRequest),
    ("+fail=429+after=2", Throttled),
    ("+quota", QuotaSpent),
    ("+fail=500", ServerError),
    ("+fail=503", Overloaded),
    ("+overloaded", Overloaded),
    ("+auth+ok", BadCredentials),
    ("+quota+ok", QuotaSpent),
    ("+overloaded+ok", Overloaded),
    ("+reset", Unreachable),
    ("+cut=0", BrokenStream),
    ("+malformed=0", Malformed),
]


class Simulator(Protocol):
    @property
    def url(self) -> str: ...

    def get(self, path: str) -> Any: ...
    def post(self, path: str, **order: Any) -> Any: ...
    def last_call(self) -> dict[str, Any]: ...


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    one = Caller()
    yield one
    one.close()


@pytest.fixture(params=["vectorize"])
def vendor(simulator: Simulator) -> Provider:
    """The row of the catalog, in front of an account that has one index."""
    with cloudflare.Cloudflare(api_token="key", base_url=simulator.url + CLOUDFLARE) as client:
        config: Any = {"dimensions": 3, "metric": "cosine"}
        client.vectorize.indexes.create(account_id="a1", name="docs", config=config)
    url = f"{simulator.url}{CLOUDFLARE}/accounts/a1/vectorize/v2"
    said = ProviderSettings(base_url=url, api_key=SecretStr("key"))
    return load(Settings(providers={"cloudflare_vectorize": said}), {}).get("cloudflare_vectorize")


@pytest.fixture
def index(caller: Caller, vendor: Provider) -> Index:
    return Index(caller, vendor, "docs")


def test_an_upsert_is_seen_when_its_mutation_is(index: Index) -> None:
    mutation = index.upsert([EAST, NORTH], Control())
    seen = index.info(Control())
    assert (seen.mutation, seen.vectors, seen.dimensions) == (mutation, 2, 3)
    index.upsert([replace(EAST, values=(0, 0, 1))], Control())
    assert index.info(Control()).vectors == 2


def test_a_query_finds_the_nearest_first(index: Index) -> None:
    index.upsert([EAST, NORTH], Control())
    best, other = index.query(Query((1, 9, 0)), Control())
    assert (best.id, best.metadata, other.id) == ("north", {"cold": True}, "east")
    assert best.score == pytest.approx(9 / 82**0.5)
    (only,) = index.query(Query((1, 9, 0), top_k=1, filter={"cold": {"$ne": True}}, values=True), Control())
    assert (only.id, only.values) == ("east", (1, 0, 0))


def test_dimensions_are_counted_as_the_vendor_counts_them(index: Index, vendor: Provider, simulator: Simulator) -> None:
    index.upsert([EAST], Control())
    assert simulator.get("calls") == []
    index.query(Query((1, 0, 0)), Control())
    assert simulator.last_call()["nanousd"] == price.search(vendor.search_rate, 3) > 0


@pytest.mark.parametrize("does", ["upsert", "query", "info"])
@pytest.mark.parametrize(("directives", "fault"), FAULTS)
def test_a_fault_is_told_for_what_it_is(
    index: Index, simulator: Simulator, directives: str, fault: type[ProviderFault], does: str
) -> None:
    simulator.post("faults", name="cloudflare", directives=directives)
    with pytest.raises(ProviderFault) as caught:
        act(index, does)
    assert type(caught.value) is fault
    assert caught.value.retry_after == (2 if fault is Throttled else None)
    simulator.post("faults", name="cloudflare", directives="")
    act(index, does)


def act(index: Index, does: str) -> object:
    match does:
        case "upsert":
            return index.upsert([EAST], Control())
        case "query":
            return index.query(Query((1, 0, 0)), Control())
    return index.info(Control())


def test_a_limit_of_the_account_throttles(index: Index, simulator: Simulator) -> None:
    simulator.post("limits", name="cloudflare", rpm=2)  # one was used to make the index
    index.info(Control())
    with pytest.raises(Throttled) as caught:
        index.info(Control())
    assert 0 < (caught.value.retry_after or 0) <= 60


def test_a_wrong_key_is_told_and_not_shown(caller: Caller, vendor: Provider) -> None:
    with pytest.raises(BadCredentials) as caught:
        Index(caller, replace(vendor, key=SecretStr("wrong-key-123")), "docs").info(Control())
    assert "wrong-key-123" not in caught.value.message


def test_an_unknown_index_is_told(caller: Caller, vendor: Provider) -> None:
    with pytest.raises(BadRequest, match="unheard-of"):
        Index(caller, vendor, "unheard-of").info(Control())


def test_a_wrong_number_of_dimensions_is_told(index: Index) -> None:
    with pytest.raises(BadRequest, match="3 dimensions"):
        index.query(Query((1, 0)), Control())
    with pytest.raises(BadRequest, match="3 dimensions"):
        index.upsert([EAST, Record("flat", (1, 0))], Control())
    assert index.info(Control()).vectors == 0


def test_a_silent_vendor_is_left(caller: Caller, vendor: Provider, simulator: Simulator) -> None:
    simulator.post("faults", name="cloudflare", directives="+silent")
    hasty = replace(vendor, deadlines=Deadlines(connect=10, first_token=0.4, stall=0.4, total=40))
    with pytest.raises(TimedOut):
        Index(caller, hasty, "docs").info(Control())


def test_what_embeddings_say_is_found_again(caller: Caller, simulator: Simulator, vendor: Provider) -> None:
    with cloudflare.Cloudflare(api_token="key", base_url=simulator.url + CLOUDFLARE) as client:
        config: Any = {"dimensions": 64, "metric": "cosine"}
        client.vectorize.indexes.create(account_id="a1", name="texts", config=config)
    texts = ["the red fox runs", "the blue sky rains", "a bill of money"]
    maker = Provider("openai", "Simulator", "openai", f"{simulator.url}/openai/v1", key=SecretStr("key"))
    found = caller.embed(maker, "sim-embed", texts, Control())
    assert found.usage == Usage(input=simulator.last_call()["input_tokens"])
    index = Index(caller, vendor, "texts")
    index.upsert((Record(str(n), one, {"text": texts[n]}) for n, one in enumerate(found.vectors)), Control())
    best, *_ = index.query(Query(found.vectors[1], top_k=2), Control())
    assert (best.id, best.metadata) == ("1", {"text": texts[1]})
