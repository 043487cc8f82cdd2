"""What the end of a call tells the breakers, and what the fleet may do afterwards. The verbs have their own twin."""

import time
from datetime import UTC, datetime

import pytest
import redis

from goblin.clock import new_id
from goblin.errors import GoblinError, LeaseLost
from providers import limit
from providers.errors import (
    BadCredentials,
    BadRequest,
    ContextTooLong,
    Overloaded,
    QuotaSpent,
    ServerError,
    Throttled,
    Unreachable,
)
from providers.wire.complaint import LONGEST_WAIT_S
from routing.admission import Admission, Admitted
from routing.ask import Ask, Place, Rate
from routing.breaker import (
    REST_OF_FAULT_MS,
    REST_OF_KEY_MS,
    REST_OF_THROTTLE_MS,
    Knobs,
    Told,
    Verdict,
    seen,
    told,
)
from routing.health import Health
from routing.refusal import Reason, Refused
from routing.script import Scripts
from tests.fakes.asks import begin

FAULT = Unreachable("no connection")
KNOBS = Knobs()
REST_S, OF_KEY_S = KNOBS.rest_base_ms / 1000, REST_OF_KEY_MS / 1000


@pytest.fixture
def admission(client: redis.Redis) -> Admission:
    begin(client)
    return Admission(Scripts(client))


def tell(admission: Admission, error: GoblinError | None, times: int = 1, candidate: str = "sim/small") -> None:
    for _ in range(times):
        admission.observe(candidate.partition("/")[0], candidate, seen(error))


def resting(client: redis.Redis, after: float = 0) -> set[str]:
    """Who is left alone so many seconds from now."""
    return set(Health(client).snapshot().resting(time.time() + after))


def admit(admission: Admission, candidate: str = "sim/small") -> Admitted | Refused:
    return admission.admit(Ask(new_id(), (Place(candidate.partition("/")[0], candidate, 0, 10, Rate(), 60_000),)))


def reason(answer: Admitted | Refused) -> Reason | None:
    return answer.reasons[0].reason if isinstance(answer, Refused) else None


@pytest.mark.parametrize(
    ("error", "verdict", "rest_ms"),
    [
        (None, Verdict.GOOD, 0),
        (FAULT, Verdict.BAD, 0),
        (ServerError("x"), Verdict.BAD, 0),
        (BadCredentials("x"), Verdict.OPEN, REST_OF_KEY_MS),
        (QuotaSpent("x"), Verdict.OPEN, REST_OF_KEY_MS),
        (Throttled("x", retry_after=42), Verdict.COOL, 42_000),
        (Throttled("x"), Verdict.COOL, REST_OF_THROTTLE_MS),
        (BadRequest("x"), Verdict.NONE, 0),
        (ContextTooLong("x"), Verdict.NONE, 0),
        (LeaseLost("x"), Verdict.NONE, 0),
        (GoblinError("x"), Verdict.NONE, 0),
    ],
)
def test_an_error_says_what_its_facts_say(error: GoblinError | None, verdict: Verdict, rest_ms: int) -> None:
    assert (seen(error).verdict, seen(error).rest_ms) == (verdict, rest_ms)


def test_a_throttled_candidate_rests_until_what_is_used_up_comes_back_unless_its_vendor_says_when() -> None:
    told = Told(requests=60, empty_ms=8_000)
    assert (seen(Throttled("x"), told).verdict, seen(Throttled("x"), told).rest_ms) == (Verdict.COOL, 8_000)
    assert seen(Throttled("x", retry_after=2), told).rest_ms == 2_000
    assert seen(None, Told(requests=60)).verdict is Verdict.GOOD


@pytest.mark.parametrize("number", ["1e300", "1.7e308", "99999999999999999999", "9223372036854775807"])
@pytest.mark.parametrize("thing", ["requests", "tokens"])
def test_a_limit_that_nobody_can_count_up_to_is_none(admission: Admission, thing: str, number: str) -> None:
    said = limit.read({f"x-ratelimit-limit-{thing}": number, f"x-ratelimit-remaining-{thing}": "1"}, datetime.now(UTC))
    assert admission.observe("sim", "sim/small", seen(FAULT, told(said, 0))) == {}
    assert isinstance(admit(admission), Admitted)


@pytest.mark.parametrize("number", ["1e20", "1e300", "1.7e308"])
def test_a_delay_that_nobody_can_wait_for_is_bounded(admission: Admission, client: redis.Redis, number: str) -> None:
    head = {"x-ratelimit-limit-requests": "5", "x-ratelimit-remaining-requests": "0"}
    said = limit.read({**head, "x-ratelimit-reset-requests": number}, datetime.now(UTC))
    admission.observe("sim", "sim/small", seen(Throttled("slow down"), told(said, 0)))
    assert resting(client, after=LONGEST_WAIT_S - 60) == {"sim/small"}
    assert not resting(client, after=LONGEST_WAIT_S + 60)


def test_a_reason_is_bounded() -> None:
    assert len(seen(BadCredentials("no " * 1_000)).reason) < 250


def test_a_first_failure_of_a_fresh_candidate_does_not_open_its_breaker(
    admission: Admission, client: redis.Redis
) -> None:
    tell(admission, FAULT)
    assert resting(client) == set()
    assert reason(admit(admission)) is None


def test_what_always_fails_rests_once_that_is_sure(admission: Admission, client: redis.Redis) -> None:
    """The provider's breaker too: it has seen nothing else."""
    tell(admission, FAULT, times=KNOBS.samples - 1)
    assert resting(client) == set()
    tell(admission, FAULT)
    assert resting(client) == resting(client, REST_S - 2) == {"sim", "sim/small"}
    assert resting(client, REST_S + 2) == set()
    assert "no connection" in Health(client).snapshot().resting(time.time())["sim/small"]
    assert reason(admit(admission)) is Reason.OPEN


def test_a_candidate_that_fails_beside_one_that_works_rests_alone(admission: Admission, client: redis.Redis) -> None:
    for _ in range(KNOBS.samples):
        tell(admission, FAULT)
        tell(admission, None, candidate="sim/large")
    assert resting(client) == {"sim/small"}
    assert reason(admit(admission)) is Reason.OPEN
    assert reason(admit(admission, "sim/large")) is None


@pytest.mark.parametrize(("threshold", "rests"), [(0.3, True), (0.8, False)])
def test_the_threshold_is_the_failure_rate_that_opens(client: redis.Redis, threshold: float, rests: bool) -> None:
    """Every other call fails here."""
    admission = Admission(Scripts(client), Knobs(threshold))
    for _ in range(20):
        tell(admission, ServerError("x"))
        tell(admission, None)
    assert bool(resting(client)) is rests


@pytest.mark.parametrize("error", [BadCredentials("the key is wrong"), QuotaSpent("the account is empty")])
def test_a_key_that_does_not_work_rests_all_that_it_opens_at_once(
    admission: Admission, client: redis.Redis, error: GoblinError
) -> None:
    tell(admission, error)
    assert resting(client) == resting(client, OF_KEY_S - 2) == {"sim"}
    assert error.message in Health(client).snapshot().resting(time.time())["sim"]
    refused = admit(admission, "sim/large")
    assert reason(refused) is Reason.LOCKED
    assert isinstance(refused, Refused)
    assert not refused.may_pass
    assert refused.as_error().slug == error.slug
    assert reason(admit(admission, "other/small")) is None


def test_a_throttled_candidate_is_left_alone_as_long_as_its_vendor_says(
    admission: Admission, client: redis.Redis
) -> None:
    tell(admission, Throttled("slow down", retry_after=42))
    assert resting(client, 40) == {"sim/small"}
    assert resting(client, 44) == set()
    assert reason(admit(admission)) is Reason.COOLING
    assert reason(admit(admission, "sim/large")) is None


@pytest.mark.parametrize("model", ["@cf/meta/llama", "/models/My Great Model q4.gguf", "a 1 2 3"])
def test_a_candidate_is_refused_by_its_whole_name(admission: Admission, model: str) -> None:
    tell(admission, Throttled("slow down", retry_after=5), candidate=f"sim/{model}")
    answer = admit(admission, f"sim/{model}")
    assert isinstance(answer, Refused)
    assert answer.why == f"sim/{model} asked to be left alone"


def test_a_longer_rest_is_not_forgotten_for_a_shorter_one(admission: Admission, client: redis.Redis) -> None:
    tell(admission, Throttled("slow down", retry_after=42))
    tell(admission, FAULT, times=KNOBS.samples)
    assert resting(client) == {"sim", "sim/small"}
    assert "slow down" in Health(client).snapshot().resting(time.time())["sim/small"]
    assert resting(client, 40) == {"sim/small"}
    assert resting(client, 44) == set()


def test_a_failure_whose_vendor_names_a_delay_counts_and_is_given_it(admission: Admission, client: redis.Redis) -> None:
    tell(admission, Overloaded("come back later", retry_after=7))
    assert resting(client, 5) == {"sim/small"}
    assert resting(client, 9) == set()
    tell(admission, Overloaded("come back tomorrow", retry_after=86_400))
    assert resting(client, REST_OF_FAULT_MS / 1000 + 1) == set()


def test_a_shorter_cooldown_does_not_end_a_longer_one(admission: Admission, client: redis.Redis) -> None:
    tell(admission, Throttled("slow down", retry_after=60))
    tell(admission, Throttled("slow down"))
    assert resting(client, 58) == {"sim/small"}
    tell(admission, Throttled("slow down", retry_after=90))
    assert resting(client, 88) == {"sim/small"}


def test_a_rest_does_not_end_a_longer_cooldown(admission: Admission) -> None:
    tell(admission, Throttled("slow down", retry_after=60))
    for _ in range(KNOBS.samples):
        tell(admission, FAULT)
        tell(admission, None, candidate="sim/large")
    answer = admit(admission)
    assert isinstance(answer, Refused)
    assert answer.retry_ms is not None
    assert answer.retry_ms > KNOBS.rest_base_ms


@pytest.mark.parametrize("error", [BadRequest("x"), ContextTooLong("x"), LeaseLost("x")])
def test_what_is_not_the_candidate_s_fault_never_rests_it(
    admission: Admission, client: redis.Redis, error: GoblinError
) -> None:
    tell(admission, error, times=3 * KNOBS.samples)
    assert resting(client) == set()
    assert reason(admit(admission)) is None
