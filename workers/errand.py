"""What a step message asks for, and what may become of it. Celery is not known here."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ledger.states import StepStatus
from routing.waiting import Waiter


@dataclass(slots=True)
class Turn:
    """That a step was called out of a room ("": it was not), because there is room for one. It is had or passed on."""

    room: str = ""

    def end(self) -> tuple[str, ...]:
        """The room whose next one is to be called: once."""
        room, self.room = self.room, ""
        return (room,) if room else ()


@dataclass(frozen=True, slots=True)
class Errand:
    """What a message carries."""

    run: uuid.UUID
    idx: int
    epoch: int
    turn: Turn = field(default_factory=Turn, compare=False)


@dataclass(frozen=True, slots=True)
class Done:
    """The step has its outcome and the canvas goes on. `by` is who answered, or was the last to fail."""

    status: StepStatus
    goblin: str
    by: str | None = None
    error: str | None = None
    woken: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Stale:
    """The message has nothing to do any more and its canvas ends here."""

    woken: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Busy:
    """Another message runs the step, or was first just now: look again, and wait for it. This one's canvas goes on: of
    several that race for the steps side by side, each may be the one that gets to what follows."""


@dataclass(frozen=True, slots=True)
class PassOn:
    """This worker is stopping and claims nothing more: the message is another one's."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Refused for capacity or for money: wait in these rooms, each with the ms until it may have room.

    `told` is what listeners have not heard yet, None if they have; `paces` the ms that each who is called before the
    step adds, in those rooms of which they are known; `vain` the room that the step was called out of for nothing.
    """

    waiter: Waiter
    rooms: Mapping[str, int | None]
    paces: Mapping[str, float] = field(default_factory=dict)
    told: Mapping[str, Any] | None = None
    vain: str = ""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Admitted, and to be called where that provider's queue is consumed."""

    attempt: uuid.UUID
    provider: str
    goblin: str


Result = Done | Stale | Busy | PassOn | Wait | HandOver
