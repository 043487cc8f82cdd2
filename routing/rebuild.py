"""Keeps Redis' counters true to the ledger: builds them anew when they are lost, and settles what nobody settled.

A generation is loaded under keys of its own while admission refuses, and taken into use in one write. What was
admitted before and is not open in Postgres by then can never be opened; what is open counts as held. A rebuild that
dies half-way leaves Redis without a generation, or with one that Postgres does not know: the next pass sees either.
"""

import secrets
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
import structlog

from goblin.errors import Unavailable
from goblin.kv import outages
from ledger import holds, marks
from ledger.holds import End, Hold, Truth
from ledger.session import Ledger
from routing import budget, memory
from routing.ask import SPAN_MS
from routing.breaker import Change, Knobs, changes
from routing.budget import Counter
from routing.script import Scripts, server_of
from routing.waiting import WaitingRooms

VACANT_MS = 5_000  # after which the place of an admission without an attempt goes to others
UNOPENED_MS = 120_000  # after which its money does: attempts.OPENING is shorter
ENDED_MS = 2_000  # after which nobody waits any more for the worker of a call that has ended to say so itself
LONGEST_MS = 900_000  # at least, that a call found open is believed to last, if nobody says that it ended
CHUNK = 1_000  # holds or counters in one message to Redis
_T = TypeVar("_T")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mended:
    """What one pass did: holds settled by what the ledger knows, and those of attempts that nobody opened given up."""

    is_rebuilt: bool
    settled: int
    released: int
    vacated: int  # the place alone

    @property
    def has_freed(self) -> bool:
        """Whether there may be room that no worker tells of."""
        return self.is_rebuilt or bool(self.settled or self.released or self.vacated)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Needed by the scheduler alone; one per process.

    Who was admitted and has not opened an attempt for `vacant_ms` of Postgres in reach loses the slot, and the turn as
    the probe; after `unopened_ms` the hold is given back. A call that ended less than `ended_ms` ago is left to its
    worker, which has more to say of it than the ledger: to the breakers, and to those who listen. No call lasts for
    longer than `longest_ms`, its time in a queue included.
    """

    ledger: Ledger
    scripts: Scripts
    knobs: Knobs = Knobs()  # noqa: RUF009
    vacant_ms: int = VACANT_MS
    unopened_ms: int = UNOPENED_MS
    ended_ms: int = ENDED_MS
    longest_ms: int = LONGEST_MS

    def go(self) -> Mended | None:
        """One pass, or None when another scheduler is at it. Raises Unavailable while a part is away."""
        with marks.duty(self.ledger, "rebuild") as is_mine:
            if not is_mine:
                return None
            is_due = self._is_due()
            if is_due:
                self.rebuild()
            mended = Mended(is_due, *self.reconcile())
            if mended.has_freed:
                WaitingRooms(self.scripts.client).hurry()
            return mended

    def rebuild(self) -> str:
        """Count anew from the ledger: the new generation. Admission refuses from its beginning to its end.

        Raises Unavailable when a part is lost on the way; the next pass begins again.
        """
        generation, client, prefix = secrets.token_hex(6), self.scripts.client, self.scripts.prefix
        with outages():
            client.delete(f"{prefix}:generation")
            client.set(f"{self.scripts.root(generation)}loading", 1)
            now_ms = _now_ms(client)
        with holds.renew(self.ledger, generation, now_ms=now_ms, span_ms=SPAN_MS) as truth:
            left = self._counters_but(generation)
            for value in loads(truth, generation, now_ms, self.longest_ms):
                self.scripts.run("load", value)
            news = self._tell_breakers(truth)
        memory.keep(self.ledger, news)
        # after the commit: an attempt admitted before it would not find its generation in Postgres yet
        with outages():
            server = server_of(client)
        if self.scripts.run("use", {"generation": generation, "server": server}) == ["lost"]:
            raise Unavailable("Redis lost its data while the counters were loaded", retry_after=1)
        _log.warning("admission.rebuilt", generation=generation, holds=len(truth.holds))
        self._forget(left)
        return generation

    def reconcile(self) -> tuple[int, int, int]:
        """Settle the holds whose attempts have ended, release the old ones whose attempts never began, and vacate those
        whose attempts should have.

        How many of each. Costs one statement for every thousand calls under way.
        """
        client, prefix = self.scripts.client, self.scripts.prefix
        with outages():
            generation, now_ms = str(client.get(f"{prefix}:generation")), _now_ms(client)
            held: Any = client.zrange(f"{self.scripts.root(generation)}holds", 0, -1, withscores=True)
        answers: list[Any] = []
        for chunk in _chunks(held):
            ends = holds.ended(self.ledger, [uuid.UUID(attempt) for attempt, _ in chunk], calm=self.ended_ms / 1000)
            verbs = [verb for attempt, at_ms in chunk if (verb := self._mend(attempt, ends, now_ms - at_ms))]
            is_unsettled = any(verb != "settle" for verb, _ in verbs)
            if is_unsettled and not marks.is_calm(self.ledger, self.vacant_ms / 1000):
                verbs = [one for one in verbs if one[0] == "settle"]  # the others could not tell the ledger
            for what, *alerts in self.scripts.run_all(verbs) if verbs else ():
                answers.append(what)
                for name in alerts:
                    _log.warning("budget.nearly_spent", budget=name)
        settled, released, vacated = map(answers.count, ("settled", "released", "vacated"))
        if settled or released or vacated:
            _log.info("holds.reconciled", settled=settled, released=released, vacated=vacated)
        return settled, released, vacated

    def _mend(self, attempt: str, ends: dict[uuid.UUID, End], age_ms: float) -> tuple[str, dict[str, Any]] | None:
        end = ends.get(uuid.UUID(attempt))
        if end is None:
            if age_ms > self.unopened_ms:
                return "release", {"attempt": attempt}
            return ("vacate", {"attempt": attempt}) if age_ms > self.vacant_ms else None
        if not end.has_ended:
            return None
        used = {"amount": end.amount, "input": end.input, "output": end.output}
        return "settle", {"attempt": attempt, **used, "generation": "", "budgets": []}

    def _tell_breakers(self, truth: Truth) -> list[Change]:
        """How calls ended that Redis was not told of, or has forgotten, before it lets others through."""
        told = _chunks(memory.lessons(truth.ends, truth.breakers, self.knobs))
        return [change for chunk in told for answer in self.scripts.run_all(chunk) for change in changes(answer)]

    def _is_due(self) -> bool:
        """Whether Redis was emptied, or restarted (it may have come back with yesterday's counters), or is not ours."""
        client, prefix = self.scripts.client, self.scripts.prefix
        with outages():
            generation, server = client.mget(f"{prefix}:generation", f"{prefix}:server")
            is_same = server == server_of(client)
        return not is_same or generation is None or generation != holds.current(self.ledger)

    def _counters_but(self, generation: str) -> list[str]:
        """The keys of older generations. Asked while no later one can be loaded: a scheduler that slept after its own
        was taken into use must not forget what another one has counted since.
        """
        client, own = self.scripts.client, self.scripts.root(generation)
        with outages():
            found = client.scan_iter(match=self.scripts.root("*") + "*", count=CHUNK)
            return [str(key) for key in found if not str(key).startswith(own)]

    def _forget(self, keys: Sequence[str]) -> None:
        with outages():
            for some in _chunks(keys):
                self.scripts.client.unlink(*some)


def loads(truth: Truth, generation: str, now_ms: int, longest_ms: int = LONGEST_MS) -> Iterator[dict[str, Any]]:
    """The truth as values for the verb `load`, each of a bounded size."""

    def value(**parts: Any) -> dict[str, Any]:
        return {
            "generation": generation,
            "now": now_ms,
            "span": SPAN_MS,
            "spent": [],
            "worked": [],
            "breakers": [],
            "holds": [],
            "calls": [],
            **parts,
        }

    for spent in _chunks(list(_spent(truth, now_ms))):
        yield value(spent=[[counter.name, amount, counter.ends, counter.idle] for counter, amount in spent])
    yield value(worked=sorted({one.provider for one in truth.hours}))
    for states in _chunks(list(truth.breakers.items())):
        yield value(breakers=states)
    for made in _chunks(truth.made):
        # a candidate's own, too: a Redis that kept its data has not forgotten the limits that its vendor told
        scopes = ((name, one) for one in made for name in (one.provider, f"{one.provider}/{one.model}"))
        yield value(calls=[[name, one.at_ms, one.tokens] for name, one in scopes])
    for held in _chunks(truth.holds):
        yield value(holds=[_hold(one, now_ms, longest_ms) for one in held])


def _spent(truth: Truth, now_ms: int) -> Iterator[tuple[Counter, int]]:
    hour_ms = now_ms // budget.HOUR_MS * budget.HOUR_MS
    for one in truth.hours:
        periods: tuple[budget.Period, ...] = ("hour", "day") if one.hour_ms >= hour_ms else ("day",)
        for period in periods:
            yield budget.counter(budget.everything(period, 0), one.hour_ms), one.amount
            yield budget.counter(budget.of_provider(one.provider, period, 0), one.hour_ms), one.amount
    for run, amount in truth.runs.items():
        yield budget.counter(budget.of_run(run, 0), now_ms), amount
    for key, amount in truth.keys.items():
        yield budget.counter(budget.of_key(key, 0), now_ms), amount
    for batch, amount in truth.batches.items():
        yield budget.counter(budget.of_batch(batch, 0), now_ms), amount


def _hold(one: Hold, now_ms: int, longest_ms: int) -> dict[str, Any]:
    above = budget.counters(
        provider=one.provider, run=one.run, key=one.key, batch=one.batch, at_ms=one.at_ms, now_ms=now_ms
    )
    return {
        "attempt": str(one.attempt),
        "at": one.at_ms,
        "provider": one.provider,
        "candidate": f"{one.provider}/{one.model}",
        "amount": one.amount,
        "tokens": one.tokens,
        "slot_until": one.at_ms + longest_ms,
        "budgets": above,
    }


def _chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def _now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return seconds * 1000 + micros // 1000
