"""The clock's duties as Celery tasks, on a queue of their own that the scheduler process consumes."""

import threading
from collections.abc import Callable

import structlog
from celery import Task, shared_task

from goblin import kv
from goblin.errors import Unavailable
from ledger.session import Ledger
from routing.rebuild import Rebuild
from routing.script import Scripts
from scheduler.recover import Recovery
from workers.app import App
from workers.stream import Feed

QUEUE = "scheduler"
RECOVER = "goblin.recover"
REBUILD = "goblin.rebuild"
_log = structlog.get_logger()


class _Process:
    """What this scheduler process owns; made when its first duty is due."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._duties: tuple[Recovery, Rebuild] | None = None

    def duties(self, app: App) -> tuple[Recovery, Rebuild]:
        with self._lock:
            if self._duties is None:
                client = kv.connect(app.settings.require_redis_url(), connections=10)
                ledger = Ledger(app.settings.require_database_url(), connections=6)
                recovery = Recovery(app, ledger, client, Feed(client, app.settings.limits), app.settings.worker.lease)
                self._duties = recovery, Rebuild(ledger, Scripts(client))
            return self._duties


_process = _Process()


@shared_task(bind=True, name=RECOVER, send_events=False)
def recover(self: Task) -> None:
    _do(RECOVER, lambda: _process.duties(self.app)[0].go())


@shared_task(bind=True, name=REBUILD, send_events=False)
def rebuild(self: Task) -> None:
    _do(REBUILD, lambda: _process.duties(self.app)[1].go())


def _do(name: str, duty: Callable[[], object]) -> None:
    try:
        duty()
    except Unavailable as away:
        _log.warning("duty.postponed", duty=name, reason=away.message)
