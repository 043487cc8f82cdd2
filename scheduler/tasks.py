"""The clock's duties as Celery tasks, on a queue of their own that the scheduler process consumes."""

import threading

import structlog
from celery import Task, shared_task

from goblin import kv
from goblin.errors import Unavailable
from ledger.session import Ledger
from scheduler.recover import Recovery
from workers.app import App
from workers.stream import Feed

QUEUE = "scheduler"
RECOVER = "goblin.recover"
_log = structlog.get_logger()


class _Process:
    """What this scheduler process owns; made when its first duty is due."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recovery: Recovery | None = None

    def recovery(self, app: App) -> Recovery:
        with self._lock:
            if self._recovery is None:
                client = kv.connect(app.settings.require_redis_url(), connections=10)
                ledger = Ledger(app.settings.require_database_url(), connections=4)
                feed = Feed(client, app.settings.limits)
                self._recovery = Recovery(app, ledger, client, feed, app.settings.worker.lease)
            return self._recovery


_process = _Process()


@shared_task(bind=True, name=RECOVER, send_events=False)
def recover(self: Task) -> None:
    try:
        _process.recovery(self.app).go()
    except Unavailable as away:
        _log.warning("recovery.postponed", reason=away.message)
