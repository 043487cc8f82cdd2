"""Brings back what a crash, a lost message or a lost broker took.

Promised: every open run moves again, under a new epoch that outdates every older message. Not known: whether a call
that was cut short had reached its provider, so its cost is charged as an estimate. A run is given up by

- a lease that ran out: its worker is gone, or cannot reach Postgres;
- a publish that nobody noted: the submitter died, or the broker was away;
- a marker that Redis has lost: it was flushed or replaced, and all messages with it;
- a cancel of a call that was handed over and not taken yet, or the end of the time that its run or step had;
- a provider's queue drained past a call that was handed over, while nobody has taken the call: likewise;
- a steps queue drained past the sending of a step's message, while that step is due: it was lost on the way;
- a step that waits by the ledger, while no waiting room knows it and the queue was drained since.
"""

import secrets
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import redis
import structlog

from goblin.kv import outages
from ledger import attempts, marks, runs
from ledger.runs import Remainder
from ledger.session import Ledger
from scheduler.absent import Absent, Silent
from scheduler.apart import apart
from workers.app import BATCH, STEPS, App
from workers.canvas import publish, sound
from workers.conclude import conclude_run
from workers.lease import DISPATCH_LEASE
from workers.stream import Feed
from workflow.plan import Plan, PlanError

MARKER = "goblin:marker"
AT_ONCE = 16  # runs that are published side by side, as each is a handful of round trips
TOGETHER = 100  # runs that are read and noted together
ROWS = 500  # of a statement; the next pass takes the rest
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a pass needs; one per scheduler process. Times are in seconds."""

    app: App
    ledger: Ledger
    client: redis.Redis
    feed: Feed
    absent: Absent
    silent: Silent
    lease: float
    unpublished_after: float = 3.0  # that a submitter has to publish its run itself
    unfinished_after: float = 3.0
    handed_after: float = 3.0  # between claiming a call for others and sending it, and between its taking and its claim
    stalled_after: float = 5.0  # between writing down an end and sending what follows it

    def go(self) -> bool:
        """One pass, or False when another scheduler is at it. Raises Unavailable while a part is away."""
        marks.watch(self.ledger, self.lease)
        with marks.duty(self.ledger, "recover") as is_mine:
            if is_mine:
                self._pass()
            return is_mine

    def _pass(self) -> None:
        was_emptied = self._check_marker()
        attempts.call_back_cancelled(self.ledger)
        attempts.call_back_late(self.ledger, self._timeouts())
        attempts.call_back_lost(self.ledger, lease=DISPATCH_LEASE, calm=self.handed_after)
        abandoned = attempts.abandon(self.ledger, calm=self.lease, limit=ROWS)
        for one in abandoned:
            _log.warning("attempts.abandoned", run=str(one.run), count=one.attempts)
        self._publish_all([(one.run, one.epoch) for one in abandoned if one.open_steps], is_new=True)
        lost = runs.unpublished(self.ledger, patience=0 if was_emptied else self.unpublished_after, limit=ROWS)
        lost += self.silent.look(patience=self.stalled_after, limit=ROWS)
        lost += self._lost_waiters()
        self._publish_all(lost, is_new=False)
        for run in runs.unfinished(self.ledger, patience=self.unfinished_after, limit=ROWS):
            self._finish(run)
        for queue in (None, BATCH):
            if (sent_at := marks.sound(self.ledger, queue)) is not None:
                sound(self.app, sent_at, queue)
        handed = marks.sound_calls(self.ledger, lease=DISPATCH_LEASE, calm=self.handed_after)
        for provider, sent_at in handed.items():
            sound(self.app, sent_at, provider)

    def _timeouts(self) -> dict[str, float]:
        """Seconds that goblins give to a step, where they do."""
        goblins = self.app.settings.goblins
        return {name: one.timeout for name, one in goblins.items() if one.timeout is not None}

    def _lost_waiters(self) -> list[tuple[uuid.UUID, int]]:
        """Runs of steps that were called out of their rooms by a message that never arrived."""
        missing = self.absent.look()
        calm = timedelta(seconds=self.stalled_after)
        drained = {is_batch: marks.drained_at(self.ledger, BATCH if is_batch else None) for is_batch in (False, True)}
        before = {is_batch: moment - calm for is_batch, moment in drained.items() if moment is not None}
        return [
            (one.run, one.epoch) for one in missing if one.is_batch in before and one.seen_at < before[one.is_batch]
        ]

    def _check_marker(self) -> bool:
        """Whether Redis was emptied: one that does not hold our marker has lost everything else, too."""
        known = marks.get(self.ledger, "marker")
        with outages():
            found = self.client.get(MARKER)
        if known is not None and found == known:
            return False
        marker = secrets.token_hex(16)
        if known is not None:
            runs.outdate_all(self.ledger)
            attempts.call_back(self.ledger)
            _log.warning("redis.was_emptied")
        marks.put(self.ledger, "marker", marker)
        with outages():
            self.client.set(MARKER, marker)
        return known is not None

    def _publish_all(self, found: Sequence[tuple[uuid.UUID, int]], *, is_new: bool) -> None:
        """The first failure ends it: the next pass finds the rest."""
        if found:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="publish") as pool:
                for start in range(0, len(found), TOGETHER):
                    self._publish(pool, dict(found[start : start + TOGETHER]), is_new=is_new)

    def _publish(self, pool: Executor, epochs: Mapping[uuid.UUID, int], *, is_new: bool) -> None:
        """Send what is left of some runs, under these epochs when they are new, else under the ones after them."""
        rests = {rest.id: rest for rest in runs.remainders(self.ledger, list(epochs)) if rest.epoch == epochs[rest.id]}
        plans = {run: plan for run, rest in rests.items() if (plan := _read(rest)) is not None}
        under = {run: epochs[run] for run in plans}
        if not is_new:
            under = runs.renew_epochs(self.ledger, under)

        def publish_one(run: uuid.UUID) -> bool:
            queue = BATCH if rests[run].is_batch else STEPS
            send = partial(publish, self.app, plans[run], run, under[run], rests[run].settled, queue)
            return apart("run.not_brought_back", send, run=str(run))

        sent = {run: under[run] for run, is_sent in zip(under, pool.map(publish_one, under), strict=True) if is_sent}
        runs.mark_all_published(self.ledger, sent)
        for run, epoch in sent.items():
            _log.info("run.republished", run=str(run), epoch=epoch, settled=len(rests[run].settled))

    def _finish(self, run: uuid.UUID) -> None:
        rest = runs.remainder(self.ledger, run)
        plan = _read(rest)
        if plan is not None:
            finish = partial(conclude_run, self.ledger, self.feed, run, plan, fail_fast=rest.fail_fast)
            apart("run.not_brought_back", finish, run=str(run))


def _read(rest: Remainder) -> Plan | None:
    """The plan, or None when another release wrote it: that one's scheduler brings the run back."""
    try:
        return Plan.from_value(rest.plan)
    except PlanError as error:
        _log.error("plan.not_read", run=str(rest.id), reason=error.message)
        return None
