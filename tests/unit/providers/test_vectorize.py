"""Vectorize without a network: what is sent, and what answers mean."""

import json

import pytest

from providers.call import Caller, Control
from providers.errors import BadCredentials, BadRequest, Malformed, Overloaded
from providers.vectorize import (
    MOST_VECTORS,
    Index,
    Info,
    Match,
    Query,
    Record,
    fault,
    parse_info,
    parse_matches,
    parse_mutation,
    query_request,
    upsert_request,
)
from tests.fakes.vendor import KEY, Connection, Vendor, provider

VENDOR = provider("https://v.example/vectorize/v2", dialect="vectorize")


def enveloped(result: object) -> bytes:
    return json.dumps({"result": result, "success": True, "errors": [], "messages": []}).encode()


def test_vectors_are_written_one_a_line() -> None:
    records = (Record("1", (0.5, 1)), Record("2", (1, 0), {"k": "v"}, "t1"))
    request = upsert_request(VENDOR, "my docs", records)
    assert (request.method, request.url) == ("POST", "https://v.example/vectorize/v2/indexes/my%20docs/upsert")
    assert request.headers["content-type"] == "application/x-ndjson"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert [json.loads(line) for line in request.body.splitlines()] == [
        {"id": "1", "values": [0.5, 1]},
        {"id": "2", "values": [1, 0], "metadata": {"k": "v"}, "namespace": "t1"},
    ]


def test_what_is_no_number_is_not_sent() -> None:
    with pytest.raises(ValueError):
        upsert_request(VENDOR, "docs", [Record("1", (float("nan"),))])


def test_a_query_says_only_what_it_wants() -> None:
    plain = json.loads(query_request(VENDOR, "docs", Query((1, 0))).body)
    assert plain == {"vector": [1, 0], "topK": 5, "returnMetadata": "all", "returnValues": False}
    narrow = Query((1, 0), 3, {"k": {"$ne": "v"}}, "none", True, "t1")
    assert json.loads(query_request(VENDOR, "docs", narrow).body) == {
        "vector": [1, 0],
        "topK": 3,
        "returnMetadata": "none",
        "returnValues": True,
        "filter": {"k": {"$ne": "v"}},
        "namespace": "t1",
    }


def test_answers_are_taken_out_of_their_envelope() -> None:
    assert parse_mutation(enveloped({"mutationId": "m1"})) == "m1"
    matches = [{"id": "1", "score": 0.5, "metadata": {"k": "v"}}, {"id": "2", "score": 0, "values": [1, 2]}]
    assert parse_matches(enveloped({"count": 2, "matches": matches})) == (
        Match("1", 0.5, {"k": "v"}),
        Match("2", 0.0, {}, (1.0, 2.0)),
    )
    info = {"vectorCount": 3, "dimensions": 2, "processedUpToMutation": "m1"}
    assert parse_info(enveloped(info)) == Info(3, 2, "m1")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"result": {}}', enveloped({}), enveloped({"matches": [{"id": "1"}]}), enveloped(None)]
)
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse_matches(body)


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (404, 3000, BadRequest),
        (400, 40006, BadRequest),
        (401, 10000, BadCredentials),
        (429, 3040, Overloaded),
    ],
)
def test_an_error_answer_means(status: int, code: int, meaning: type[Exception]) -> None:
    body = json.dumps({"success": False, "errors": [{"code": code, "message": "words"}]}).encode()
    assert type(fault(VENDOR, status, {}, body)) is meaning


def test_many_vectors_take_several_requests() -> None:
    sizes: list[int] = []

    def script(connection: Connection) -> None:
        while request := connection.request():
            sizes.append(len(request.partition(b"\r\n\r\n")[2].splitlines()))
            body = enveloped({"mutationId": f"m{len(sizes)}"})
            connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    caller = Caller()
    with Vendor(script) as vendor:
        index = Index(caller, provider(vendor.url, dialect="vectorize"), "docs")
        records = (Record(str(number), (1.0,)) for number in range(MOST_VECTORS + 1))
        assert index.upsert(records, Control()) == "m2"
        assert index.upsert((), Control()) is None
        caller.close()
    assert sizes == [MOST_VECTORS, 1]
