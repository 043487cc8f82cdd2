"""Forgets runs and batches that ended long ago, and files that were deleted or have expired.

Of runs: their inputs, steps, outputs, attempts and decisions. The entries stay: what was spent counts in usage and in
the budgets of keys for ever. Events, kept answers and the counters of joins are in Redis and run out there by
themselves.
"""

import time
from dataclasses import dataclass
from typing import Any

import structlog

from ledger import marks
from ledger.session import Ledger

RUNS = 200  # of one statement, so that none lasts long
LINES = 10_000  # of files, likewise
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Prune:
    """One per scheduler process. `days` is how long a run is kept after its end.

    For runs, files and batches a pass takes `at_most` seconds each: less in all than its turn may be silent.
    """

    ledger: Ledger
    days: float
    at_most: float = 3.0
    at_once: int = RUNS

    def go(self) -> int | None:
        """One pass: how many runs were forgotten, or None when another scheduler is at it.

        What is left is the next pass's. Raises Unavailable when Postgres cannot be reached.
        """
        with marks.duty(self.ledger, "prune") as is_mine:
            if not is_mine:
                return None
            age = self.days * 86_400
            count = self._pass(age)
            self._sweep("file_lines", "files")
            self._sweep("batch_lines", "batches", age=age)
        if count:
            _log.info("runs.pruned", count=count)
        return count

    def _pass(self, age: float) -> int:
        end = time.monotonic() + self.at_most
        count = 0
        while True:
            found = len(self.ledger.run("prune.runs", age=age, limit=self.at_once))
            count += found
            if found < self.at_once or time.monotonic() >= end:
                return count

    def _sweep(self, lines: str, whole: str, **older: Any) -> None:
        """Lines first, some at a time; whatever has none left goes with the last of them."""
        end = time.monotonic() + self.at_most
        while time.monotonic() < end:
            (found,) = self.ledger.run(f"prune.{lines}", limit=LINES, **older)
            if found.count < LINES:
                self.ledger.run(f"prune.{whole}", **older)
                return
