"""The Celery app: configured from our settings when first used, the same for whoever publishes and whoever consumes.

Why each setting stands as it does is in docs/adr/0003-early-acknowledgement.md and 0004-threads.md.
"""

import logging
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NoReturn

from celery import Celery, current_app
from celery.signals import setup_logging
from celery.utils.nodenames import default_nodename, host_format
from kombu.messaging import Producer

from goblin import log
from goblin.settings import Settings, load
from ledger import marks
from providers.registry import Provider
from workers.consume import AMQP, Gather
from workers.producer import Share

STEPS = "steps"
BATCH = marks.BATCH


def provider_queue(provider: str) -> str:
    """The queue whose consumers call a provider."""
    return f"provider.{provider}"


def queues(providers: Iterable[Provider]) -> list[str]:
    """What a worker consumes by default: the steps, those of batches, and every provider that it could call, for which
    it has the key."""
    return [STEPS, *(provider_queue(provider.id) for provider in providers if provider.obstacle is None), BATCH]


class App(Celery):
    """A Celery app that carries the product's settings; those of the process when none are given."""

    def __init__(self, settings: Settings | None = None, **options: Any) -> None:
        self._given = settings
        self._share = Share()
        super().__init__("goblin", include=["workers.tasks"], amqp=AMQP, **options)
        self.steps["consumer"].add(Gather)
        self.add_defaults(lambda: configuration(self.settings))

    def producer_or_acquire(self, producer: Producer | None = None) -> AbstractContextManager[Producer]:
        acquired = super().producer_or_acquire(producer)
        return acquired if producer is not None else self._share.hold(acquired)

    @cached_property
    def settings(self) -> Settings:
        return self._given or load()


def create(settings: Settings) -> App:
    """An app for a process that publishes, or for a test that needs one of its own."""
    return App(settings, set_as_current=False)


def configuration(settings: Settings) -> dict[str, Any]:
    url = settings.require_redis_url()
    connections = 2 * settings.worker.concurrency + 50
    return {
        "broker_url": url,
        "result_backend": f"workers.joins:Joins+{url}",
        "task_default_queue": STEPS,
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_track_started": True,
        "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.3},
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_concurrency": settings.worker.concurrency,
        "worker_pool": "threads",
        "result_backend_thread_safe": True,
        "redis_max_connections": connections,
        "redis_socket_connect_timeout": 2,
        "redis_socket_timeout": 30,
        "result_expires": 3_600,
        "result_chord_expires": 86_400,
        "broker_pool_limit": 20,  # threads that publish at a time
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # by default a worker ends after the hundredth look for its broker
        "broker_transport_options": {
            "max_connections": connections,
            "priority_steps": [0],
            "queue_order_strategy": "sorted",  # calls that are admitted (provider.…), then steps, then steps.batch
            "socket_timeout": 30,
            "socket_connect_timeout": 2,
        },
    }


@setup_logging.connect
def _log(**_: Any) -> None:
    """Workers log as everybody does. An attempt has a closing line of its own, so Celery has none per task."""
    log.configure(current_app.settings.log_level)
    for chatty in ("celery.app.trace", "celery.worker.strategy", "celery.beat"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def serve(made: App, name: str, queues: Sequence[str], concurrency: int) -> NoReturn:
    """Work on queues until a signal comes, and end the process as Celery's own command would; that one loads what a
    prompt in a terminal needs before it begins, which takes a quarter of a start."""
    worker = made.Worker(
        hostname=host_format(default_nodename(name)),
        queues=list(queues),
        concurrency=concurrency,
        loglevel=made.settings.log_level,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    raise SystemExit(worker.exitcode)


app = App()
