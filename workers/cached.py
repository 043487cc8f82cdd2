"""Identical requests are asked once: whoever is first flies, the others wait in the flight's room and have its answer.

For runs and goblins that want it, and within one API key. Kept is only what one call gave whole and the step succeeded
with. A flight that brings nothing to keep holds nobody back: those who waited each make a call of their own.
"""

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from goblin.clock import new_id
from goblin.errors import Unavailable
from goblin.money import to_usd
from goblin.settings import GoblinSettings
from ledger import attempts
from ledger.attempts import Charge, Claim, Closed, Ending
from ledger.session import Ledger
from ledger.states import AttemptStatus, StepStatus
from providers.tokens import estimate
from routing.cache import Cache, Kept, Seat
from workers.lease import DISPATCH_LEASE, Leases
from workers.stream import Feed, StepFeed
from workers.wake import Waker
from workflow.plan import Step

CALLED = 100  # who waits for a flight is called in such numbers
WAITS = {"flight": "an identical request is under way"}  # the decision of a step that waits for its answer
_log = structlog.get_logger()


def is_wanted(options: Mapping[str, Any], goblin: GoblinSettings) -> bool:
    """The run's word, else the goblin's."""
    return bool(options.get("cache", goblin.cache))


def room(request: str) -> str:
    return f"flight:{request}"


@dataclass(frozen=True, slots=True)
class Asker:
    """A step that asks, as the ledger and the listeners know it. `begun` is what the listeners still hold of it."""

    run: uuid.UUID
    epoch: int
    step: Step
    key_id: uuid.UUID | None
    begun: str = ""

    @property
    def name(self) -> str:
        """Outlives the epoch: whoever takes over from a worker that died flies on at once."""
        return f"{self.run.hex}-{self.step.idx}"


@dataclass(slots=True, eq=False)
class Flight:
    """A call that identical requests wait for (`request` None: that nobody waits for), and what came of it."""

    request: str | None
    asker: Asker
    cache: Cache
    is_kept: bool = False
    is_over: bool = False  # the step has its outcome
    is_handed_over: bool = False  # another worker makes the call
    is_left: bool = False  # to another message of the step, which was first and flies under the same name

    def keep(self, ending: Ending, provider: str, model: str) -> None:
        """Keep the answer of a call, if it is whole and the step succeeded with it."""
        is_whole = ending.step is StepStatus.SUCCEEDED and ending.finish == "stop"
        if self.request is None or not is_whole or not ending.output:
            return
        try:
            kept = Kept(ending.output, provider, model, self.asker.run.hex, self.asker.step.id)
            self.is_kept = self.cache.keep(self.request, kept)
        except Unavailable:
            return  # the answer is in the ledger; only the next one who asks makes a call


@dataclass(slots=True)
class Flights:
    """One per worker process, safe for many threads: a flight lives as long as its process says so."""

    cache: Cache
    waker: Waker
    lease: float  # seconds
    _under_way: set[Flight] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._renew_always, name="flights", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def recall(self, request: str, asker: Asker) -> Kept | Seat:
        """The answer of an identical request, or what to do without one. Without Redis everybody asks."""
        try:
            return self.cache.recall(request, asker.name, self.lease)
        except Unavailable:
            return Seat.ALONE

    @contextmanager
    def fly(self, request: str | None, asker: Asker) -> Iterator[Flight]:
        """While this lasts, those who ask the same wait; at its end they are told."""
        flight = Flight(request, asker, self.cache)
        if request is None:
            yield flight
            return
        with self._lock:
            self._under_way.add(flight)
        try:
            yield flight
        finally:
            with self._lock:
                self._under_way.remove(flight)
            if flight.is_handed_over:
                self._await(request, asker)
            elif not flight.is_left:
                self._land(request, flight)

    def _land(self, request: str, flight: Flight) -> None:
        """With an answer everybody is called to have it, after a failure to ask for themselves, else one to fly on."""
        is_for_all = flight.is_kept or flight.is_over
        try:
            alone = self.lease if flight.is_over and not flight.is_kept else 0
            self.cache.land(request, flight.asker.name, alone=alone)
        except Unavailable:
            return
        self.waker.call([room(request)], CALLED if is_for_all else 1)

    def _await(self, request: str, asker: Asker) -> None:
        """Nobody renews the flight until another worker makes the call: it lasts as long as the call may lie there."""
        with suppress(Unavailable):
            self.cache.renew({request: asker.name}, DISPATCH_LEASE)

    def served(self, request: str, answer: Kept) -> None:
        """Whoever was called and took no place lets the next ones come."""
        self.waker.freed([room(request)], CALLED)
        self.waker.freed([answer.provider])

    def _renew_always(self) -> None:
        while not self._stopped.wait(self.lease / 3):
            with self._lock:  # until it is done: one that lands meanwhile would be taken for one that was lost
                self._renew({one.request: one.asker.name for one in self._under_way if one.request is not None})

    def _renew(self, flyers: Mapping[str, str]) -> None:
        try:
            if flyers:
                self.cache.renew(flyers, self.lease)
        except Unavailable:
            _log.warning("flights.not_renewed", count=len(flyers))


def serve(ledger: Ledger, feed: Feed, leases: Leases, asker: Asker, answer: Kept, *, goblin: str) -> Closed | None:
    """Give a kept answer to a step, as an attempt that costs nothing; None when another message was first.

    Raises LeaseLost like the settling of a call.
    """
    attempt = new_id()
    claim = Claim(
        attempt, asker.run, asker.step.idx, asker.epoch, answer.provider, answer.model, leases.owner, leases.duration,
        hold=0, floor=0, decision={"cache": {"run": answer.run, "step": answer.step}},
    )  # fmt: skip
    number = attempts.open_attempt(ledger, claim)
    if number is None:
        return None
    charge = Charge(0, is_measured=True, price={"source": "cache"})
    ending = Ending(
        AttemptStatus.SUCCEEDED, StepStatus.SUCCEEDED, answer.text, charge=charge, finish="stop", duration_ms=0
    )
    closed = attempts.settle(ledger, attempt, ending, goblin=goblin, key_id=asker.key_id)
    _tell(StepFeed(feed, asker.run, asker.step.id), asker, answer, number, closed)
    _log.info("attempt.cached", run=str(asker.run), step=asker.step.id, candidate=f"{answer.provider}/{answer.model}")
    return closed


def _tell(feed: StepFeed, asker: Asker, answer: Kept, number: int, closed: Closed) -> None:
    if asker.begun:
        feed.say("step.reset", reason="an identical request was answered")
    who = {"goblin": asker.step.goblin, "provider": answer.provider, "model": answer.model}
    feed.say("step.started", **who, attempt=number, cached=True)
    feed.say("delta", text=answer.text, tokens=estimate(answer.text), cost=to_usd(0))
    usage = {"input": 0, "cache_read": 0, "cache_write": 0, "output": 0, "reasoning": 0, "measured": True}
    feed.say("step.finished", outcome=closed.status, cost_usd=to_usd(closed.cost), usage=usage, error=None, cached=True)
    feed.flush()
