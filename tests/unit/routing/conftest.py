"""A client of the session's Valkey, on a database that is empty at the start of each test."""

from collections.abc import Iterator

import pytest
import redis

from goblin import kv


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    client = kv.connect(redis_url)
    yield client
    client.close()
