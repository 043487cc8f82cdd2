"""Adds up what keys have spent, so that a rebuild of the counters need not read every entry there ever was.

Entries stay; what was folded of them is never read for a key's budget again (holds.truth).
"""

import time
from dataclasses import dataclass

from ledger import holds, marks
from ledger.session import Ledger

ENTRIES = 20_000  # of one statement, so that none lasts long


@dataclass(frozen=True, slots=True)
class Fold:
    """One per scheduler process. A pass takes `at_most` seconds: less than its turn may be silent."""

    ledger: Ledger
    at_most: float = 3.0
    at_once: int = ENTRIES

    def go(self) -> bool:
        """One pass, or False when another scheduler is at it; what is left is the next one's.

        Raises Unavailable when Postgres cannot be reached.
        """
        with marks.duty(self.ledger, "fold") as is_mine:
            if is_mine:
                self._pass()
            return is_mine

    def _pass(self) -> None:
        end = time.monotonic() + self.at_most
        holds.note_fold(self.ledger)
        while holds.fold(self.ledger, limit=self.at_once) and time.monotonic() < end:
            pass
