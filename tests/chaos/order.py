"""What is ordered: a workflow of known fates, and what whoever ordered it wants besides. What may become of it."""

import random
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from tests.chaos.town import EVERY_FATE, FATES
from tests.fakes.fates import drawn, expected, fated
from workflow.plan import Plan

DRAWN = 300  # different workflows
MOMENT_S = 6.0  # at most, until it is cancelled or its time is over


class Wish(StrEnum):
    NOTHING = "nothing"
    TWICE = "twice"  # submitted twice at once, under one idempotency key
    CANCEL = "cancel"
    CANCEL_STEP = "cancel_step"
    DEADLINE = "deadline"


WEIGHTS = {Wish.NOTHING: 5, Wish.TWICE: 2, Wish.CANCEL: 2, Wish.CANCEL_STEP: 2, Wish.DEADLINE: 1}


@dataclass(frozen=True)
class Order:
    """An accepted run, and what was asked for: `after_s` is when, seconds after it was ordered, `step` which."""

    run: uuid.UUID
    plan: Plan
    fail_fast: bool
    wish: Wish = Wish.NOTHING
    after_s: float = 0.0
    step: int = 0
    deadline: datetime | None = None

    def accepted(self, run: uuid.UUID) -> "Order":
        return replace(self, run=run)

    def complaint(self, became: str, steps: Mapping[int, str], late: Mapping[int, datetime]) -> object:
        """What it should have become, if this is not what it became; None when it may have become that.

        `late` are the steps whose time was over, with their ends.
        """
        if self.wish is Wish.CANCEL:
            return self._complaint_of_cancelled(became, steps)
        if any(self.deadline is None or at < self.deadline for at in late.values()):
            return f"late before its deadline {self.deadline}: {late}"
        cancelled = {self.step} if self.wish is Wish.CANCEL_STEP and steps[self.step] == "cancelled" else set()
        due = self._due(cancelled, late)
        return None if (became, steps) == due else due

    def _complaint_of_cancelled(self, became: str, steps: Mapping[int, str]) -> object:
        """Whatever was faster than the cancel is as it would have been; all else is cancelled, and so is the run."""
        outcome, due = self._due()
        if all(status in ("cancelled", due[idx]) for idx, status in steps.items()):
            outcome = "cancelled" if "cancelled" in steps.values() else outcome
            return None if became == outcome else outcome
        return outcome, due

    def _due(self, cancelled: Collection[int] = (), late: Collection[int] = ()) -> tuple[str, dict[int, str]]:
        return expected(self.plan, EVERY_FATE, fail_fast=self.fail_fast, cancelled=cancelled, late=late)


class Menu:
    """The orders of a seed, by their numbers. What is to be stopped has steps that talk for long."""

    def __init__(self, seed: int, max_steps: int) -> None:
        self._seed = seed
        self._plans: Sequence[Plan] = drawn(fated(FATES, max_steps), DRAWN, seed)
        self._long: Sequence[Plan] = drawn(fated(EVERY_FATE, max_steps), DRAWN, seed)

    def order(self, number: int, *, wishes: bool) -> Order:
        rng = random.Random(f"{self._seed}-{number}")
        (wish,) = rng.choices(list(WEIGHTS), list(WEIGHTS.values())) if wishes else (Wish.NOTHING,)
        plans = self._plans if wish in (Wish.NOTHING, Wish.TWICE) else self._long
        plan = plans[number % len(plans)]
        moment, step = rng.uniform(0, MOMENT_S), rng.randrange(len(plan.steps))
        return Order(uuid.UUID(int=0), plan, number % 3 > 0, wish, moment, step)
