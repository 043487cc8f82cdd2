"""A call for vectors, and what is owed for it."""

import json
from dataclasses import replace

import pytest

from goblin.money import MOST
from providers.call import Caller
from tests.fakes.offers import candidate
from tests.fakes.vendor import Connection, Vendor
from workers.embedding import Embedding, Wish


@pytest.mark.parametrize(
    ("counted", "owed", "is_measured"), [(7, 7_000, True), (0, 50_000, False), (MOST, 50_000, False)]
)
def test_texts_are_owed_as_estimated_unless_they_were_counted(counted: int, owed: int, *, is_measured: bool) -> None:
    def serve(connection: Connection) -> None:
        connection.request()
        usage = {"prompt_tokens": counted, "total_tokens": counted}
        body = json.dumps({"data": [{"index": 0, "embedding": [1.0]}], "usage": usage}).encode()
        connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    caller = Caller()
    with Vendor(serve) as vendor:
        who = candidate("sim/e")
        who = who._replace(provider=replace(who.provider, base_url=vendor.url))
        embedding = Embedding(caller, who, Wish(("x",), tokens=50))
        charge = embedding.make().charge
    caller.close()
    assert charge is not None
    assert (charge.amount, charge.is_measured) == (owed, is_measured)
