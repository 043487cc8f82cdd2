"""Why whole providers cannot be called: the same for thousands of decisions, and kept once, by its fingerprint.

Apart from the decisions that are read, so that workers need not load what only people's queries are made with.
"""

from collections.abc import Mapping

from psycopg.types.json import Jsonb

from ledger.session import Ledger


class Obstacles:
    """One per process; it asks Postgres only about what it has not kept yet."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: set[str] = set()

    def keep(self, fingerprint: str, reasons: Mapping[str, str]) -> None:
        """Raises Unavailable when Postgres cannot be reached."""
        if fingerprint not in self._kept:
            self._ledger.run("obstacles.keep", fingerprint=fingerprint, reasons=Jsonb(reasons))
            self._kept.add(fingerprint)
