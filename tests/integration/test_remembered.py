"""Redis loses everything while somebody is left alone: nobody is let through to them, but for the one that tries."""

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import redis

from goblin.clock import new_id
from goblin.errors import GoblinError
from ledger import attempts
from ledger.attempts import Charge, Ending
from ledger.session import Ledger
from ledger.states import AttemptStatus, StepStatus
from providers.errors import BadCredentials, QuotaSpent, Throttled, Unreachable
from routing import memory
from routing.admission import Admission, Admitted, Used
from routing.ask import Ask
from routing.breaker import Change, seen
from routing.health import Health
from routing.rebuild import Rebuild
from routing.refusal import Reason, Refused
from tests.fakes.askers import claim_of, place
from tests.fakes.racing import until
from tests.fakes.runs import accept


def ask(gate: Admission) -> Admitted:
    answer = gate.admit(Ask(new_id(), (place(),)))
    assert isinstance(answer, Admitted)
    return answer


def settle(ledger: Ledger, admitted: Admitted, cost: int) -> None:
    """In the ledger alone."""
    ending = Ending(AttemptStatus.SUCCEEDED, StepStatus.SUCCEEDED, charge=Charge(cost, is_measured=True, price={}))
    attempts.settle(ledger, admitted.attempt, ending, goblin="chat", key_id=None)


def fail(ledger: Ledger, admitted: Admitted, error: GoblinError) -> None:
    """In the ledger alone."""
    ending = Ending(AttemptStatus.FAILED, StepStatus.PENDING, error=error.as_value())
    attempts.settle(ledger, admitted.attempt, ending, goblin="chat", key_id=None)


def opened(ledger: Ledger, gate: Admission) -> Admitted:
    admitted = ask(gate)
    attempts.open_attempt(ledger, claim_of(admitted, accept(ledger)))
    return admitted


def refusal(gate: Admission) -> tuple[Reason, int | None]:
    answer = gate.admit(Ask(new_id(), (place(),)))
    assert isinstance(answer, Refused)
    return answer.reasons[0].reason, answer.reasons[0].wait_ms


@pytest.mark.parametrize(
    ("error", "times", "reason"),
    [
        (Unreachable("no connection"), 5, Reason.OPEN),
        (BadCredentials("no such key"), 1, Reason.LOCKED),
        (QuotaSpent("pay first"), 1, Reason.LOCKED),
        (Throttled("slow down", retry_after=100), 1, Reason.COOLING),
    ],
)
@pytest.mark.parametrize("is_told", [True, False], ids=["", "and Redis was not told of the ends"])
def test_who_was_left_alone_is_left_alone_after_a_loss(
    ledger: Ledger,
    gate: Admission,
    rebuild: Rebuild,
    client: redis.Redis,
    error: GoblinError,
    times: int,
    reason: Reason,
    is_told: bool,
) -> None:
    calls = [opened(ledger, gate) for _ in range(times)]
    for admitted in calls:
        fail(ledger, admitted, error)
        if is_told:
            gate.conclude(admitted, Used(0), seen(error))
    before = refusal(gate) if is_told else None
    client.flushdb()
    rebuild.go()
    after, wait_ms = refusal(gate)
    assert after is reason
    assert wait_ms is not None
    if before is not None:
        assert before[0] is reason
        assert wait_ms <= (before[1] or 0)
    assert "sim" in " ".join(Health(client).snapshot().resting(time.time()))


def test_a_key_that_was_refused_just_before_a_loss_is_not_taken_for_another_one(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis
) -> None:
    """Nobody had told Redis, and what was written down is all that is known."""
    answer = gate.admit(Ask(new_id(), (place(key="refused"),)))
    assert isinstance(answer, Admitted)
    attempts.open_attempt(ledger, claim_of(answer, accept(ledger)))
    fail(ledger, answer, BadCredentials("no such key"))
    client.flushdb()
    rebuild.go()
    refused = gate.admit(Ask(new_id(), (place(key="refused"),)))
    assert isinstance(refused, Refused)
    assert refused.reasons[0].reason is Reason.LOCKED
    assert gate.observe("sim", None, seen(None), key="refused") == {}
    assert isinstance(gate.admit(Ask(new_id(), (place(key="another"),))), Admitted)


def test_an_answer_that_judged_with_fail_still_speaks_for_who_gave_it(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis
) -> None:
    verdict = Ending(AttemptStatus.SUCCEEDED, StepStatus.FAILED, error={"type": "failed_verdict", "message": "FAIL"})
    answered = [opened(ledger, gate) for _ in range(3)]
    for admitted in answered:
        attempts.settle(ledger, admitted.attempt, verdict, goblin="review", key_id=None)
    for _ in range(5):
        fail(ledger, opened(ledger, gate), Unreachable("no connection"))
    client.flushdb()
    rebuild.go()
    assert isinstance(gate.admit(Ask(new_id(), (place(),))), Admitted)


def test_what_is_old_news_opens_nobody_again(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis
) -> None:
    """A check has found that the key works again."""
    admitted = opened(ledger, gate)
    fault = BadCredentials("no such key")
    fail(ledger, admitted, fault)
    gate.conclude(admitted, Used(0), replace(seen(fault), rest_ms=0))
    assert gate.observe("sim", None, seen(None)) == {"sim": "closed"}
    client.flushdb()
    rebuild.go()
    assert isinstance(ask(gate), Admitted)


def test_a_change_that_comes_late_does_not_replace_a_newer_one(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis
) -> None:
    late: list[Sequence[Change]] = []
    Admission(gate.scripts, keep=late.append).observe("sim", None, replace(seen(BadCredentials("x")), rest_ms=1))
    until(lambda: not gate.contacts([("sim", "")])[0].is_left_alone, "the end of the rest")
    assert gate.observe("sim", None, seen(None)) == {"sim": "closed"}
    memory.keep(ledger, late[0])
    client.flushdb()
    rebuild.go()
    assert not ask(gate).is_probe


def test_who_has_worked_today_may_still_be_refused_its_list_after_a_loss(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis
) -> None:
    settle(ledger, opened(ledger, gate), 60)
    client.flushdb()
    rebuild.go()
    (contact,) = gate.contacts([("sim", "")])
    assert contact.has_worked
