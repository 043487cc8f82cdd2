"""What must hold of an installation afterwards, whatever befell it, seen from outside: ledger, Redis, simulator."""

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from goblin.money import to_usd
from routing.waiting import WAITERS
from tests.chaos.faults import Moment
from tests.chaos.town import FATES, Town, key_of
from tests.chaos.traffic import Order
from tests.fakes.fates import expected
from tests.fakes.runs import assert_books_balance

EVERY_ATTEMPT = """
select a.run_id, a.idx, a.number, a.status, a.error ->> 'type' as error, a.owner,
       extract(epoch from a.started_at)::float as begun, extract(epoch from a.finished_at)::float as ended,
       coalesce(sum(e.amount_nanousd), 0)::bigint as entered, count(*) filter (where e.kind = 'charge') as charges,
       coalesce(bool_or(e.is_measured), false) as is_measured
from attempts a left join entries e on e.run_id = a.run_id and e.attempt_id = a.id
group by a.id
"""
EVERY_MOVE = """
select run_id, extract(epoch from at)::float as at from (
    select run_id, started_at as at from attempts
    union all select run_id, finished_at from attempts
    union all select run_id, finished_at from steps
    union all select id, finished_at from runs
) moves where at is not null order by run_id, at
"""
EVERY_RUN = """
select id, status, extract(epoch from created_at)::float as begun, extract(epoch from finished_at)::float as ended
from runs
"""
SLACK_S = 6.0  # after a fault, in which what it has cut is still found out: a lease, and the looks of the scheduler


@dataclass
class Calls:
    """The simulator's list of calls, which keeps the newest ones, gathered before it forgets them."""

    place: Town
    by_key: dict[str, dict[tuple[float, str], Mapping[str, Any]]] = field(default_factory=dict)

    def gather(self) -> None:
        for call in self.place.sim_get("calls"):
            known = self.by_key.setdefault(call["idempotency_key"], {})
            known[call["time"], call["outcome"]] = call

    def of(self, key: str) -> Collection[Mapping[str, Any]]:
        return self.by_key.get(key, {}).values()

    def billed(self, key: str) -> int:
        """Nano-dollars."""
        return sum(call["nanousd"] for call in self.of(key))


def close(
    place: Town,
    orders: Sequence[Order],
    moments: Sequence[Moment],
    calls: Calls,
    *,
    patience: float,
    waits: bool = True,
) -> None:
    """All that must hold, once all has ended, and what was seen of it.

    What was admitted and never opened, because its worker died between the two, is given back after two minutes: a
    check that `waits` sees it.
    """
    until_all_ended(place, orders, patience)
    print(f"{len(orders)} runs, {len(moments)} faults; {recovery(place, moments)}")  # noqa: T201
    check_outcomes(place, orders)
    print(f"{check_calls(place, moments)}; {check_money(place, calls)}")  # noqa: T201
    check_nothing_is_left(place, waits=waits)


OPEN = """
select r.id, r.status, r.epoch, r.published_epoch, r.open_steps, now() - r.touched_at as untouched,
       (select jsonb_object_agg(s.idx, s.status) from steps s where s.run_id = r.id) as steps,
       (select jsonb_agg(jsonb_build_array(a.idx, a.number, a.status, a.owner, a.lease_until)) from attempts a
        where a.run_id = r.id and a.status = 'open') as calls,
       (select jsonb_object_agg(m.name, m.value) from marks m) as marks
from runs r where r.finished_at is null
"""


def until_all_ended(place: Town, orders: Sequence[Order], patience: float) -> None:
    made = [order.run for order in orders]
    try:
        place.until(
            lambda: not place.all("select 1 from runs where id = any(%s) and finished_at is null", made), patience
        )
    except TimeoutError as late:
        still = "\n".join(str(row) for row in place.all(OPEN))
        raise AssertionError(f"not ended after {patience:.0f} s, queued {_queued(place)}:\n{still}") from late


def check_outcomes(place: Town, orders: Sequence[Order]) -> None:
    """Every accepted run ended as the oracle says, step by step, and there is no other."""
    steps: dict[uuid.UUID, dict[int, str]] = {}
    for row in place.all("select run_id, idx, status from steps"):
        steps.setdefault(row.run_id, {})[row.idx] = row.status
    runs = {row.id: row.status for row in place.all(EVERY_RUN)}
    counts = len({order.run for order in orders}), len(orders), len(runs)
    assert len(set(counts)) == 1, f"runs, orders and rows: {counts}"
    wrong = {}
    for order in orders:
        due = expected(order.plan, FATES, fail_fast=order.fail_fast)
        if (runs[order.run], steps[order.run]) != due:
            wrong[order.run] = (runs[order.run], steps[order.run], due)
    assert not wrong, f"not as the oracle says: {wrong}"


def check_money(place: Town, calls: Calls) -> str:
    """Every billed call is an attempt's and entered once: as billed if its end was seen, else estimated."""
    calls.gather()
    assert_books_balance(place.ledger)
    attempts = {key_of(row.run_id, row.idx, row.number): row for row in place.all(EVERY_ATTEMPT)}
    assert not calls.by_key.keys() - attempts.keys(), "calls that the ledger does not know"
    assert not [key for key, row in attempts.items() if row.status == "open" or row.charges > 1], (
        "open, or charged twice"
    )
    several = {key: list(calls.of(key)) for key in attempts if sum(one["nanousd"] > 0 for one in calls.of(key)) > 1}
    assert not several, f"attempts that were billed more than once: {several}"
    billed = {key: calls.billed(key) for key in attempts}
    wrong = [
        (key, row.entered, billed[key])
        for key, row in attempts.items()
        if row.is_measured and row.entered != billed[key]
    ]
    assert not wrong, f"measured, and not what was billed: {wrong}"
    unknown = [key for key, row in attempts.items() if billed[key] and not row.charges]
    assert not unknown, f"billed, and entered by nobody: {unknown}"
    low = [key for key, row in attempts.items() if row.status == "abandoned" and row.entered < billed[key]]
    assert not low, f"calls whose end nobody saw, charged less than was billed: {low}"
    invoice = place.sim_get("invoice")["nanousd"]
    measured = sum(row.entered for row in attempts.values() if row.is_measured)
    estimated = sum(row.entered for row in attempts.values() if not row.is_measured)
    of_measured = sum(billed[key] for key, row in attempts.items() if row.is_measured)
    assert measured == of_measured
    assert sum(billed.values()) == invoice, "the invoice has calls that are not in the list"
    return (
        f"{to_usd(measured)} USD measured, to the nano-dollar as invoiced; {to_usd(estimated)} USD estimated for calls"
        f" that were cut, of which {to_usd(invoice - of_measured)} were billed"
    )


def check_calls(place: Town, moments: Sequence[Moment]) -> str:
    """No step has two finished answers, and every call beyond those that were needed was under way in a fault."""
    needed, cut, stray = Counter[tuple[uuid.UUID, int]](), [], []
    for row in place.all(EVERY_ATTEMPT):
        if row.status == "succeeded" or row.error == "bad_request":
            needed[row.run_id, row.idx] += 1
        elif any(one.begun - 0.5 <= row.ended and row.begun <= one.ended + SLACK_S for one in moments):
            cut.append(row)
        else:
            stray.append(row)
    assert not [step for step, count in needed.items() if count > 1], "steps that were answered twice"
    assert not stray, f"calls for nothing, in no fault: {stray}"
    kinds = Counter(f"{row.status} {row.error}" for row in cut)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"{needed.total()} calls needed, {len(cut)} more were under way in a fault ({told})"


def check_nothing_is_left(place: Town, *, waits: bool) -> None:
    """No hold, no message, nobody who waits."""
    assert place.one("select 1 from attempts where status = 'open'") is None
    assert place.one("select 1 from steps where status in ('pending', 'waiting', 'running')") is None
    _until_none(place, _queued, 30)
    _until_none(place, _held_by_ended, 30)
    if waits:
        _until_none(place, _held, 180)


def _until_none(place: Town, found: Callable[[Town], Any], patience: float) -> None:
    with suppress(TimeoutError):
        place.until(lambda: not found(place), patience)
    left = found(place)
    assert not left, f"left over: {left}"


def _queued(place: Town) -> dict[str, Any]:
    names = ["steps", "unacked", *(f"provider.{sim.name}" for sim in place.sims)]
    lengths: dict[str, Any] = {name: place.redis.llen(name) for name in names if place.redis.type(name) == "list"}
    lengths[WAITERS] = place.redis.hlen(WAITERS)
    return {name: length for name, length in lengths.items() if length}


def _held_by_ended(place: Town) -> list[Any]:
    names: Any = place.redis.keys("*holds")
    attempts = [attempt for name in names for attempt in _members(place, name)]
    return place.all("select id, status from attempts where id = any(%s::uuid[])", attempts)


def _held(place: Town) -> list[str]:
    """Attempts that hold something, and budgets of which something is held."""
    holds: Any = place.redis.keys("*holds")
    purses: Any = place.redis.keys("*:money")
    found = [f"{name} {attempt}" for name in holds for attempt in _members(place, name)]
    for purse in purses:
        money: Any = place.redis.hgetall(purse)
        found += [f"{name} {sums}" for name, sums in money.items() if sums.split()[1] != "0"]  # spent, held, …
    return found


def _members(place: Town, name: str) -> list[Any]:
    members: Any = place.redis.zrange(name, 0, -1)
    return list(members)


def recovery(place: Town, moments: Sequence[Moment]) -> str:
    """Seconds without a fault from the end of each until every run that was open then has moved again."""
    moves: dict[uuid.UUID, list[float]] = {}
    for row in place.all(EVERY_MOVE):
        moves.setdefault(row.run_id, []).append(row.at)
    found: dict[str, list[float]] = {}
    for run in place.all(EVERY_RUN):
        for moment in moments:
            if run.begun < moment.ended < run.ended:
                found.setdefault(moment.fault.what, []).append(_calm_s(moments, moment, run, moves[run.id]))
    every = sorted(seconds for kind in found.values() for seconds in kind)
    if not every:
        return "no run was open at the end of a fault"
    worst = ", ".join(f"{kind} {max(seconds):.1f}" for kind, seconds in sorted(found.items()))
    return (
        f"runs moved again after p50 {_share(every, 0.5):.1f} s, p99 {_share(every, 0.99):.1f} s, at most"
        f" {every[-1]:.1f} s ({len(every)} times; at most per fault: {worst})"
    )


def _calm_s(moments: Sequence[Moment], moment: Moment, run: Row[Any], moves: Sequence[float]) -> float:
    moved = next(at for at in moves if at >= moment.ended)
    later = [one for one in moments if one.begun >= moment.ended and one.begun < moved]
    return moved - moment.ended - sum(min(one.ended, moved) - one.begun for one in later)


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
