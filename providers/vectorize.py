"""Cloudflare Vectorize, version 2: vectors of an index are written and looked for. Requests and answers are pure;
`Index` carries them over HTTP. Writes are seen some time after they were accepted: `info` tells up to which.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from providers.call import Caller, Control
from providers.errors import BadRequest, Malformed, ProviderFault
from providers.provider import Provider
from providers.wire import cloudflare, dialect
from providers.wire.complaint import read, rule
from providers.wire.dialect import HttpRequest
from providers.wire.field import count, entries, load, text, tree

MOST_VECTORS = 5000  # of one upsert
MOST_DIMENSIONS = 1536

RULES = (rule(BadRequest, "3000", "3002", "40005", "40006", status=(200, *range(400, 500))), *cloudflare.RULES)
Read = TypeVar("Read")
Metadata: TypeAlias = Mapping[str, Any]
Shown: TypeAlias = Literal["none", "indexed", "all"]


@dataclass(frozen=True, slots=True)
class Record:
    """A vector under an id (at most 64 bytes), with what is known about it."""

    id: str
    values: Sequence[float]
    metadata: Metadata = field(default_factory=dict)
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """`top_k` at most 100, or 20 with values or all metadata. `filter` is over indexed metadata: `{"k": "v"}`."""

    vector: Sequence[float]
    top_k: int = 5
    filter: Metadata = field(default_factory=dict)
    metadata: Shown = "all"
    values: bool = False
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """`score` is in the metric of the index."""

    id: str
    score: float
    metadata: Metadata
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Info:
    vectors: int
    dimensions: int
    mutation: str  # the last one that can be seen


class Index:
    """One index by its name. `provider` has the address of the account's Vectorize (`…/vectorize/v2`) and the token."""

    def __init__(self, caller: Caller, provider: Provider, name: str) -> None:
        self._caller, self._provider, self._name = caller, provider, name

    def upsert(self, records: Iterable[Record], control: Control) -> str | None:
        """Writes records, in as many requests as they need. The id of the last mutation; None without records.

        Raises ProviderFault; then the requests before it have been accepted.
        """
        mutation, rest = None, iter(records)
        while part := list(islice(rest, MOST_VECTORS)):
            mutation = self._ask(upsert_request(self._provider, self._name, part), parse_mutation, control)
        return mutation

    def query(self, query: Query, control: Control) -> tuple[Match, ...]:
        """Best first. Raises ProviderFault."""
        return self._ask(query_request(self._provider, self._name, query), parse_matches, control)

    def info(self, control: Control) -> Info:
        """Raises ProviderFault."""
        return self._ask(_request(self._provider, "GET", self._name, "/info"), parse_info, control)

    def _ask(self, request: HttpRequest, parse: Callable[[bytes], Read], control: Control) -> Read:
        return self._caller.ask(self._provider, request, control, fault, parse)


def upsert_request(provider: Provider, index: str, records: Iterable[Record]) -> HttpRequest:
    lines = (json.dumps(_line(record), allow_nan=False) + "\n" for record in records)
    return _request(provider, "POST", index, "/upsert", "".join(lines).encode(), "application/x-ndjson")


def query_request(provider: Provider, index: str, query: Query) -> HttpRequest:
    body: dict[str, Any] = {
        "vector": list(query.vector),
        "topK": query.top_k,
        "returnMetadata": query.metadata,
        "returnValues": query.values,
    }
    if query.filter:
        body["filter"] = dict(query.filter)
    if query.namespace is not None:
        body["namespace"] = query.namespace
    return _request(provider, "POST", index, "/query", json.dumps(body, allow_nan=False).encode())


def parse_mutation(body: bytes) -> str:
    return text(_result(body).get("mutationId"))


def parse_matches(body: bytes) -> tuple[Match, ...]:
    rows = _result(body).get("matches")
    if not isinstance(rows, list):
        raise Malformed("an answer to a query has no matches")
    return tuple(_match(tree(row)) for row in rows)


def parse_info(body: bytes) -> Info:
    result = _result(body)
    mutation = text(result.get("processedUpToMutation"))
    return Info(count(result.get("vectorCount")), count(result.get("dimensions")), mutation)


def fault(provider: Provider, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
    """The meaning of an error answer."""
    return dialect.blame(provider, read(status, headers, body), RULES)


def _line(record: Record) -> dict[str, Any]:
    line: dict[str, Any] = {"id": record.id, "values": list(record.values)}
    if record.metadata:
        line["metadata"] = dict(record.metadata)
    if record.namespace is not None:
        line["namespace"] = record.namespace
    return line


def _match(row: dict[str, Any]) -> Match:
    score, values = row.get("score"), entries(row.get("values"))
    if not isinstance(score, int | float) or not text(row.get("id")):
        raise Malformed("a match has no id or no score")
    numbers = tuple(float(value) for value in values if isinstance(value, int | float))
    return Match(text(row["id"]), float(score), tree(row.get("metadata")), numbers)


def _result(body: bytes) -> dict[str, Any]:
    answer = load(body)
    if answer.get("success") is not True:
        raise Malformed("an answer of Vectorize says neither that it failed nor that it did not")
    return tree(answer.get("result"))


def _request(
    provider: Provider, method: str, index: str, end: str, body: bytes = b"", kind: str = "application/json"
) -> HttpRequest:
    said = dialect.headers(provider, "application/json", {"content-type": kind})
    return HttpRequest(method, dialect.url(provider, f"/indexes/{quote(index, safe='')}{end}"), said, body)
