"""The way to the broker: a publish happens soon or is left to the scheduler, so that no request waits for Redis."""

import threading
import time
import uuid
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from goblin.errors import Unavailable
from goblin.settings import Settings
from ledger import runs
from ledger.session import Ledger
from workers import app, canvas
from workflow.plan import Plan

FIRST_EPOCH = 1
_REST = 2.0  # seconds without a new try after one that failed
_PATIENCE = 2  # seconds that a connection may take to answer; workers, who block on theirs, have more
_log = structlog.get_logger()


class Broker:
    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._ledger = ledger
        self._celery = app.create(settings)
        options = {**self._celery.conf.broker_transport_options, "socket_timeout": _PATIENCE}
        retries = {**self._celery.conf.task_publish_retry_policy, "max_retries": 1}
        self._celery.conf.update(
            broker_transport_options=options, redis_socket_timeout=_PATIENCE, task_publish_retry_policy=retries
        )
        self._rests_until = float("-inf")
        self._lock = threading.Lock()

    def publish(
        self,
        plan: Plan,
        run: uuid.UUID,
        epoch: int = FIRST_EPOCH,
        settled: Collection[int] = frozenset(),
        *,
        is_batch: bool = False,
    ) -> None:
        """Send the messages of a run, or of what is left of it, if the broker takes them now. It runs in any case."""
        with self._lock:
            if time.monotonic() < self._rests_until:
                return
        try:
            canvas.publish(self._celery, plan, run, epoch, settled, app.BATCH if is_batch else app.STEPS)
            runs.mark_published(self._ledger, run, epoch)
        except Unavailable as error:
            with self._lock:
                self._rests_until = time.monotonic() + _REST
            _log.warning("run.unpublished", run=str(run), error=error.message)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message that has waited. Raises Unavailable."""
        canvas.send(self._celery.signature(dict(message)))

    def close(self) -> None:
        self._celery.close()
