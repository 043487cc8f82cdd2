"""Errors as data, and the doors where a vendor's errors become ours."""

import json

import pytest
import redis

from goblin import kv
from goblin.errors import Breaker, GoblinError, NoCandidate, Retry, Unavailable
from tests.fakes.wire import Wire


def test_an_error_is_small_data() -> None:
    assert GoblinError("it broke").as_value() == {"type": "internal", "message": "it broke"}
    full = Unavailable("away", retry_after=2, part="Redis").as_value()
    assert full == {"type": "unavailable", "message": "away", "retry_after": 2, "details": {"part": "Redis"}}
    assert json.loads(json.dumps(full)) == full


def test_an_error_that_declares_nothing_allows_nothing() -> None:
    facts = (GoblinError.http_status, GoblinError.same_candidate, GoblinError.other_candidate, GoblinError.breaker)
    assert facts == (500, Retry.NEVER, Retry.NEVER, Breaker.IGNORE)


def test_a_refusal_of_all_holds_every_reason() -> None:
    error = NoCandidate("nobody", {"sim/small": "no key"})
    assert error.as_value()["details"] == {"reasons": {"sim/small": "no key"}}


def test_a_redis_that_is_away_is_unavailable_and_back_without_an_error(redis_url: str) -> None:
    with Wire(redis_url) as wire:
        client = kv.connect(wire.url)
        client.set("a", "1")
        wire.cut()  # a restart that nobody noticed
        with kv.outages():
            assert client.get("a") == "1"
        wire.shut()
        with pytest.raises(Unavailable, match="Redis cannot be reached") as caught, kv.outages():
            client.get("a")
        assert caught.value.retry_after
        wire.mend()
        with kv.outages():
            assert client.get("a") == "1"


def test_a_wrong_use_of_redis_is_unavailable_too(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    client.set("text", "x")
    with pytest.raises(Unavailable), kv.outages():
        client.lpush("text", "y")


def test_no_error_of_redis_shows_the_password(redis_url: str) -> None:
    client = kv.connect("redis://:hunter2@127.0.0.1:1/0")
    with pytest.raises(Unavailable) as caught, kv.outages():
        client.get("a")
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"
