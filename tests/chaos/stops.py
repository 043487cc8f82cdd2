"""How soon a call ends that is not wanted any more: from the cancel's first word, or the deadline, to the hang-up that
the simulator sees."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.books import EVERY_ATTEMPT, Calls, share
from tests.chaos.faults import Moment
from tests.chaos.order import Order, Wish
from tests.chaos.regret import Cancel
from tests.chaos.town import Town, key_of

MOST_S = 3.0  # without a fault: a cancel is told at once, and read in the ledger by the next renewal of the leases
NEAR_S = 1.0  # to a fault
LATE = "late"  # its deadline has passed


@dataclass(frozen=True)
class Stop:
    """A run, or one step of it, that is to make no call after a moment, and begin none after another (Unix seconds)."""

    why: str
    since: float
    begins_none: float
    step: int | None = None


def check_stops(
    place: Town, orders: Sequence[Order], cancels: Sequence[Cancel], moments: Sequence[Moment], calls: Calls
) -> str:
    """What was cancelled is so for good, is not called again, and in no fault goes on for long."""
    check_answers(place, cancels)
    calm, hard = _lags(place, _stops(orders, cancels), moments, calls)
    long = [one for one in calm if one[0] > MOST_S]
    assert not long, f"went on in no fault, for so many seconds: {long}"
    told = [f"{len(cancels)} cancels, {sum(one.is_accepted for one in cancels)} in time"]
    for why in ("cancelled", LATE):
        for found, when in ((calm, ""), (hard, " in a fault")):
            if lags := sorted(lag for lag, kind, _ in found if kind == why):
                half, most = share(lags, 0.5), lags[-1]
                told.append(f"{len(lags)} {why} calls ended{when} after p50 {half:.2f} s, at most {most:.2f} s")
    return "; ".join(told)


def check_answers(place: Town, cancels: Sequence[Cancel]) -> None:
    """What a cancel was told stays true."""
    steps = {(row.run_id, row.idx): row.status for row in place.all("select run_id, idx, status from steps")}
    runs = {row.id: row.status for row in place.all("select id, status from runs")}
    for one in cancels:
        order = one.order
        became = runs[order.run] if order.wish is Wish.CANCEL else steps[order.run, order.step]
        assert one.is_accepted or became != "cancelled", f"{one} came too late, and yet: {became}"
        assert one.status != "cancelled" or became == "cancelled", f"{one} had ended it, and yet: {became}"


def _stops(orders: Sequence[Order], cancels: Sequence[Cancel]) -> Mapping[uuid.UUID, Stop]:
    late = {
        order.run: Stop(LATE, order.deadline.timestamp(), order.deadline.timestamp())
        for order in orders
        if order.deadline is not None
    }
    return late | {
        one.order.run: Stop(
            "cancelled", one.begun, one.answered, one.order.step if one.order.wish is Wish.CANCEL_STEP else None
        )
        for one in cancels
        if one.is_accepted
    }


def _lags(
    place: Town, stops: Mapping[uuid.UUID, Stop], moments: Sequence[Moment], calls: Calls
) -> tuple[list[tuple[float, str, str]], list[tuple[float, str, str]]]:
    """Seconds, why, and which, of every call that was under way at its stop: without a fault, and in one."""
    calm, hard = list[tuple[float, str, str]](), list[tuple[float, str, str]]()
    for row in place.all(EVERY_ATTEMPT):
        stop = stops.get(row.run_id)
        if stop is None or stop.step not in (None, row.idx):
            continue
        key = key_of(row.run_id, row.idx, row.number)
        ends = calls.ends(key)
        if ends or stop.why != LATE:  # a deadline may pass between the claim and the call, which then is not made
            assert row.begun <= stop.begins_none, f"{key} was begun {row.begun - stop.begins_none:.3f} s after {stop}"
        for end in ends:
            if end > stop.since:
                is_hard = any(one.begun - NEAR_S <= end and stop.since <= one.ended + NEAR_S for one in moments)
                (hard if is_hard else calm).append((end - stop.since, stop.why, key))
    return calm, hard
