"""Kept answers: what makes two requests the same, the bounds, who flies, and the scripts against their twin."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goblin.settings import CacheSettings, RetrieveSettings
from providers.message import Message, Reasoned, ToolCall
from providers.sampling import Sampling
from routing.cache import Cache, Kept, Seat, identity
from routing.script import Scripts
from tests.fakes.asks import CLOCK, NOON
from tests.fakes.cache import CacheTwin
from tests.fakes.offers import need

ASKED = (Message("system", "be brief"), Message("user", "hello"))
KEY = uuid.uuid4()
PREFIX = "{goblin}"
SAME: dict[str, Any] = {"key": KEY, "reasoning": False, "verdict": False}


def kept(text: str = "an answer") -> Kept:
    return Kept(text, "sim", "small", "ab" * 16, "step1")


class Standing:
    """A cache whose time stands still until it is moved."""

    def __init__(self, client: redis.Redis, **bounds: Any) -> None:
        self.client = client
        self.scripts = Scripts(client, clock=CLOCK)
        self.cache = Cache(self.scripts, CacheSettings(**bounds))
        self.now = NOON
        self.move(0)

    def move(self, ms: int) -> None:
        self.now += ms
        self.client.set(f"{PREFIX}:clock", self.now)

    def recall(self, request: str, flyer: str = "me") -> Kept | Seat:
        return self.cache.recall(request, flyer, 15)


@pytest.fixture
def standing(client: redis.Redis) -> Iterator[Standing]:
    return Standing(client)


def test_the_same_words_to_the_same_candidates_are_the_same_request() -> None:
    one = need(providers=["a", "b"], input_tokens=5, excluded={"x/y": "it timed out"}, context_above=9)
    other = need(providers=("b", "a"), input_tokens=7)
    assert identity(one, ASKED, **SAME) == identity(other, list(ASKED), **SAME)


@pytest.mark.parametrize(
    "difference",
    [
        {"task_class": "reasoning"},
        {"output_tokens": 501},
        {"provider": "sim"},
        {"model": "small"},
        {"providers": ["sim"]},
        {"providers": []},
        {"models": ["small"]},
        {"preferred": ("sim",)},
        {"prefer_local": True},
    ],
)
def test_whatever_changes_who_may_answer_or_how_long_makes_another_request(difference: dict[str, Any]) -> None:
    assert identity(need(**difference), ASKED, **SAME) != identity(need(), ASKED, **SAME)


@pytest.mark.parametrize(
    "difference",
    [{"index": "customers"}, {"store": "other"}, {"namespace": "eu"}, {"top_k": 6}, {"text_field": "body"}, None],
)
def test_the_same_words_to_another_index_are_another_request(difference: dict[str, Any] | None) -> None:
    index = RetrieveSettings(index="hr", model="text-embedding-3-small")
    other = None if difference is None else index.model_copy(update=difference)
    here, there = (identity(need(vectors=True), ASKED, **SAME, retrieve=one) for one in (index, other))
    assert here != there
    assert here == identity(need(vectors=True), ASKED, **SAME, retrieve=index.model_copy())


@pytest.mark.parametrize("difference", [{"key": None}, {"key": uuid.uuid4()}, {"reasoning": True}, {"verdict": True}])
def test_keys_reasoning_and_verdicts_share_nothing(difference: dict[str, Any]) -> None:
    assert identity(need(), ASKED, **SAME | difference) != identity(need(), ASKED, **SAME)


@pytest.mark.parametrize(
    "words",
    [
        (Message("user", "hello"), Message("system", "be brief")),
        (Message("system", "be brief"), Message("user", "hello "), Message("user", "")),
        (Message("system", "be briefhello"),),
        (Message("user", "be brief"), Message("user", "hello")),
    ],
)
def test_other_words_in_another_order_or_role_are_another_request(words: tuple[Message, ...]) -> None:
    assert identity(need(), words, **SAME) != identity(need(), ASKED, **SAME)


def test_what_is_drawn_otherwise_or_has_another_form_is_another_request() -> None:
    form = {"type": "json_object"}
    ways = (
        Sampling(), Sampling(temperature=0), Sampling(temperature=1), Sampling(top_p=0.5), Sampling(stop=("a", "b")),
        Sampling(stop=("b", "a")), Sampling(seed=0), Sampling(seed=1), Sampling(frequency_penalty=1),
        Sampling(presence_penalty=1), Sampling(response_format=form),
    )  # fmt: skip
    assert len({identity(need(), ASKED, **SAME, sampling=way) for way in ways}) == len(ways)


def test_the_same_result_of_another_call_is_another_request() -> None:
    def asked(call: ToolCall, *reasoned: Reasoned) -> tuple[Message, ...]:
        said = Message("assistant", "", calls=(call,), reasoned=reasoned)
        return Message("user", "how warm is it there?"), said, Message("tool", "15 degrees", answers=call)

    here, there = (ToolCall("call_1", "weather", f'{{"city": "{city}"}}') for city in ("Oslo", "Rome"))
    thought = Reasoned("they may mean the town", "signed")
    assert len({identity(need(), words, **SAME) for words in (asked(here), asked(there), asked(here, thought))}) == 3


def test_one_flies_and_the_others_wait_for_what_it_brings(standing: Standing) -> None:
    assert standing.recall("a", "first") is Seat.FLY
    assert standing.recall("a", "second") is Seat.WAIT
    assert standing.recall("a", "first") is Seat.FLY
    assert standing.recall("b", "second") is Seat.FLY
    assert standing.cache.keep("a", kept())
    standing.cache.land("a", "first")
    assert standing.recall("a", "second") == kept()


def test_a_flight_ends_with_its_lease_unless_it_is_renewed(standing: Standing) -> None:
    standing.recall("a", "first")
    standing.move(14_000)
    standing.cache.renew({"a": "first"}, 15)
    standing.move(14_000)
    assert standing.recall("a", "second") is Seat.WAIT
    standing.move(1_000)
    assert standing.recall("a", "second") is Seat.FLY
    standing.cache.land("a", "first")
    assert standing.recall("a", "third") is Seat.WAIT


def test_a_flight_ends_no_sooner_than_it_was_to_last(standing: Standing) -> None:
    standing.cache.renew({"a": "first"}, 60)
    assert standing.recall("a", "first") is Seat.FLY
    standing.cache.renew({"a": "first"}, 15)
    standing.move(59_000)
    assert standing.recall("a", "second") is Seat.WAIT
    standing.move(2_000)
    assert standing.recall("a", "second") is Seat.FLY


def test_a_renewal_takes_no_flight_from_another_and_finds_one_that_was_lost(standing: Standing) -> None:
    standing.recall("a", "second")
    standing.cache.renew({"a": "first", "b": "first"}, 15)
    assert standing.recall("a", "second") is Seat.FLY
    assert standing.recall("b", "second") is Seat.WAIT


def test_after_a_flight_that_brought_nothing_nobody_waits_for_a_while(standing: Standing) -> None:
    standing.recall("a", "first")
    standing.cache.land("a", "first", alone=15)
    assert standing.recall("a", "second") is Seat.ALONE
    assert standing.recall("a", "third") is Seat.ALONE
    standing.move(15_000)
    assert standing.recall("a", "second") is Seat.FLY
    assert standing.recall("a", "third") is Seat.WAIT


def test_what_is_let_go_is_flown_by_whoever_asks_next(standing: Standing) -> None:
    standing.recall("a", "first")
    standing.cache.land("a", "first")
    assert standing.recall("a", "second") is Seat.FLY


def test_an_answer_is_forgotten_after_its_time(client: redis.Redis) -> None:
    standing = Standing(client, ttl=60)
    standing.cache.keep("a", kept())
    standing.move(59_999)
    assert standing.recall("a") == kept()
    standing.move(1)
    assert standing.recall("a") is Seat.FLY
    assert client.hlen(f"{PREFIX}:cache:answers") == 0
    assert client.get(f"{PREFIX}:cache:bytes") == "0"


def test_what_was_not_used_for_longest_goes_first(client: redis.Redis) -> None:
    standing = Standing(client, entries=2)
    for request in ("a", "b"):
        standing.cache.keep(request, kept(request))
        standing.move(1)
    assert standing.recall("a") == kept("a")
    standing.move(1)
    standing.cache.keep("c", kept("c"))
    assert [standing.recall(request) for request in ("a", "b", "c")] == [kept("a"), Seat.FLY, kept("c")]


def test_all_answers_together_and_each_of_them_are_bounded(client: redis.Redis) -> None:
    standing = Standing(client, bytes=1_000, entry_bytes=600)
    assert not standing.cache.keep("large", kept("x" * 600))
    for nr in range(10):
        assert standing.cache.keep(f"{nr}", kept("é" * 100))
        standing.move(1)
        sizes = [len(text.encode()) for text in client.hvals(f"{PREFIX}:cache:answers")]
        assert int(client.get(f"{PREFIX}:cache:bytes") or 0) == sum(sizes) <= 1_000
    assert standing.recall("9") == kept("é" * 100)
    assert standing.recall("0") is Seat.FLY


def test_nothing_of_it_stays_in_redis_for_good(standing: Standing) -> None:
    standing.recall("a")
    standing.cache.keep("a", kept())
    names = [name for name in standing.client.scan_iter() if name != f"{PREFIX}:clock"]
    assert len(names) == 5
    assert all(standing.client.pttl(name) > 0 for name in names)


REQUESTS = st.sampled_from("abcd")
FLYERS = st.sampled_from(["me", "you", "they"])
VERBS = st.one_of(
    st.tuples(st.just("recall"), st.fixed_dictionaries({"request": REQUESTS, "flyer": FLYERS})),
    st.tuples(
        st.just("keep"),
        st.fixed_dictionaries(
            {"request": REQUESTS, "text": st.text('aé😀"\\', max_size=12), "ttl_ms": st.just(70_000)}
        ),
    ),
    st.tuples(
        st.just("land"),
        st.fixed_dictionaries({"request": REQUESTS, "flyer": FLYERS, "alone_ms": st.sampled_from([0, 60_000])}),
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(st.tuples(VERBS, st.sampled_from([0, 1, 30_000, 60_000, 70_000])), max_size=30))
def test_the_scripts_do_what_their_twin_does(
    client: redis.Redis, story: list[tuple[tuple[str, dict[str, Any]], int]]
) -> None:
    client.flushdb()
    standing, twin = Standing(client), CacheTwin()
    for (verb, value), pause in story:
        whole = {**value, "lease_ms": 60_000, "entries": 3, "bytes": 40}
        assert standing.scripts.run(verb, whole) == twin.run(verb, whole, standing.now), (verb, value)
        standing.move(pause)
    texts = client.hgetall(f"{PREFIX}:cache:answers")
    assert {request: texts[request] for request in twin.answers} == {k: v.text for k, v in twin.answers.items()}
    assert int(client.get(f"{PREFIX}:cache:bytes") or 0) == sum(len(text.encode()) for text in texts.values())
    assert client.zcard(f"{PREFIX}:cache:used") == client.zcard(f"{PREFIX}:cache:ends") == len(texts)
