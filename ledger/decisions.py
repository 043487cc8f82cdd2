"""Why each step went where it went, as it was kept; for people's eyes."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select

from ledger.models import Attempt, Obstacle, Step
from ledger.session import Ledger


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a step went where it went: one per attempt, and one (without a number) when nobody could serve it."""

    idx: int
    number: int | None
    provider: str | None
    model: str | None
    status: str
    hold_nanousd: int | None
    decision: Mapping[str, Any]


def of_run(ledger: Ledger, run_id: uuid.UUID) -> list[Decision]:
    """Every decision of a run, by step, in the order in which they were taken."""
    calls = select(
        Attempt.idx,
        Attempt.number,
        Attempt.provider,
        Attempt.model,
        Attempt.status,
        Attempt.hold_nanousd,
        Attempt.decision,
    ).where(Attempt.run_id == run_id)
    refusals = select(Step.idx, Step.status, Step.decision).where(Step.run_id == run_id, Step.decision.is_not(None))
    known = [Decision(*row) for row in ledger.read(calls)]
    known += [Decision(row.idx, None, None, None, row.status, None, row.decision) for row in ledger.read(refusals)]
    return sorted(_whole(ledger, known), key=lambda one: (one.idx, one.number is None, one.number))


def _whole(ledger: Ledger, decisions: Sequence[Decision]) -> list[Decision]:
    """With the obstacles that each of them only names among those who were refused."""
    named = {one.decision["obstacles"] for one in decisions if "obstacles" in one.decision}
    rows = ledger.read(select(Obstacle.fingerprint, Obstacle.reasons).where(Obstacle.fingerprint.in_(named)))
    known = {row.fingerprint: row.reasons for row in rows}
    return [replace(one, decision=_with(known, one.decision)) for one in decisions]


def _with(obstacles: Mapping[str, Mapping[str, str]], decision: Mapping[str, Any]) -> dict[str, Any]:
    whole = dict(decision)
    if name := whole.pop("obstacles", None):
        whole["refused"] = {**obstacles.get(name, {}), **whole["refused"]}
    return whole
