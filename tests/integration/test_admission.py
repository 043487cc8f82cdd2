"""Admission by many real processes on a real Valkey: no interleaving passes a budget, a rate or a breaker."""

import uuid
from collections.abc import Iterator
from itertools import chain

import pytest

from goblin.clock import new_id
from routing import budget
from routing.admission import Admission, Admitted, Ask, Rate
from routing.breaker import Seen, Verdict
from routing.budget import Budget
from tests.fakes.askers import admitted_of, arrivals, place, probes, spend_all, standing, together
from tests.fakes.asks import Both

PROCESSES, ASKS, ROOM = 16, 200, 41
RUN = uuid.UUID(int=7)


@pytest.fixture
def both(redis_url: str) -> Iterator[Both]:
    """Gives Redis a generation and a time that stands still."""
    both = Both(redis_url)
    yield both
    both.client.close()


@pytest.mark.parametrize(
    ("above", "own"),
    [
        ((budget.of_run(RUN, 100 * ROOM),), ()),
        ((budget.of_key(RUN, 100 * ROOM + 99),), ()),
        ((), (budget.of_provider("sim", "day", 100 * ROOM),)),
        ((budget.everything("hour", 100 * ROOM), budget.everything("day", 10**9)), ()),
    ],
    ids=["run", "key", "provider", "hour"],
)
def test_a_budget_for_so_many_calls_lets_so_many_through(
    redis_url: str, both: Both, above: tuple[Budget, ...], own: tuple[Budget, ...]
) -> None:
    assert sum(together(PROCESSES, admitted_of, redis_url, ASKS, above, own)) == ROOM


def test_money_that_calls_did_not_need_is_used_by_others_and_never_twice(redis_url: str, both: Both) -> None:
    limit, cost = 20_000, 37
    sprees = together(PROCESSES, spend_all, redis_url, budget.of_run(RUN, limit), cost)
    assert max(spree.worst for spree in sprees) <= limit
    assert sum(spree.calls for spree in sprees) == (limit - 100) // cost + 1


def test_one_process_at_a_time_tries_out_a_broken_provider(redis_url: str, both: Both) -> None:
    gate = standing(redis_url)
    gate.observe("sim", "sim/small", Seen(Verdict.OPEN, 1000, "no such key"))
    assert probes(redis_url, 20) == []
    both.move(1000)
    assert [*chain(*together(PROCESSES, probes, redis_url, 20))] == [True]
    both.move(60_000)  # the probe never answered
    probe = gate.admit(Ask(new_id(), (place(),)))
    assert isinstance(probe, Admitted)
    assert gate.observe("sim", "sim/small", Seen(Verdict.GOOD), probe.attempt) == {"sim": "closed"}
    for share in (1, 1, 2, 4):
        assert [*chain(*together(4, probes, redis_url, 5))] == [False] * share
        both.move(3000)


def test_no_rolling_window_has_more_arrivals_than_the_limit_and_all_get_their_share(redis_url: str) -> None:
    limit, span_ms, jitter_ms, crowd = 400, 2000, 500, 8
    standing(redis_url).scripts.client.set("{goblin}:generation", "1")
    seen = together(crowd, arrivals, redis_url, Rate(rpm=limit), span_ms, 7.0)
    moments = sorted(moment for each in seen for moment in each)
    window = (span_ms - jitter_ms) / 1000
    assert all(later - earlier > window for earlier, later in zip(moments, moments[limit:], strict=False))
    counts = [len(each) for each in seen]
    jain = sum(counts) ** 2 / (crowd * sum(count**2 for count in counts))
    assert jain >= 0.95, counts


@pytest.mark.parametrize("rpm", [3, 20, 60, 500, 2000])
def test_a_steady_demand_gets_nearly_the_whole_limit_and_never_more(both: Both, rpm: int) -> None:
    """Some minutes of a clock that the test moves: whoever is refused asks again when he was told to."""
    began, minutes = both.now, 10 if rpm < 100 else 2
    sent: list[int] = []
    gate = Admission(both.scripts)
    while both.now < began + minutes * 60_000:
        answer = gate.admit(Ask(new_id(), (place(rate=Rate(rpm=rpm)),)))
        if isinstance(answer, Admitted):
            sent.append(both.now)
        else:
            both.move(answer.retry_ms or 1)
    assert all(later - earlier > 60_000 for earlier, later in zip(sent, sent[rpm:], strict=False))
    warm = [moment for moment in sent if moment >= began + 60_000]
    assert len(warm) >= 0.98 * rpm * (minutes - 1) - 1
    in_a_second = max(sum(a <= b < a + 1000 for b in sent[i : i + rpm]) for i, a in enumerate(sent[: 2 * rpm]))
    assert in_a_second <= max(6, rpm // 10 + rpm // 60 + 2)
