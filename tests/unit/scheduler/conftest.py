"""A scheduler's surroundings, whose marker Redis holds."""

from collections.abc import Iterator

import pytest

from tests.fakes.recovery import Place, make
from tests.fakes.runs import assert_books_balance


@pytest.fixture
def place(database: str, redis_url: str) -> Iterator[Place]:
    place = make(database, redis_url)
    place.patient.go()  # leaves its marker
    place.lose_messages()
    yield place
    assert_books_balance(place.ledger)
    place.ledger.close()
    place.client.close()
