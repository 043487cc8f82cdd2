"""Stops all runs of a batch at once: those that wait end here, calls under way are cut by their workers."""

import uuid

import redis

from goblin.errors import Unavailable
from goblin.kv import outages
from ledger import batches
from ledger.session import Ledger
from workers.lease import CANCEL


def halt(ledger: Ledger, client: redis.Redis, batch: uuid.UUID) -> None:
    """Harmless again. Raises Unavailable without Postgres; without Redis workers read it at their next renewal."""
    if not batches.cancel_runs(ledger, batch):
        return
    try:
        with outages():
            client.publish(CANCEL, str(batch))
    except Unavailable:
        return
