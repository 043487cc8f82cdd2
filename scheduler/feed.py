"""Feeds batches: keeps a bounded window of their lines open as runs, and closes those that are at their end.

A page of lines is stored as runs and errors in one statement, then published; what was stored and not published is
found by recovery. So a feeder that is killed anywhere neither loses a line nor feeds it twice. With Redis away no duty
is called, and nothing is fed.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import redis
import structlog

from goblin.errors import BudgetExhausted
from goblin.money import to_usd
from ledger import feeding, files, marks, runs
from ledger.feeding import OpenBatch
from ledger.files import Line
from ledger.runs import NewRun
from ledger.session import IDLE_S, Ledger
from ledger.states import BatchStatus
from routing.budget import of_batch
from scheduler.apart import apart
from scheduler.collect import Collector
from scheduler.share import Claim, shares
from workers import line
from workers.app import BATCH, App
from workers.canvas import publish
from workers.halt import halt
from workers.order import Desk
from workflow.plan import Plan

FIRST_EPOCH = 1
TOGETHER = 100  # lines that are fed, published and noted together
AT_ONCE = 8  # runs that are published side by side
TICK = 0.1  # seconds between two looks of one turn
VISIT = 0.5  # seconds after which a batch leaves the rest of its share to the next look
LOOK = IDLE_S / 2  # seconds that a look may last, since the turn's transaction says nothing meanwhile
SPENT = 10  # lines in a row that found no room in the batch's budget: the next ones would find none either
_CUT = (BatchStatus.EXPIRED, BatchStatus.CANCELLED)  # what is under way ends with such a batch
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Feeder:
    """One per scheduler process. `window` is how many runs of batches may be open; a turn takes `at_most` seconds."""

    app: App
    ledger: Ledger
    client: redis.Redis
    desk: Callable[[], Desk]
    collector: Collector
    window: int
    at_most: float = 1.0

    def go(self) -> bool:
        """One turn, or False when another scheduler is at it. Raises Unavailable while a part is away."""
        with marks.duty(self.ledger, "feed") as is_mine:
            if is_mine:
                self._turn()
            return is_mine

    def _turn(self) -> None:
        end = time.monotonic() + self.at_most
        pause = threading.Event()
        failed: set[uuid.UUID] = set()  # left alone until the next turn
        while batches := [one for one in feeding.open_batches(self.ledger) if one.id not in failed]:
            failed |= self._look(batches)
            if time.monotonic() >= end:
                return
            pause.wait(TICK)

    def _look(self, batches: list[OpenBatch]) -> set[uuid.UUID]:
        """In any order, so that what a look does not get to is not always the same: the batches at which it failed."""
        fed = [one for one in batches if one.status is BatchStatus.IN_PROGRESS]
        claims = [Claim(one.id, one.key_id, one.weight, one.open + one.lines - one.fed) for one in fed]
        share = shares(self.window, claims)
        end, failed = time.monotonic() + LOOK, set()
        for one in random.sample(batches, len(batches)):
            visit = partial(self._visit, one, share.get(one.id, 0))
            if not apart("batch.crashed", visit, batch=str(one.id)):
                failed.add(one.id)
            if time.monotonic() >= end:
                break
        return failed

    def _visit(self, batch: OpenBatch, share: int) -> None:
        if batch.status is BatchStatus.IN_PROGRESS:
            self._go_on(batch, share)
        elif not batch.open:
            self.collector.collect(batch)
        elif batch.ends_as in _CUT:
            halt(self.ledger, self.client, batch.id)

    def _go_on(self, batch: OpenBatch, share: int) -> None:
        if batch.fed >= batch.lines and not batch.open:
            feeding.stop(self.ledger, batch.id, BatchStatus.COMPLETED)
        elif batch.is_over:
            self._stop(batch, BatchStatus.EXPIRED, "batch_expired", "its completion window is over")
            halt(self.ledger, self.client, batch.id)
        elif batch.fed < batch.lines and batch.open < share and 2 * batch.open <= share:
            if self._is_spent(batch):
                told = f"its budget of {to_usd(batch.budget or 0)} USD is spent"
                self._stop(batch, BatchStatus.FAILED, BudgetExhausted.slug, told)
            else:
                self._fill(batch, share - batch.open)

    def _fill(self, batch: OpenBatch, count: int) -> None:
        """Feed it so many lines, some at a time, until somebody else has or this has lasted long enough."""
        end = time.monotonic() + VISIT
        for already in range(0, count, TOGETHER):
            page = files.page(self.ledger, batch.file_id, after=batch.fed, limit=min(TOGETHER, count - already))
            if not page:
                if batch.fed < batch.lines:
                    self._stop(batch, BatchStatus.FAILED, "not_found", "the lines of its file are gone")
                return
            if not self._feed(batch, page) or time.monotonic() >= end:
                return
            batch = replace(batch, fed=page[-1].number)

    def _feed(self, batch: OpenBatch, page: Sequence[Line]) -> bool:
        """False when the batch is fed no more, or was fed by somebody else."""
        desk = self.desk()
        read = [line.read(desk, batch.endpoint, one) for one in page]
        made = feeding.feed(self.ledger, batch, read, line.DOUBLE)
        if made is None:
            return False
        self._publish(made)
        _log.info("batch.fed", batch=str(batch.id), to=page[-1].number, runs=len(made), bad=len(page) - len(made))
        return True

    def _publish(self, made: Sequence[tuple[uuid.UUID, NewRun]]) -> None:
        """Side by side, since each waits for round trips; noted before recovery would take them for unpublished."""

        def publish_one(one: tuple[uuid.UUID, NewRun]) -> None:
            publish(self.app, Plan.from_value(one[1].plan), one[0], FIRST_EPOCH, queue=BATCH)

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="feed") as pool:
            list(pool.map(publish_one, made))
        runs.mark_all_published(self.ledger, {run: FIRST_EPOCH for run, _ in made})

    def _is_spent(self, batch: OpenBatch) -> bool:
        """Whether the lines that ended last found no room in the batch's own budget, which never begins anew."""
        if batch.budget is None:
            return False
        ends = feeding.lately(self.ledger, batch, within=self.window, limit=SPENT)
        own = (BudgetExhausted.slug, of_batch(batch.id, 0).name)
        return len(ends) == SPENT and all(end == own for end in ends)

    def _stop(self, batch: OpenBatch, ends_as: BatchStatus, code: str, why: str) -> None:
        rest = f": lines {batch.fed + 1} to {batch.lines} were not begun" if batch.fed < batch.lines else ""
        error = {"type": code, "message": why + rest, "line": batch.fed + 1 if rest else None}
        feeding.stop(self.ledger, batch.id, ends_as, error)
        _log.warning("batch.stopped", batch=str(batch.id), ends_as=ends_as, reason=why)
