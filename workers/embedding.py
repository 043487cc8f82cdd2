"""One call for vectors: what it brings, how it ended, and what it cost, as data for the ledger.

Whoever makes it has admitted it and holds its lease. A search in an index may belong to the call: its faults are told
as the index's own, and speak against nobody who makes vectors.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import structlog

from goblin.errors import GoblinError
from goblin.log import crash
from goblin.money import MOST
from ledger.attempts import Charge, Ending
from ledger.states import AttemptStatus, StepStatus
from providers.call import Caller, Control
from providers.embed import Embeddings, Purpose, Vector
from providers.errors import Cancelled, DeadlinePassed
from providers.limit import Limits
from providers.message import Usage
from providers.price import Price, cost
from routing.breaker import Told, told
from routing.candidate import Candidate
from routing.health import failure, share_counted, success
from routing.patience import Habit
from routing.script import Verb

_log = structlog.get_logger()
_ENDS: Mapping[type[GoblinError], StepStatus] = {
    Cancelled: StepStatus.CANCELLED,
    DeadlinePassed: StepStatus.FAILED,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """Texts to make vectors of. `tokens` are estimated."""

    texts: tuple[str, ...]
    tokens: int
    purpose: Purpose = "document"
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What is owed for so many tokens of texts."""

    price: Price
    usage: Usage
    is_measured: bool

    @property
    def amount(self) -> int:
        """Nano-dollars."""
        return cost(self.price, self.usage)

    def charge(self) -> Charge:
        price = asdict(self.price.at(self.usage.input))
        return Charge(self.amount, is_measured=self.is_measured, price=price, input=self.usage.input)


class IndexFailed(GoblinError):
    """An index could not be searched; whoever made the vector did nothing wrong."""

    slug: ClassVar[str] = "index_failed"
    http_status = 502


class Embedding:
    """`use` makes the output of the vectors, under the same control; without it there is none.

    Raises nothing: every end is data.
    """

    def __init__(
        self,
        caller: Caller,
        candidate: Candidate,
        wish: Wish,
        use: Callable[[tuple[Vector, ...], Control], str] | None = None,
    ) -> None:
        self._caller = caller
        self._candidate = candidate
        self._wish = wish
        self._use = use
        self.control = Control()
        self.found: Embeddings | None = None
        self.fee = 0  # nano-dollars that the use of the vectors has cost
        self.error: GoblinError | None = None  # how it ended, once it has
        self.lessons: tuple[Verb, ...] = ()  # what the fleet may learn from it, once it has
        self.took_s = 0.0
        self._limits: tuple[Limits | None, float] = (None, 0.0)

    @property
    def told(self) -> Told:
        """What the vendor said of its limits; an index that was asked after it has others."""
        limits, at = self._limits
        return told(limits, time.monotonic() - at)

    @property
    def bill(self) -> Bill:
        usage = self._counted
        price = self._candidate.price
        return Bill(
            replace(price, per_request=price.per_request + self.fee),
            usage or Usage(input=self._candidate.counting(self._wish.tokens)),
            is_measured=usage is not None,
        )

    @property
    def _counted(self) -> Usage | None:
        """What the vendor has counted. Texts without any tokens were not, and more than any budget can hold is nobody's
        bill."""
        usage = self.found.usage if self.found is not None else None
        return usage if usage is not None and usage.input and cost(self._candidate.price, usage) <= MOST else None

    def end_at(self, moment: float) -> None:
        """When the step's time is over (time.monotonic)."""
        self.control.end_at(moment, DeadlinePassed("the step's time was over before its answer"))

    def make(self) -> Ending:
        began = time.monotonic()
        output: str | None = None
        try:
            self.found = self._ask()
            self.took_s = time.monotonic() - began
            usage = self._counted
            counted = share_counted(usage.input, self._wish.tokens) if usage is not None else None
            self.lessons = (success(self._candidate, self.took_s, None, Habit(self.took_s), counted),)
            output = self._use(self.found.vectors, self.control) if self._use is not None else None
        except GoblinError as fault:
            self.error = fault
            if self.found is None:
                self.lessons = (failure(self._candidate, fault),)
        except Exception as fault:  # noqa: BLE001
            # a fault of our own must not leave an attempt open that brings the same fault again and again
            _log.error("attempt.crashed", candidate=self._candidate.name, **crash(fault))
            self.error = GoblinError("an internal error; the log has it")
        return self._ending(output, time.monotonic() - began)

    def _ask(self) -> Embeddings:
        wish, candidate = self._wish, self._candidate
        try:
            return self._caller.embed(
                candidate.provider, candidate.model.id, wish.texts, self.control, wish.purpose, wish.dimensions
            )
        finally:
            self._limits = self.control.limits, self.control.limits_at

    def _ending(self, output: str | None, duration_s: float) -> Ending:
        reached = self.found is not None or self.control.may_be_billed(self.error)
        common: dict[str, Any] = {
            "charge": self.bill.charge() if reached else None,
            "ttft_ms": round(self.took_s * 1000) if self.found is not None else None,
            "duration_ms": round(duration_s * 1000),
        }
        if self.error is not None:
            step = _ENDS.get(type(self.error), StepStatus.PENDING)
            return Ending(AttemptStatus.FAILED, step, error=self.error.as_value(), **common)
        return Ending(AttemptStatus.SUCCEEDED, StepStatus.SUCCEEDED, output, finish="stop", **common)
