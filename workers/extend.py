"""Holds more for a call under way: in the ledger first, so that no rebuild counts less than is held, then in Redis."""

import uuid

from goblin.errors import Unavailable
from ledger import attempts
from workers.runtime import Runtime


def extend(runtime: Runtime, attempt: uuid.UUID, held: int, wanted: int) -> bool:
    """Whether `wanted` nano-dollars are held in place of `held`. A part that is away has no room."""
    ledger, owner = runtime.ledger, runtime.leases.owner
    try:
        if not attempts.hold(ledger, attempt, owner, wanted):
            return False
        if runtime.turnstile.extend(attempt, wanted):
            return True
        attempts.hold(ledger, attempt, owner, held)
    except Unavailable:
        pass  # the ledger may hold more than Redis now; the settlement ends both
    return False
