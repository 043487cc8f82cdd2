"""What must hold of an installation afterwards, whatever befell it, seen from outside: ledger, Redis, simulator."""

import sys
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from goblin.money import to_usd
from routing.waiting import WAITERS
from tests.chaos.faults import Moment
from tests.chaos.order import Order, Wish
from tests.chaos.town import Town, key_of
from tests.fakes.runs import assert_books_balance

EVERY_ATTEMPT = """
select a.run_id, a.idx, a.number, a.status, a.error ->> 'type' as error, a.owner,
       extract(epoch from a.started_at)::float as begun, extract(epoch from a.finished_at)::float as ended,
       coalesce(sum(e.amount_nanousd), 0)::bigint as entered, count(*) filter (where e.kind = 'charge') as charges,
       coalesce(bool_or(e.is_measured), false) as is_measured
from attempts a left join entries e on e.run_id = a.run_id and e.attempt_id = a.id
group by a.id
"""
EVERY_STEP = """
select run_id, idx, status, finished_at, coalesce(error ->> 'type' = 'deadline_passed', false) as is_late from steps
"""
EVERY_MOVE = """
select run_id, extract(epoch from at)::float as at from (
    select run_id, started_at as at from attempts
    union all select run_id, finished_at from attempts
    union all select run_id, finished_at from steps
    union all select id, finished_at from runs
) moves where at is not null and run_id = any(%s) order by run_id, at
"""
EVERY_RUN = """
select id, status, extract(epoch from created_at)::float as begun, extract(epoch from finished_at)::float as ended
from runs
"""
STOPPED_BY = {"cancelled": {Wish.CANCEL, Wish.CANCEL_STEP}, "deadline_passed": {Wish.DEADLINE}}
SLACK_S = 6.0  # after a fault, in which what it has cut is still found out: a lease, and the looks of the scheduler


@dataclass
class Calls:
    """The simulator's list of calls, which keeps the newest ones, gathered before it forgets them.

    Of each its end (Unix seconds), how it ended, and nano-dollars.
    """

    place: Town
    by_key: dict[str, set[tuple[float, str, int]]] = field(default_factory=dict)

    def gather(self) -> None:
        for call in self.place.sim_get("calls"):
            end = call["time"], sys.intern(call["outcome"]), call["nanousd"]
            self.by_key.setdefault(call["idempotency_key"], set()).add(end)

    def ends(self, key: str) -> list[float]:
        return [at for at, _, _ in self.by_key.get(key, ())]

    def bills(self, key: str) -> list[int]:
        return [nanousd for _, _, nanousd in self.by_key.get(key, ()) if nanousd]


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
    print(f"{check_calls(place, orders, moments)}; {check_money(place, calls)}")  # noqa: T201
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
    late: dict[uuid.UUID, dict[int, datetime]] = {}
    for row in place.all(EVERY_STEP):
        steps.setdefault(row.run_id, {})[row.idx] = sys.intern(row.status)
        if row.is_late:
            late.setdefault(row.run_id, {})[row.idx] = row.finished_at
    runs = {row.id: row.status for row in place.all(EVERY_RUN)}
    counts = len({order.run for order in orders}), len(orders), len(runs)
    assert len(set(counts)) == 1, f"runs, orders and rows: {counts}"
    wrong = {}
    for order in orders:
        became = runs[order.run], steps[order.run]
        if (due := order.complaint(*became, late.get(order.run, {}))) is not None:
            wrong[order.run] = (order.wish, *became, due)
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
    several = {key: bills for key in attempts if len(bills := calls.bills(key)) > 1}
    assert not several, f"attempts that were billed more than once: {several}"
    billed = {key: sum(calls.bills(key)) for key in attempts}
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


def check_calls(place: Town, orders: Sequence[Order], moments: Sequence[Moment]) -> str:
    """No step has two finished answers, and every call beyond those that were needed was stopped by whoever ordered it,
    or under way in a fault."""
    needed, stopped, cut, stray, untaken = Counter[tuple[uuid.UUID, int]](), Counter[str](), [], [], 0
    wishes = {order.run: order.wish for order in orders}
    for row in place.all(EVERY_ATTEMPT):
        if row.status == "succeeded" or row.error == "bad_request":
            needed[row.run_id, row.idx] += 1
        elif wishes[row.run_id] in STOPPED_BY.get(row.error, ()):
            stopped[row.error] += 1
        elif row.owner is None:
            untaken += 1
        elif any(one.begun - 0.5 <= row.ended and row.begun <= one.ended + SLACK_S for one in moments):
            cut.append(row)
        else:
            stray.append(row)
    assert not [step for step, count in needed.items() if count > 1], "steps that were answered twice"
    assert not stray, f"calls for nothing, in no fault: {stray}"
    kinds = Counter(f"{row.status} {row.error}" for row in cut)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    wanted = ", ".join(f"{count} {error}" for error, count in stopped.items())
    return (
        f"{needed.total()} calls needed, {len(cut)} more were under way in a fault ({told}), stopped were: {wanted};"
        f" {untaken} were lost in a queue before they were made"
    )


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
    names = ["unacked", *place.queues]
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
    met = {
        run: those for run in place.all(EVERY_RUN) if (those := [m for m in moments if run.begun < m.ended < run.ended])
    }
    moves: dict[uuid.UUID, list[float]] = {}
    for row in place.all(EVERY_MOVE, [run.id for run in met]):
        moves.setdefault(row.run_id, []).append(row.at)
    found: dict[str, list[float]] = {}
    for run, those in met.items():
        for moment in those:
            found.setdefault(moment.fault.what, []).append(_calm_s(moments, moment, moves[run.id]))
    every = sorted(seconds for kind in found.values() for seconds in kind)
    if not every:
        return "no run was open at the end of a fault"
    worst = ", ".join(f"{kind} {max(seconds):.1f}" for kind, seconds in sorted(found.items()))
    return (
        f"runs moved again after p50 {share(every, 0.5):.1f} s, p99 {share(every, 0.99):.1f} s, at most"
        f" {every[-1]:.1f} s ({len(every)} times; at most per fault: {worst})"
    )


def _calm_s(moments: Sequence[Moment], moment: Moment, moves: Sequence[float]) -> float:
    moved = next(at for at in moves if at >= moment.ended)
    later = [one for one in moments if one.begun >= moment.ended and one.begun < moved]
    return moved - moment.ended - sum(min(one.ended, moved) - one.begun for one in later)


def share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
