"""Finds steps that wait by the ledger and stand in no room: their messages were lost, or are on their way.

Which of the two is told by the drained queue; here it is remembered since when somebody is missing.
"""

from dataclasses import dataclass, field
from datetime import datetime

from ledger import attempts
from ledger.attempts import Waiting
from ledger.session import Ledger
from routing.waiting import Waiter, WaitingRooms

PAGE = 500  # rows of a statement, and names in a command
PAGES = 10  # of one look; the next one goes on where it ended


@dataclass(slots=True)
class Absent:
    """One per scheduler process. A round over all who wait may take several looks."""

    ledger: Ledger
    rooms: WaitingRooms
    page: int = PAGE
    _after: Waiting | None = None
    _known: dict[Waiter, datetime] = field(default_factory=dict)  # missing in the round before
    _found: dict[Waiter, datetime] = field(default_factory=dict)  # missing in this round

    def look(self) -> list[tuple[Waiter, datetime]]:
        """Who is missing among the next to be looked at, each with when that was first seen (by Postgres' clock).

        Raises Unavailable while a part is away.
        """
        missing: list[tuple[Waiter, datetime]] = []
        for _ in range(PAGES):
            page = attempts.waiting(self.ledger, after=self._after, limit=self.page)
            missing += self._missing(page)
            self._after = page[-1] if len(page) == self.page else None
            if self._after is None:
                self._known, self._found = self._found, {}
                break
        return missing

    def _missing(self, page: list[Waiting]) -> list[tuple[Waiter, datetime]]:
        seen = {Waiter(one.run, one.idx, one.epoch): one.seen_at for one in page}
        absent = self.rooms.missing(list(seen))
        self._found |= {one: self._known.get(one, seen[one]) for one in absent}
        return [(one, self._found[one]) for one in absent]
