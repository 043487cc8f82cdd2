"""Finds whose messages were lost, or are on their way: steps that wait and stand in no room, runs that fell silent.

Which of the two is told by the drained queue. As many may wait for long, each look is at some of them; the next goes on
where it ended.
"""

import uuid
from dataclasses import dataclass, field

from ledger import attempts, runs
from ledger.attempts import Waiting
from ledger.runs import BEGIN, Page
from ledger.session import Ledger
from routing.waiting import Waiter, WaitingRooms

PAGE = 500  # rows of a statement, and names in a command
PAGES = 10  # of one look
SILENT = 2_000  # runs that were silent for long, of one look


@dataclass(slots=True)
class Absent:
    """One per scheduler process: steps that wait, and of whom no room knows. It remembers since when."""

    ledger: Ledger
    rooms: WaitingRooms
    page: int = PAGE
    _after: Waiting | None = None
    _known: dict[Waiter, Waiting] = field(default_factory=dict)  # missing in the round before
    _found: dict[Waiter, Waiting] = field(default_factory=dict)  # missing in this round

    def look(self) -> list[Waiting]:
        """Who is missing among the next to be looked at, each as when that was first seen.

        Raises Unavailable while a part is away.
        """
        missing: list[Waiting] = []
        for _ in range(PAGES):
            page = attempts.waiting(self.ledger, after=self._after, limit=self.page)
            missing += self._missing(page)
            self._after = page[-1] if len(page) == self.page else None
            if self._after is None:
                self._known, self._found = self._found, {}
                break
        return missing

    def _missing(self, page: list[Waiting]) -> list[Waiting]:
        seen = {Waiter(one.run, one.idx, one.epoch): one for one in page}
        absent = self.rooms.missing(list(seen))
        self._found |= {one: self._known.get(one, seen[one]) for one in absent}
        return [self._found[one] for one in absent]


@dataclass(slots=True)
class Silent:
    """One per scheduler process: runs with a step that is due and that nobody took."""

    ledger: Ledger
    page: int = SILENT
    _last: Page = BEGIN

    def look(self, *, patience: float, limit: int) -> list[tuple[uuid.UUID, int]]:
        """The next of them, with their epochs; `patience` (seconds) is for a message to be sent and taken.

        Raises Unavailable while Postgres is away.
        """
        self._last = runs.next_page(self.ledger, self._last, self.page)
        return runs.stalled(self.ledger, self._last, patience=patience, limit=limit)
