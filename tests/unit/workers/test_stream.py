"""The feed: events in order, deltas gathered, a length that is bounded, and no error when Redis is away."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from goblin import kv
from goblin.settings import LimitSettings
from tests.fakes.racing import until
from tests.fakes.wire import Wire
from workers.stream import Feed, StepFeed, key

RUN = uuid.UUID(int=7)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    client = kv.connect(redis_url)
    yield client
    client.close()


@pytest.fixture
def feed(client: redis.Redis) -> Feed:
    return Feed(client, LimitSettings())


def events(client: redis.Redis, run: uuid.UUID = RUN) -> list[tuple[str, dict[str, Any]]]:
    entries: Any = client.xrange(key(run))
    return [(entry["type"], json.loads(entry["data"])) for _, entry in entries]


def said(client: redis.Redis) -> str:
    return "".join(data["text"] for kind, data in events(client) if kind == "delta")


def test_events_are_kept_in_their_order_and_under_their_run(feed: Feed, client: redis.Redis) -> None:
    other = uuid.uuid4()
    feed.emit(RUN, ("step.started", {"step": "step1"}), ("delta", {"text": "ä\n"}))
    feed.emit(other, ("run.finished", {}))
    feed.emit(RUN, ("step.finished", {"step": "step1"}))
    assert [kind for kind, _ in events(client)] == ["step.started", "delta", "step.finished"]
    assert events(client)[1] == ("delta", {"text": "ä\n"})
    assert events(client, other) == [("run.finished", {})]
    entries: Any = client.xrange(key(RUN))
    numbers = [tuple(map(int, number.split("-"))) for number, _ in entries]
    assert numbers == sorted(set(numbers))


def test_a_feed_goes_away_after_its_time(client: redis.Redis) -> None:
    Feed(client, LimitSettings(stream_ttl=77)).emit(RUN, ("run.finished", {}))
    assert 0 < client.ttl(key(RUN)) <= 77


def test_a_feed_is_bounded_and_keeps_the_newest(client: redis.Redis) -> None:
    feed = Feed(client, LimitSettings(stream_events=100))
    for number in range(50):
        feed.emit(RUN, *(("delta", {"number": number * 20 + part}) for part in range(20)))
    kept = [data["number"] for _, data in events(client)]
    assert len(kept) < 400
    assert kept[-100:] == list(range(900, 1_000))


def test_deltas_are_gathered_and_lose_nothing(feed: Feed, client: redis.Redis) -> None:
    step = StepFeed(feed, RUN, "step1")
    step.say("step.started", provider="sim")
    for number in range(1_000):
        step.delta(f"{number} ", 2, 3)
    step.say("step.finished", outcome="succeeded")
    step.flush()
    told = events(client)
    assert [told[0], told[-1]] == [
        ("step.started", {"step": "step1", "provider": "sim"}),
        ("step.finished", {"step": "step1", "outcome": "succeeded"}),
    ]
    deltas = [data for kind, data in told if kind == "delta"]
    assert 0 < len(deltas) < 1_000
    assert "".join(data["text"] for data in deltas) == "".join(f"{number} " for number in range(1_000))
    assert sum(data["tokens"] for data in deltas) == 2_000
    assert {data["step"] for data in deltas} == {"step1"}
    cost = sum(int(data["cost"].replace(".", "")) for data in deltas)
    assert cost == 3_000


def test_what_was_gathered_does_not_wait_for_what_comes_next(feed: Feed, client: redis.Redis) -> None:
    steps = [StepFeed(feed, RUN, f"step{number}") for number in range(3)]
    for turn in range(1, 6):
        for step in steps:
            step.flush()
            for piece in "of a", "burst":  # and then its model thinks
                step.delta(f"{step.id}: {turn} {piece}\n", 3, 30)
        until(lambda turn=turn: said(client).count("burst") == turn * len(steps), "all of it")  # type: ignore[misc]
    for step in steps:
        own = [line for line in said(client).splitlines() if line.startswith(f"{step.id}:")]
        assert own == [f"{step.id}: {turn} {piece}" for turn in range(1, 6) for piece in ("of a", "burst")]


def test_text_stands_before_what_is_said_after_it(feed: Feed, client: redis.Redis) -> None:
    step = StepFeed(feed, RUN, "step1")
    step.flush()
    step.delta("half an ans", 3, 30)
    step.say("step.reset", reason="it broke")
    step.delta("the whole answer", 4, 40)
    step.tell("run.finished", outcome="succeeded")
    step.flush()
    told = [(kind, data.get("text")) for kind, data in events(client)]
    assert told == [
        ("delta", "half an ans"),
        ("step.reset", None),
        ("delta", "the whole answer"),
        ("run.finished", None),
    ]
    assert events(client)[-1] == ("run.finished", {"outcome": "succeeded"})
    assert events(client)[2][1]["cost"] == "0.000000040"


def test_a_flush_of_nothing_says_nothing(feed: Feed, client: redis.Redis) -> None:
    step = StepFeed(feed, RUN, "step1")
    step.flush()
    step.flush()
    assert not client.exists(key(RUN))


@hypothesis(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_text_arrives_as_it_was(feed: Feed, client: redis.Redis, texts: list[str]) -> None:
    run = uuid.uuid4()
    step = StepFeed(feed, run, "step1")
    for text in texts:
        step.delta(text, 1, 1)
    step.flush()
    assert "".join(data["text"] for _, data in events(client, run)) == "".join(texts)


def test_a_redis_that_is_away_costs_events_but_no_error(redis_url: str, client: redis.Redis) -> None:
    with Wire(redis_url) as wire:
        step = StepFeed(Feed(kv.connect(wire.url), LimitSettings()), RUN, "step1")
        step.say("step.started")
        step.flush()
        wire.shut()
        step.delta("nobody hears this", 4, 40)
        step.flush()
        wire.mend()
        step.say("step.finished")
        step.flush()
    assert [kind for kind, _ in events(client)] == ["step.started", "step.finished"]
