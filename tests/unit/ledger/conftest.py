"""A ledger on a database that the tests of one module share."""

from collections.abc import Iterator

import pytest

from ledger.session import Ledger


@pytest.fixture(scope="module")
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url, connections=40)
    yield ledger
    ledger.close()
