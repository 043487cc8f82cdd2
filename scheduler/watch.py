"""Keeps the fleet's word on whether Postgres is in reach, without which no lease is given up.

A thread of its own, because duties come through Redis, and passes may be long: neither says anything about Postgres.
"""

import threading
from dataclasses import dataclass, field

import structlog

from ledger import marks
from ledger.session import Ledger

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Watch:
    """One per scheduler process. Looks `every` so many seconds; `lease` in seconds."""

    ledger: Ledger
    lease: float
    every: float = 1.0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._watch_always, name="watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch_always(self) -> None:
        while not self._stopped.wait(self.every):
            try:
                marks.watch(self.ledger, self.lease)
            except Exception as error:  # noqa: BLE001
                # whatever went wrong, the next look must come: without it no lease would ever be given up
                _log.warning("postgres.not_seen", reason=str(error))
