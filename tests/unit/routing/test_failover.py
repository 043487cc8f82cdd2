"""The error table of the house, row by row: who may be asked again after what."""

from dataclasses import dataclass
from typing import Any

import pytest

from goblin.errors import (
    Abandoned,
    Breaker,
    BreakerOpen,
    BudgetExhausted,
    ConfigError,
    Conflict,
    GoblinError,
    LeaseLost,
    NoCandidate,
    NotFound,
    RateLimited,
    Retry,
    Unauthorized,
)
from providers.errors import (
    BadCredentials,
    BadRequest,
    BrokenStream,
    Cancelled,
    ContentFiltered,
    ContextTooLong,
    Malformed,
    Overloaded,
    PrefillRefused,
    QuotaSpent,
    ServerError,
    Throttled,
    TimedOut,
    UnknownModel,
    Unreachable,
)
from routing.failover import (
    MAX_ABANDONED,
    Bounds,
    Failure,
    GiveUp,
    GoOn,
    after,
    counted,
    key_fault,
    noted,
    pause_s,
)
from workflow.plan import PlanError
from workflow.syntax import WorkflowSyntaxError

ONCE = [Unreachable("x"), Overloaded("x"), BrokenStream("x"), Malformed("x"), ServerError("x")]
TIMEOUTS = [TimedOut("x", phase) for phase in ("connect", "first_token", "stall", "total")]
ELSEWHERE = [QuotaSpent("x"), BadCredentials("x"), UnknownModel("x"), *TIMEOUTS]
NOWHERE = [BadRequest("x"), ContentFiltered("x"), Cancelled("x")]


NOW_MS = 1_700_000_000_050  # a moment whose pauses are neither longer nor shorter


def failure(
    error: GoblinError,
    candidate: str = "sim/small",
    context: int | None = None,
    *,
    at_ms: int = NOW_MS,
    is_probe: bool = False,
    **details: Any,
) -> Failure:
    provider, _, model = candidate.partition("/")
    value = error.as_value()
    if details:
        value["details"] = {**value.get("details", {}), **details}
    return Failure(provider, model, noted(value, at_ms, is_probe=is_probe), context)


def go(
    *failures: Failure, max_attempts: int = 6, after_s: float = 0, patience_s: float = 300, **retries: int
) -> GoOn | GiveUp:
    return after(failures, Bounds(max_attempts, retries, patience_s), NOW_MS + round(1_000 * after_s))


def excluded(*failures: Failure, **retries: int) -> set[str]:
    way = go(*failures, **retries)
    assert isinstance(way, GoOn)
    return set(way.excluded)


def named(error: GoblinError) -> str:
    return f"{error.slug} {error.details or ''}".strip()


def test_nothing_is_excluded_before_anything_has_failed() -> None:
    assert go() == GoOn({}, 0)


@pytest.mark.parametrize("error", ONCE, ids=named)
def test_a_fault_that_may_pass_is_tried_once_more_then_elsewhere(error: GoblinError) -> None:
    assert excluded(failure(error)) == set()
    assert excluded(failure(error), failure(error)) == {"sim/small"}


@pytest.mark.parametrize("error", [*ONCE, *TIMEOUTS], ids=named)
def test_who_has_failed_is_asked_again_after_ever_longer_pauses(error: GoblinError) -> None:
    pauses = [go(*[failure(error)] * times, max_attempts=99) for times in (2, 3, 4, 5, 9)]
    first = 0 if error.same_candidate is Retry.ONCE else 1  # TimedOut pauses after the first already, but no longer
    assert [one.again_at_ms - NOW_MS for one in pauses if isinstance(one, GoOn) and one.again_at_ms] == [
        1_000, 2_000, 4_000, 8_000, 30_000,
    ]  # fmt: skip
    assert bool(excluded(failure(error))) == bool(first)
    assert go(*[failure(error)] * 2, after_s=1) == GoOn({}, 0)


def test_steps_that_failed_together_do_not_come_again_together() -> None:
    moments = {
        way.again_at_ms - NOW_MS - ms
        for ms in range(100)
        if isinstance(way := go(*[failure(ServerError("x"), at_ms=NOW_MS + ms)] * 2), GoOn) and way.again_at_ms
    }
    assert len(moments) == 100
    assert min(moments) == 750
    assert max(moments) == 1_245


@pytest.mark.parametrize("is_probe", [False, True])
def test_nobody_waits_for_who_fails_beyond_his_patience(is_probe: bool) -> None:
    first = failure(ServerError("x"), is_probe=is_probe)
    later = [failure(ServerError("x"), at_ms=NOW_MS + 9_000)] * 2
    patient, tired = (go(first, *later, after_s=9, patience_s=seconds) for seconds in (10, 9))
    assert isinstance(patient, GoOn)
    assert patient.again_at_ms is not None
    assert tired == GoOn({"sim/small": "x"}, 0)
    assert go(first, *later, after_s=10**6, patience_s=9) == tired


def test_what_does_not_pass_is_no_reason_to_wait() -> None:
    assert go(failure(BadCredentials("x")), after_s=10**6) == GoOn({"sim/small": "x"}, 0)
    assert go(failure(ServerError("x")), after_s=10**6, sim=0) == GoOn({"sim/small": "x"}, 0)


def test_a_step_that_met_nothing_but_keys_that_do_not_work_says_so() -> None:
    wrong, empty, other = failure(BadCredentials("x")), failure(QuotaSpent("y"), "b/m"), failure(ServerError("x"))
    assert key_fault([wrong, empty]) == empty.error
    assert key_fault([failure(Abandoned("gone")), wrong]) == wrong.error
    assert key_fault([wrong, other]) is None
    assert key_fault([]) is None


@pytest.mark.parametrize("error", ONCE, ids=named)
def test_a_candidate_that_had_begun_to_answer_is_not_asked_again(error: GoblinError) -> None:
    assert excluded(failure(error, streamed=True)) == {"sim/small"}


@pytest.mark.parametrize("error", ONCE, ids=named)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_provider_says_how_often_it_is_asked_again(error: GoblinError, count: int) -> None:
    failures = [failure(error)] * count
    assert excluded(*failures, sim=count, other=0) == set()
    assert excluded(*failures, failure(error), sim=count, other=9) == {"sim/small"}


@pytest.mark.parametrize("error", ELSEWHERE, ids=named)
def test_what_does_not_pass_by_itself_is_tried_elsewhere_at_once(error: GoblinError) -> None:
    assert excluded(failure(error), sim=5) == {"sim/small"}


@pytest.mark.parametrize("error", NOWHERE, ids=named)
def test_what_cannot_succeed_is_not_tried_anywhere(error: GoblinError) -> None:
    way = go(failure(Unreachable("before")), failure(error), sim=5)
    assert way == GiveUp(error.as_value())


def test_a_throttled_candidate_is_asked_again_as_long_as_the_step_may_call() -> None:
    throttled = failure(Throttled("slow down", retry_after=3))
    assert excluded(*[throttled] * 5, sim=1) == set()
    assert go(*[throttled] * 6, sim=1) == GiveUp(throttled.error)
    assert excluded(throttled, sim=0) == {"sim/small"}
    assert excluded(throttled, throttled, failure(ServerError("x")), sim=1) == set()


def test_a_candidate_that_refuses_again_and_again_is_asked_ever_more_rarely() -> None:
    throttled, other = failure(Throttled("slow down")), failure(Throttled("slow down"), "other/small")
    pauses = [pause_s([other, *[throttled] * times, failure(ServerError("x"))], "sim/small") for times in range(1, 6)]
    assert pauses == [0.25, 0.5, 1, 2, 4]
    assert pause_s([throttled] * 100, "sim/small") == 30


def test_one_that_cannot_go_on_with_an_answer_is_asked_for_a_whole_one() -> None:
    refused = failure(PrefillRefused("x"))
    assert excluded(failure(BrokenStream("x"), "other/small", streamed=True), refused, sim=0) == {"other/small"}
    assert go(*[refused] * 6) == GiveUp(refused.error)


def test_a_prompt_that_was_too_long_goes_to_a_larger_window_only() -> None:
    way = go(failure(ContextTooLong("x"), context=8_000), failure(ContextTooLong("x"), "sim/mid", context=32_000))
    assert isinstance(way, GoOn)
    assert set(way.excluded) == {"sim/small", "sim/mid"}
    assert way.context_above == 32_000


def test_a_window_that_nobody_knows_rules_out_its_candidate_alone() -> None:
    assert go(failure(ContextTooLong("too long"))) == GoOn({"sim/small": "too long"}, 0)


def test_each_candidate_is_counted_for_itself() -> None:
    one, other = failure(Unreachable("x"), "a/x"), failure(Unreachable("x"), "b/x")
    assert excluded(one, other) == set()
    assert excluded(one, other, other) == {"b/x"}


def test_a_step_makes_no_more_calls_than_it_may() -> None:
    failures = [failure(TimedOut("x", "stall"), f"p{n}/m") for n in range(6)]
    assert isinstance(go(*failures[:5]), GoOn)
    assert go(*failures) == GiveUp(failures[-1].error)
    assert go(failures[0], max_attempts=1) == GiveUp(failures[0].error)


def test_a_call_whose_worker_went_away_speaks_against_nobody() -> None:
    gone = failure(Abandoned("gone"))
    assert go(*[gone] * (MAX_ABANDONED - 1), max_attempts=1) == GoOn({}, 0)
    assert excluded(gone, gone, failure(Unreachable("x"))) == set()
    assert excluded(gone, failure(Unreachable("x")), failure(Unreachable("x"))) == {"sim/small"}


def test_a_step_that_every_worker_dies_of_is_given_up() -> None:
    gone = failure(Abandoned("gone"))
    assert go(*[gone] * MAX_ABANDONED) == GiveUp(gone.error)


def test_an_error_that_no_release_knows_is_not_repeated() -> None:
    unknown = Failure("sim", "small", {"type": "of_tomorrow", "message": "?"})
    assert go(unknown) == GiveUp(unknown.error)


@dataclass(frozen=True)
class Row:
    error: GoblinError
    status: int
    same: Retry
    other: Retry
    breaker: Breaker

    @property
    def facts(self) -> tuple[int, Retry, Retry, Breaker]:
        return self.status, self.same, self.other, self.breaker


_usage = [NotFound("x"), Unauthorized("x"), Conflict("x"), PlanError("x")]
TABLE = [
    *(Row(error, 502, Retry.ONCE, Retry.YES, Breaker.COUNT) for error in ONCE),
    *(Row(error, 504, Retry.ALONE, Retry.YES, Breaker.COUNT) for error in TIMEOUTS),
    Row(Throttled("x"), 429, Retry.LATER, Retry.YES, Breaker.COOL),
    Row(QuotaSpent("x"), 502, Retry.NEVER, Retry.YES, Breaker.OPEN),
    Row(BadCredentials("x"), 502, Retry.NEVER, Retry.YES, Breaker.OPEN),
    Row(BadRequest("x"), 422, Retry.NEVER, Retry.NEVER, Breaker.IGNORE),
    Row(ContentFiltered("x"), 422, Retry.NEVER, Retry.NEVER, Breaker.IGNORE),
    Row(ContextTooLong("x"), 422, Retry.NEVER, Retry.LARGER, Breaker.IGNORE),
    Row(PrefillRefused("x"), 422, Retry.YES, Retry.YES, Breaker.IGNORE),
    Row(BudgetExhausted("x"), 402, Retry.LATER, Retry.NEVER, Breaker.IGNORE),
    Row(RateLimited("x"), 429, Retry.LATER, Retry.YES, Breaker.IGNORE),
    Row(BreakerOpen("x"), 503, Retry.LATER, Retry.YES, Breaker.IGNORE),
    Row(NoCandidate("x", {}), 503, Retry.LATER, Retry.YES, Breaker.IGNORE),
    *(Row(error, error.http_status, Retry.NEVER, Retry.NEVER, Breaker.IGNORE) for error in _usage),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: named(row.error))
def test_the_facts_of_an_error_are_those_of_its_row(row: Row) -> None:
    error = row.error
    assert (error.http_status, error.same_candidate, error.other_candidate, error.breaker) == row.facts


@pytest.mark.parametrize("error", [*_usage, LeaseLost("x"), ConfigError("x")], ids=named)
def test_what_is_no_provider_s_fault_is_never_repeated(error: GoblinError) -> None:
    assert (error.same_candidate, error.other_candidate, error.breaker) == (Retry.NEVER, Retry.NEVER, Breaker.IGNORE)


def test_every_error_of_a_user_is_in_the_four_hundreds() -> None:
    assert {error.http_status // 100 for error in _usage} == {4}
    assert WorkflowSyntaxError.http_status == 422


def test_every_slug_is_one_error_s_alone() -> None:
    def tree(kind: type[GoblinError]) -> list[type[GoblinError]]:
        return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]

    # some are restated for callers, under the slugs that they had: with another status, or as answered
    restated = [
        kind for kind in tree(GoblinError) if "slug" not in vars(kind) or kind.__module__.startswith(("api.", "cli."))
    ]
    slugs = [kind.slug for kind in tree(GoblinError) if kind not in restated]
    assert len(slugs) == len(set(slugs)), sorted(slugs)


@pytest.mark.parametrize("error", [*ONCE, *TIMEOUTS], ids=repr)
def test_trying_out_who_had_been_down_does_not_count_for_the_step(error: GoblinError) -> None:
    probe = failure(error, is_probe=True)
    assert probe.probed_at_ms == NOW_MS
    assert go(*[probe] * 50) == GoOn({}, 0)
    assert isinstance(go(*[probe] * 50, *[failure(TIMEOUTS[0])] * 6), GiveUp)


@pytest.mark.parametrize("error", [BadCredentials("x"), QuotaSpent("x"), BadRequest("x"), Throttled("x")], ids=repr)
def test_what_no_return_would_mend_counts_also_for_who_tried_it_out(error: GoblinError) -> None:
    assert failure(error, is_probe=True).probed_at_ms is None


def test_half_an_answer_counts_also_for_who_tried_it_out() -> None:
    assert failure(BrokenStream("x"), streamed=True, is_probe=True).probed_at_ms is None


def outage(*gaps_s: float) -> tuple[list[Failure], float]:
    """A candidate that fails twice at once, then so many seconds after each failure before: and how long in all."""
    at_s, found = 0.0, [failure(ServerError("x"))] * 2
    for gap_s in gaps_s:
        at_s += gap_s
        found.append(failure(ServerError("x"), at_ms=NOW_MS + round(1_000 * at_s)))
    return found, at_s


def test_calls_after_a_pause_that_was_waited_out_count_for_the_patience_alone() -> None:
    failures, at_s = outage(1, 2, 4, 8, 16, 30, 30, 30)
    way = go(*failures, after_s=at_s)
    assert isinstance(way, GoOn)
    assert way.again_at_ms == NOW_MS + round(1_000 * (at_s + 30))
    assert len(counted(failures, {})) == 2
    assert go(*failures, after_s=300) == GoOn({"sim/small": "x"}, 0)


def test_calls_that_waited_for_nothing_count_however_late_they_are() -> None:
    hurried, at_s = outage(1, 0.5, 0.5, 0.5, 0.5)  # before the pauses of 2 s and more were over
    assert len(counted(hurried, {})) == 6
    assert isinstance(go(*hurried, after_s=at_s), GiveUp)
    others = [failure(ServerError("x"), f"p{n}/m", at_ms=NOW_MS + 60_000 * n) for n in range(6)]
    assert isinstance(go(*others, after_s=240), GiveUp)


def test_half_an_answer_counts_also_after_a_pause() -> None:
    failures = [failure(BrokenStream("x"), at_ms=NOW_MS + 60_000 * n, streamed=True) for n in range(6)]
    assert len(counted(failures, {})) == 6
