"""The scheduler process: Celery's beat in a thread, and a small worker that does what it calls for.

Any number may run; each duty takes a turn in Postgres, so one at a time acts.
"""

from typing import Any

from celery.beat import EmbeddedService
from celery.signals import worker_ready, worker_shutdown

from goblin.settings import Settings
from scheduler.tasks import PROBE, QUEUE, REBUILD, RECOVER
from workers.app import App

EVERY = 1.0  # seconds between two looks for what must be mended


def app(settings: Settings) -> App:
    """An app whose beat knows the duties. A tick that nobody took in time is worth nothing, so it expires."""
    made = App(settings)
    made.conf.beat_max_loop_interval = EVERY
    made.conf.beat_schedule = {
        duty: {"task": duty, "schedule": every, "options": {"queue": QUEUE, "expires": 2 * every}}
        for duty, every in ((RECOVER, EVERY), (REBUILD, EVERY), (PROBE, settings.routing.health_check_interval))
    }
    return made


def run(settings: Settings) -> None:
    """Run until SIGTERM."""
    made = app(settings)
    beat = EmbeddedService(made, thread=True, scheduler_cls="celery.beat:Scheduler")

    @worker_ready.connect(weak=False)
    def begin(**_: Any) -> None:
        beat.start()

    @worker_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        beat.service.stop()

    made.worker_main(
        [
            "--quiet",
            "worker",
            "-P",
            "threads",
            "-c",
            "2",
            "-Q",
            QUEUE,
            "-n",
            "scheduler@%h",
            "--without-gossip",
            "--without-mingle",
        ]
    )
