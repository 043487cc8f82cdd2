"""What the fleet learns of its candidates: measures folded as a twin of plain Python folds them, and rests."""

import time
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from goblin import kv
from goblin.errors import GoblinError, LeaseLost
from goblin.settings import RoutingSettings
from providers.errors import (
    BadCredentials,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    QuotaSpent,
    ServerError,
    Throttled,
    Unreachable,
)
from routing.health import EMPTY, REST_OF_FAULTS, REST_OF_KEY, REST_OF_THROTTLE, SURE, WEIGHT, Health
from routing.score import Measure
from tests.fakes.offers import candidate
from tests.fakes.racing import at_once
from tests.fakes.wire import Wire

SIM = candidate("sim/small")
PRIOR = SIM.provider.prior
FAULT = Unreachable("no connection")


@pytest.fixture
def health(client: redis.Redis) -> Health:
    return Health(client, RoutingSettings())


def seen(client: redis.Redis) -> Health:
    """Another process, which has read nothing yet."""
    return Health(client, RoutingSettings())


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
    is_resting: bool = False

    def observe(self, ok: bool | None, ttft: float | None, speed: float | None, threshold: float = 0.8) -> None:
        if ok is not None:
            self.samples += 1
            share = max(WEIGHT, 1 / (self.samples + 1))
            self.success += share * (ok - self.success)
        self.ttft = self.fold(self.ttft, ttft)
        self.speed = self.fold(self.speed, speed)
        self.is_resting |= ok is False and self.samples >= SURE and 1 - self.success >= threshold

    def fold(self, before: float | None, new: float | None) -> float | None:
        if new is None or before is None:
            return before if new is None else new
        return before + WEIGHT * (new - before)

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
@given(st.lists(calls, max_size=14), st.sampled_from([0.3, 0.5, 0.8]))
def test_the_script_folds_as_its_twin(client: redis.Redis, made: list[Call], threshold: float) -> None:
    client.flushdb()
    health, twin = Health(client, RoutingSettings(circuit_breaker_threshold=threshold)), Twin()
    for call in made:
        if call.ok:
            health.succeeded(SIM, call.ttft, call.speed)
        else:
            health.failed(SIM, call.error)
        twin.observe(call.ok, call.ttft, call.speed, threshold)
    snapshot = seen(client).snapshot()
    measured, expected = snapshot.measure(SIM), twin.measure()
    assert measured.ttft_s == pytest.approx(expected.ttft_s, abs=1e-4)
    assert measured.success == pytest.approx(expected.success, abs=1e-3)
    assert measured.tokens_per_second == pytest.approx(expected.tokens_per_second, abs=1e-3)
    assert (SIM.name in snapshot.rests) == twin.is_resting


def test_what_was_never_measured_is_believed_of_the_catalog(health: Health) -> None:
    assert health.snapshot().measure(SIM) == Measure(PRIOR.ttft_s, PRIOR.success_rate, PRIOR.tokens_per_second)
    assert EMPTY.resting(0) == {}


def test_a_call_that_says_nothing_about_success_leaves_what_was_believed(health: Health, client: redis.Redis) -> None:
    health.failed(SIM, ContextTooLong("too long"))
    health.failed(SIM, Throttled("slow down"))
    assert seen(client).snapshot().measure(SIM).success == PRIOR.success_rate


def test_a_first_failure_of_a_fresh_candidate_does_not_open_its_breaker(health: Health, client: redis.Redis) -> None:
    health.failed(SIM, FAULT)
    assert resting(client) == set()


def test_a_candidate_that_always_fails_rests_once_that_is_sure(health: Health, client: redis.Redis) -> None:
    for _ in range(SURE - 1):
        health.failed(SIM, FAULT)
        assert resting(client) == set()
    health.failed(SIM, FAULT)
    assert resting(client) == resting(client, REST_OF_FAULTS - 2) == {"sim/small"}
    assert resting(client, REST_OF_FAULTS + 2) == set()
    assert "no connection" in seen(client).snapshot().resting(time.time())["sim/small"]


@pytest.mark.parametrize(("threshold", "rests"), [(0.3, True), (0.8, False)])
def test_the_threshold_is_the_failure_rate_that_opens(client: redis.Redis, threshold: float, rests: bool) -> None:
    """Every other call fails here."""
    health = Health(client, RoutingSettings(circuit_breaker_threshold=threshold))
    for _ in range(20):
        health.failed(SIM, ServerError("x"))
        health.succeeded(SIM, 0.1, 50)
    assert resting(client) == ({"sim/small"} if rests else set())


def test_a_failure_of_one_candidate_is_not_another_s(health: Health, client: redis.Redis) -> None:
    for _ in range(SURE):
        health.failed(SIM, FAULT)
    assert resting(client) == {"sim/small"}
    assert seen(client).snapshot().measure(candidate("sim/large")).success == PRIOR.success_rate


@pytest.mark.parametrize("error", [BadCredentials("the key is wrong"), QuotaSpent("the account is empty")])
def test_a_key_that_does_not_work_rests_all_that_it_opens_at_once(
    health: Health, client: redis.Redis, error: GoblinError
) -> None:
    health.failed(SIM, error)
    assert resting(client) == resting(client, REST_OF_KEY - 2) == {"sim"}
    assert error.message in seen(client).snapshot().resting(time.time())["sim"]


def test_a_throttled_candidate_rests_as_long_as_its_vendor_says(health: Health, client: redis.Redis) -> None:
    health.failed(SIM, Throttled("slow down", retry_after=42))
    assert resting(client, 40) == {"sim/small"}
    assert resting(client, 44) == set()


def test_a_vendor_that_names_no_delay_gets_a_short_one(health: Health, client: redis.Redis) -> None:
    health.failed(SIM, Throttled("slow down"))
    assert resting(client, REST_OF_THROTTLE - 2) == {"sim/small"}
    assert resting(client, REST_OF_THROTTLE + 2) == set()


def test_a_shorter_rest_does_not_end_a_longer_one(health: Health, client: redis.Redis) -> None:
    health.failed(SIM, Throttled("slow down", retry_after=60))
    health.failed(SIM, Throttled("slow down"))
    for _ in range(SURE):
        health.failed(SIM, FAULT)
    assert resting(client, 58) == {"sim/small"}
    health.failed(SIM, Throttled("slow down", retry_after=90))
    assert resting(client, 88) == {"sim/small"}


@pytest.mark.parametrize("error", [BadRequest("x"), ContextTooLong("x"), LeaseLost("x")])
def test_what_is_not_the_candidate_s_fault_never_rests_it(
    health: Health, client: redis.Redis, error: GoblinError
) -> None:
    for _ in range(3 * SURE):
        health.failed(SIM, error)
    assert resting(client) == set()


def test_a_success_is_forgotten_slowly_and_a_failure_too(health: Health, client: redis.Redis) -> None:
    for _ in range(30):
        health.succeeded(SIM, 0.2, 80)
    health.failed(SIM, FAULT)
    assert seen(client).snapshot().measure(SIM).success == pytest.approx(1 - WEIGHT)
    for _ in range(30):
        health.succeeded(SIM, 0.2, 80)
    assert seen(client).snapshot().measure(SIM).success > 0.99


def test_processes_share_what_they_learn(redis_url: str) -> None:
    one, other = (Health(kv.connect(redis_url), RoutingSettings()) for _ in range(2))
    for number in range(SURE):
        (one, other)[number % 2].failed(SIM, FAULT)
    assert one.snapshot().resting(time.time()) == other.snapshot().resting(time.time()) != {}


def test_whoever_learns_of_a_rest_honours_it_at_once(health: Health) -> None:
    assert health.snapshot().resting(time.time()) == {}
    health.failed(SIM, BadCredentials("the key is wrong"))
    assert set(health.snapshot().resting(time.time())) == {"sim"}


def test_observations_made_at_once_are_all_counted(client: redis.Redis, health: Health) -> None:
    at_once(*(lambda: health.succeeded(SIM, 0.5, 50) for _ in range(16)))
    health.failed(SIM, FAULT)
    twin = Twin()
    for ok in [True] * 16 + [False]:
        twin.observe(ok, None, None)
    assert seen(client).snapshot().measure(SIM).success == pytest.approx(twin.success, abs=1e-3)


def test_what_is_known_outlives_redis(redis_url: str) -> None:
    with Wire(redis_url) as wire:
        health = Health(kv.connect(wire.url), RoutingSettings())
        health.succeeded(SIM, 0.25, 99)
        health.failed(candidate("other/small"), Throttled("slow down", retry_after=60))
        before = health.snapshot()
        assert before.measure(SIM) == Measure(0.25, 1.0, 99)
        wire.shut()
        health.succeeded(SIM, 9, 9)
        health.failed(SIM, BadCredentials("unheard of"))  # asks for a new snapshot, which there is not
        assert health.snapshot() == before
        wire.mend()
        health.failed(SIM, BadCredentials("heard"))
        assert set(health.snapshot().resting(time.time())) == {"sim", "other/small"}


def test_a_process_that_never_reached_redis_works_by_the_catalog() -> None:
    health = Health(kv.connect("redis://127.0.0.1:1/0"), RoutingSettings())
    health.succeeded(SIM, 1, 1)
    assert health.snapshot() == EMPTY
    assert health.snapshot().measure(SIM) == Twin().measure()


def test_a_reason_is_bounded(health: Health, client: redis.Redis) -> None:
    health.failed(SIM, BadCredentials("no " * 1_000))
    (reason,) = seen(client).snapshot().resting(time.time()).values()
    assert len(reason) < 250
