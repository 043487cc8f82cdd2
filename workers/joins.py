"""The result backend: Redis, for the counters of joins alone. Nobody waits for a result, so nobody subscribes to one.

A publisher's subscriptions would cost a connection and a round trip per message, and end the process's usefulness
when Redis goes away for a while ("the Celery application must be restarted").
"""

from typing import Any

from celery.backends.redis import RedisBackend, ResultConsumer


class NoConsumer(ResultConsumer):
    def start(self, *_: Any, **__: Any) -> None:
        """Nothing to listen to."""

    def consume_from(self, task_id: str) -> None:
        """Outcomes are read from the ledger."""

    def cancel_for(self, task_id: str) -> None:
        """Nothing was consumed."""


class Joins(RedisBackend):
    ResultConsumer = NoConsumer

    def add_pending_result(self, result: Any, weak: bool = False, start_drainer: bool = True) -> Any:  # noqa: ARG002
        """Nobody waits: the results of a chord's members would be remembered as long as the process lives."""
        return result
