"""What the fleet learns of its candidates: measures folded as a twin of plain Python folds them, and rests."""

import math
import time
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from goblin import kv
from goblin.errors import GoblinError
from providers.errors import (
    BadCredentials,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    Throttled,
    TimedOut,
    Unreachable,
)
from routing.admission import Admission
from routing.breaker import seen as judged
from routing.candidate import Need
from routing.health import (
    BELIEVED,
    EMPTY,
    MEASURES,
    MOST_COUNTED,
    SURE,
    TELLING,
    WEIGHT,
    Health,
    failure,
    share_counted,
    success,
)
from routing.patience import Habit
from routing.score import Measure
from routing.script import Scripts
from tests.fakes.offers import candidate
from tests.fakes.racing import at_once
from tests.fakes.wire import Wire

SIM = candidate("sim/small")
PRIOR = SIM.provider.prior
FAULT = Unreachable("no connection")


class Witness:
    """Tells of the ends of calls."""

    def __init__(self, client: redis.Redis) -> None:
        self._scripts = Scripts(client)

    def succeeded(self, *seen: Any, **more: Any) -> None:
        self._scripts.run_all([success(*seen, **more)])

    def failed(self, *seen: Any) -> None:
        self._scripts.run_all([failure(*seen)])


@pytest.fixture
def witness(client: redis.Redis) -> Witness:
    return Witness(client)


def seen(client: redis.Redis) -> Health:
    """Another process, which has read nothing yet."""
    return Health(client)


def resting(client: redis.Redis, after: float = 0) -> set[str]:
    """Who rests so many seconds from now."""
    return set(seen(client).snapshot().resting(time.time() + after))


@dataclass
class Twin:
    """The fold of observe.lua."""

    ttft: float | None = None
    speed: float | None = None
    success: float = 1.0
    samples: int = 0
    slow: float | None = None
    waits: int = 0

    def observe(self, ok: bool | None, ttft: float | None, speed: float | None) -> None:
        if ok is not None:
            self.samples += 1
            share = max(WEIGHT, 1 / (self.samples + 1))
            self.success += share * (ok - self.success)
        self.ttft = self.fold(self.ttft, ttft)
        self.speed = self.fold(self.speed, speed)
        self.climb(ttft)

    def fold(self, before: float | None, new: float | None) -> float | None:
        if new is None or before is None:
            return before if new is None else new
        return before + WEIGHT * (new - before)

    def climb(self, ttft: float | None) -> None:
        """A percentile by steps: a small one down for each that is quicker, a large one up for each that is slower."""
        if ttft is None:
            return
        if self.waits < SURE:
            self.slow = max(self.slow or 0.001, ttft)
        elif self.slow is not None:
            self.slow = max(0.001, self.slow * (1.285 if ttft > self.slow else 0.985))
        self.waits += 1

    def measure(self) -> Measure:
        return Measure(
            PRIOR.ttft_s if self.ttft is None else self.ttft,
            self.success if self.samples else PRIOR.success_rate,
            PRIOR.tokens_per_second if self.speed is None else self.speed,
        )


@dataclass(frozen=True)
class Call:
    ok: bool | None
    ttft: float | None = None
    speed: float | None = None
    error: GoblinError = field(default=FAULT)


calls = st.one_of(
    st.builds(Call, st.just(True), st.none() | st.floats(0.001, 90), st.none() | st.floats(0.1, 900)),
    st.sampled_from([Call(False), Call(None, error=BadRequest("x")), Call(None, error=ContentFiltered("x"))]),
)


@hypothesis(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(calls, max_size=25))
def test_the_script_folds_as_its_twin(client: redis.Redis, made: list[Call]) -> None:
    client.flushdb()
    witness, twin = Witness(client), Twin()
    for call in made:
        if call.ok:
            witness.succeeded(SIM, call.ttft, call.speed, Habit(call.ttft))
        else:
            witness.failed(SIM, call.error)
        twin.observe(call.ok, call.ttft, call.speed)
    snapshot = seen(client).snapshot()
    measured, expected = snapshot.measure(SIM), twin.measure()
    assert measured.ttft_s == pytest.approx(expected.ttft_s, abs=1e-4)
    assert measured.success == pytest.approx(expected.success, abs=1e-3)
    assert measured.tokens_per_second == pytest.approx(expected.tokens_per_second, abs=1e-3)
    assert snapshot.habit(SIM).ttft_s == (pytest.approx(twin.slow, abs=1e-4) if twin.waits >= SURE else None)


def test_a_habit_is_what_nearly_all_calls_keep_within(witness: Witness, client: redis.Redis) -> None:
    random = Random(7)
    for number in range(600):
        ttft, silence, connect, token = (random.uniform(most / 2, most) for most in (2, 0.1, 0.3, 0.02))
        witness.succeeded(SIM, ttft, None, Habit(ttft, silence, connect, token))
        if number == SURE - 2:
            assert seen(client).snapshot().habit(SIM) == Habit()
    habit = seen(client).snapshot().habit(SIM)
    assert habit.ttft_s == pytest.approx(1.95, rel=0.2)
    assert habit.silence_s == pytest.approx(0.0975, rel=0.2)
    assert habit.connect_s == pytest.approx(0.2925, rel=0.2)
    assert habit.token_s == pytest.approx(0.0195, rel=0.2)


def test_a_call_that_was_cut_counts_as_a_slower_one(witness: Witness, client: redis.Redis) -> None:
    for _ in range(SURE):
        witness.succeeded(SIM, 1.0, None, Habit(1.0, 1.0, 0.1, 0.01))
    for _ in range(8):
        witness.failed(SIM, TimedOut("silence", "first_token"), Habit(ttft_s=4.0))
        witness.failed(SIM, TimedOut("no end", "total"), Habit(token_s=0.04))
    habit = seen(client).snapshot().habit(SIM)
    assert habit.ttft_s is not None
    assert habit.ttft_s > 4
    assert (habit.silence_s, habit.connect_s) == (1, 0.1)
    assert habit.token_s is not None
    assert habit.token_s > 0.04
    assert seen(client).snapshot().measure(SIM).ttft_s == 1


@pytest.mark.parametrize(("share", "counted"), [(1.5, 1.5), (0.6, 1.0), (90.0, MOST_COUNTED), (None, 1.0)])
def test_who_counts_more_than_is_estimated_is_held_for_more(
    witness: Witness, client: redis.Redis, share: float | None, counted: float
) -> None:
    for _ in range(SURE - 1):
        witness.succeeded(SIM, 1.0, None, counted=share)
    assert seen(client).snapshot().counted(SIM) == SIM
    witness.succeeded(SIM, 1.0, None, counted=share)
    corrected = seen(client).snapshot().counted(SIM)
    assert corrected.counted == counted
    assert corrected.input_tokens(Need("fast", 1_001, 0)) == math.ceil(1_001 * counted)
    assert corrected.worst_case(Need("fast", 1_001, 0)) >= SIM.worst_case(Need("fast", 1_001, 0))


def test_what_was_seen_replaces_what_the_catalog_says(witness: Witness, client: redis.Redis) -> None:
    prudent = SIM._replace(counted=1.7)
    assert seen(client).snapshot().counted(prudent) == prudent
    for _ in range(SURE):
        witness.succeeded(SIM, 1.0, None, counted=1.1)
    assert seen(client).snapshot().counted(prudent).counted == pytest.approx(1.1)


def test_a_count_out_of_all_proportion_is_soon_forgotten(witness: Witness, client: redis.Redis) -> None:
    for counted in [10**9] + [1_000] * 100:
        witness.succeeded(SIM, 1.0, None, counted=share_counted(counted, 1_000))
    assert seen(client).snapshot().counted(SIM).counted == pytest.approx(1, abs=0.1)


def test_a_prompt_too_short_to_tell_says_nothing_about_counts() -> None:
    assert share_counted(30, 10) is None
    assert share_counted(300, TELLING) == 300 / TELLING


def test_a_failure_is_believed_for_a_while_so_that_a_recovery_is_seen(witness: Witness, client: redis.Redis) -> None:
    for _ in range(5):
        witness.failed(SIM, FAULT)
    known = seen(client).snapshot()
    assert known.measure(SIM).success < 0.5
    assert replace(known, read=known.read + BELIEVED + 1).measure(SIM).success == PRIOR.success_rate
    client.hset(MEASURES, SIM.name, "- 0.1000 - 9 1 - 0 - 0")  # long ago
    witness.succeeded(SIM, 1.0, None)
    assert seen(client).snapshot().measure(SIM).success == 1


def test_what_an_older_release_wrote_is_read(witness: Witness, client: redis.Redis) -> None:
    client.hset(MEASURES, SIM.name, "200.0000 1.0000 80.0000 3")
    assert seen(client).snapshot().measure(SIM) == Measure(0.2, PRIOR.success_rate, 80)
    witness.succeeded(SIM, 0.2, 80)
    assert seen(client).snapshot().measure(SIM) == Measure(0.2, 1, 80)


def test_what_was_never_measured_is_believed_of_the_catalog(client: redis.Redis) -> None:
    assert seen(client).snapshot().measure(SIM) == Measure(PRIOR.ttft_s, PRIOR.success_rate, PRIOR.tokens_per_second)
    assert EMPTY.resting(0) == {}


def test_a_call_that_says_nothing_about_success_leaves_what_was_believed(witness: Witness, client: redis.Redis) -> None:
    witness.failed(SIM, ContextTooLong("too long"))
    witness.failed(SIM, Throttled("slow down"))
    assert seen(client).snapshot().measure(SIM).success == PRIOR.success_rate


def test_what_the_breakers_keep_away_is_shown_with_the_reason(client: redis.Redis) -> None:
    admission = Admission(Scripts(client))
    admission.observe("sim", SIM.name, judged(Throttled("slow down", retry_after=60)))
    admission.observe("other", "other/small", judged(BadCredentials("the key is wrong")))
    known = seen(client).snapshot().resting(time.time())
    assert known.keys() == {"sim/small", "other"}
    assert "slow down" in known["sim/small"]
    assert "the key is wrong" in known["other"]
    assert resting(client, 400) == set()


def test_a_failure_of_one_candidate_is_not_another_s(witness: Witness, client: redis.Redis) -> None:
    for _ in range(5):
        witness.failed(SIM, FAULT)
    assert seen(client).snapshot().measure(candidate("sim/large")).success == PRIOR.success_rate


def test_a_success_is_forgotten_slowly_and_a_failure_too(witness: Witness, client: redis.Redis) -> None:
    for _ in range(30):
        witness.succeeded(SIM, 0.2, 80)
    witness.failed(SIM, FAULT)
    assert seen(client).snapshot().measure(SIM).success == pytest.approx(1 - WEIGHT)
    for _ in range(30):
        witness.succeeded(SIM, 0.2, 80)
    assert seen(client).snapshot().measure(SIM).success > 0.99


def test_processes_share_what_they_learn(redis_url: str) -> None:
    clients = [kv.connect(redis_url) for _ in range(2)]
    for number in range(6):
        Witness(clients[number % 2]).failed(SIM, FAULT)
    one, other = (Health(client) for client in clients)
    assert one.snapshot().measure(SIM) == other.snapshot().measure(SIM)
    assert one.snapshot().measure(SIM).success < 0.3


def test_observations_made_at_once_are_all_counted(client: redis.Redis, witness: Witness) -> None:
    at_once(*(lambda: witness.succeeded(SIM, 0.5, 50) for _ in range(16)))
    witness.failed(SIM, FAULT)
    twin = Twin()
    for ok in [True] * 16 + [False]:
        twin.observe(ok, None, None)
    assert seen(client).snapshot().measure(SIM).success == pytest.approx(twin.success, abs=1e-3)


def test_what_is_known_outlives_redis(redis_url: str, client: redis.Redis) -> None:
    with Wire(redis_url) as wire:
        health, witness = Health(kv.connect(wire.url)), Witness(client)
        witness.succeeded(SIM, 0.25, 99)
        Admission(Scripts(client)).observe("sim", SIM.name, judged(Throttled("slow down", retry_after=60)))
        before = health.snapshot()
        assert before.measure(SIM) == Measure(0.25, 1.0, 99)
        assert before.resting(time.time()).keys() == {"sim/small"}
        wire.shut()
        assert health.snapshot() == before
        wire.mend()
        after = seen(client).snapshot()
        assert (after.measure(SIM), after.rests) == (before.measure(SIM), before.rests)


def test_a_process_that_never_reached_redis_works_by_the_catalog() -> None:
    health = Health(kv.connect("redis://127.0.0.1:1/0"))
    assert health.snapshot() == EMPTY
    assert health.snapshot().measure(SIM) == Twin().measure()
