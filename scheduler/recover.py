"""Brings back what a crash, a lost message or a lost broker took.

Promised: every open run moves again, under a new epoch that outdates every older message. Not known: whether a call
that was cut short had reached its provider, so its cost is charged as an estimate. A run is given up by

- a lease that ran out: its worker is gone, or cannot reach Postgres;
- a publish that nobody noted: the submitter died, or the broker was away;
- a marker that Redis has lost: it was flushed or replaced, and all messages with it;
- a steps queue drained past the run's last sign of life, with no call open: its message was lost on the way.
"""

import secrets
import uuid
from dataclasses import dataclass

import redis
import structlog

from goblin.kv import outages
from ledger import attempts, marks, runs
from ledger.session import Ledger
from workers.app import App
from workers.canvas import publish, sound
from workers.conclude import conclude_run
from workers.stream import Feed
from workflow.plan import Plan

MARKER = "goblin:marker"
BATCH = 500  # rows per statement; the next pass takes the rest
UNPUBLISHED_AFTER = 3.0  # seconds that a submitter has to publish its run itself
UNFINISHED_AFTER = 3.0
STALLED_AFTER = 5.0  # seconds between writing down an end and sending what follows it
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a pass needs; one per scheduler process."""

    app: App
    ledger: Ledger
    client: redis.Redis
    feed: Feed
    lease: float  # seconds

    def go(self) -> bool:
        """One pass, or False when another scheduler is at it. Raises Unavailable while a part is away."""
        with marks.duty(self.ledger, "recover") as is_mine:
            if is_mine:
                self._pass()
            return is_mine

    def _pass(self) -> None:
        self._check_marker()
        due: dict[uuid.UUID, int] = {}
        for one in attempts.abandon(self.ledger, calm=self.lease, limit=BATCH):
            _log.warning("attempts.abandoned", run=str(one.run), count=one.attempts)
            if one.open_steps:
                due[one.run] = one.epoch
        lost = runs.unpublished(self.ledger, patience=UNPUBLISHED_AFTER, limit=BATCH)
        lost += runs.stalled(self.ledger, patience=STALLED_AFTER, limit=BATCH)
        for run, epoch in lost:
            if run not in due and (renewed := runs.renew_epoch(self.ledger, run, epoch)) is not None:
                due[run] = renewed
        for run, epoch in due.items():
            self._publish(run, epoch)
        for run in runs.unfinished(self.ledger, patience=UNFINISHED_AFTER, limit=BATCH):
            self._finish(run)
        if (sent_at := marks.sound(self.ledger)) is not None:
            sound(self.app, sent_at)

    def _check_marker(self) -> None:
        """A Redis that does not hold our marker has lost everything else, too."""
        known = marks.get(self.ledger, "marker")
        with outages():
            found = self.client.get(MARKER)
        if known is not None and found == known:
            return
        marker = secrets.token_hex(16)
        if known is not None:
            runs.outdate_all(self.ledger)
            _log.warning("redis.was_emptied")
        marks.put(self.ledger, "marker", marker)
        with outages():
            self.client.set(MARKER, marker)

    def _publish(self, run: uuid.UUID, epoch: int) -> None:
        rest = runs.remainder(self.ledger, run)
        if rest.epoch != epoch:
            return
        publish(self.app, Plan.from_value(rest.plan), run, epoch, rest.settled)
        runs.mark_published(self.ledger, run, epoch)
        _log.info("run.republished", run=str(run), epoch=epoch, settled=len(rest.settled))

    def _finish(self, run: uuid.UUID) -> None:
        rest = runs.remainder(self.ledger, run)
        conclude_run(self.ledger, self.feed, run, Plan.from_value(rest.plan), fail_fast=rest.fail_fast)
