"""The scheduler process: Celery's beat in a thread, and a small worker that does what it calls for.

Any number may run; each duty takes a turn in Postgres, so one at a time acts.
"""

from contextlib import suppress
from typing import Any, NoReturn

from celery.beat import EmbeddedService
from celery.signals import worker_ready, worker_shutdown
from kombu.exceptions import OperationalError

from goblin.settings import Settings
from scheduler.tasks import FEED, FOLD, PROBE, PRUNE, QUEUE, REBUILD, RECOVER
from workers.app import App, serve

EVERY = 1.0  # seconds between two looks for what must be mended
PRUNE_EVERY = 60.0  # seconds
FOLD_EVERY = 60.0  # seconds
AT_ONCE = 6  # so that no duty waits for another one


def app(settings: Settings) -> App:
    """An app whose beat knows the duties. A tick that nobody took in time is worth nothing, so it expires."""
    made = App(settings)
    made.conf.beat_max_loop_interval = EVERY
    made.conf.beat_schedule = {
        duty: {"task": duty, "schedule": every, "options": {"queue": QUEUE, "expires": 2 * every}}
        for duty, every in (
            (RECOVER, EVERY),
            (REBUILD, EVERY),
            (FEED, EVERY),
            (PROBE, settings.routing.health_check_interval),
            (PRUNE, PRUNE_EVERY),
            (FOLD, FOLD_EVERY),
        )
    }
    return made


def _look_around(made: App) -> None:
    """Check the providers now, not an interval later: a key that is wrong is known before a step is spent on it."""
    with suppress(OperationalError):  # the broker went away since it was reached: the clock will call
        made.send_task(PROBE, queue=QUEUE, expires=made.settings.routing.health_check_interval)


def run(settings: Settings) -> NoReturn:
    """Run until SIGTERM."""
    made = app(settings)
    beat = EmbeddedService(made, thread=True, scheduler_cls="celery.beat:Scheduler")

    @worker_ready.connect(weak=False)
    def begin(**_: Any) -> None:
        beat.start()
        _look_around(made)

    @worker_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        beat.service.stop()

    serve(made, "scheduler@%h", [QUEUE], AT_ONCE)
