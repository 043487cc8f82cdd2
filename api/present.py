"""Rows of the ledger as answers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from api.schemas import (
    AttemptOut,
    DecisionOut,
    RunDecisions,
    RunOut,
    RunSummary,
    StepDecisions,
    StepOut,
    Usage,
)
from goblin.money import to_usd
from ledger.decisions import Decision
from ledger.states import AttemptStatus
from ledger.views import AttemptView, RunView, StepView, Tokens
from routing.replay import replay
from routing.score import Ranked

_OURS = frozenset({"key", "admitted"})  # of a decision: nobody's business but the fleet's


def step_id(idx: int) -> str:
    return f"step{idx + 1}"


def summary(run: RunView) -> RunSummary:
    return RunSummary(**_of_run(run))


def whole(run: RunView, steps: Sequence[StepView], attempts: Sequence[AttemptView], output: str | None) -> RunOut:
    of_step: dict[int, list[AttemptView]] = defaultdict(list)
    for attempt in attempts:
        of_step[attempt.idx].append(attempt)
    shown = [step(one, of_step[one.idx]) for one in steps]
    return RunOut(**_of_run(run), options=dict(run.options), output=output, steps=shown)


def decisions(run_id: UUID, found: Iterable[Decision]) -> RunDecisions:
    of_step: dict[int, list[DecisionOut]] = defaultdict(list)
    for one in found:
        of_step[one.idx].append(_decision(one))
    return RunDecisions(id=run_id, steps=[StepDecisions(id=step_id(idx), decisions=of_step[idx]) for idx in of_step])


def _decision(one: Decision) -> DecisionOut:
    """What was kept, its candidates with the terms that follow from it; with which key is nobody's business."""
    shown, again = {name: part for name, part in one.decision.items() if name not in _OURS}, replay(one.decision)
    is_reproduced = None
    if again is not None:
        ranked = {(it.candidate.provider.id, it.candidate.model.id): it for it in again.ranked}
        shown["candidates"] = [_candidate(row, ranked[row[0], row[1]]) for row in one.decision["candidates"]]
        is_reproduced = again.is_reproduced
        if one.provider is not None and one.model is not None:
            is_reproduced = again.leads_to(one.provider, one.model, one.decision.get("short", {}))
    return DecisionOut(
        number=one.number,
        provider=one.provider,
        model=one.model,
        status=one.status,
        hold_usd=None if one.hold_nanousd is None else to_usd(one.hold_nanousd),
        reproduced=is_reproduced,
        decision=shown,
    )


def _candidate(kept: Sequence[Any], ranked: Ranked) -> dict[str, Any]:
    terms = {name: round(getattr(ranked, name), 6) for name in ("latency", "cost", "success", "bandwidth")}
    provider = ranked.candidate.provider
    return {
        "provider": provider.id,
        "model": ranked.candidate.model.id,
        "score": kept[-1],
        **terms,
        "ttft_s": ranked.measure.ttft_s,
        "tokens_per_second": ranked.measure.tokens_per_second,
        "worst_case_usd": to_usd(ranked.worst_case),
        "priority": provider.priority,
        "local": provider.local,
        "reasoning": ranked.candidate.model.reasoning,
    }


def usage(tokens: Tokens) -> Usage:
    return Usage(
        input=tokens.input,
        cache_read=tokens.cache_read,
        cache_write=tokens.cache_write,
        output=tokens.output,
        reasoning=tokens.reasoning,
        measured=tokens.is_measured,
    )


def _of_run(run: RunView) -> Mapping[str, Any]:
    return {
        "id": run.id,
        "status": run.status,
        "outcome": run.status if run.status.is_final else None,
        "workflow": run.workflow,
        "cost_usd": to_usd(run.cost_nanousd),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "cancel_requested_at": run.cancel_requested_at,
        "metadata": run.options.get("metadata", {}),
    }


def step(step: StepView, attempts: Sequence[AttemptView]) -> StepOut:
    return StepOut(
        id=step_id(step.idx),
        goblin=step.goblin,
        task=step.task,
        dependencies=[step_id(idx) for idx in step.after],
        status=step.status,
        outcome=step.status if step.status.is_final else None,
        provider=step.provider,
        model=step.model,
        output=step.output if step.status.is_final else None,
        error=_error(step.error),
        usage=usage(step.tokens) if step.tokens else None,
        cost_usd=to_usd(step.cost_nanousd),
        started_at=step.started_at,
        finished_at=step.finished_at,
        cached=any(attempt.is_cached and attempt.status == AttemptStatus.SUCCEEDED for attempt in attempts),
        attempts=[_attempt(attempt) for attempt in attempts],
    )


def _attempt(attempt: AttemptView) -> AttemptOut:
    return AttemptOut(
        number=attempt.number,
        provider=attempt.provider,
        model=attempt.model,
        status=attempt.status,
        error=_error(attempt.error),
        finish=attempt.finish,
        ttft_ms=attempt.ttft_ms,
        duration_ms=attempt.duration_ms,
        cost_usd=to_usd(attempt.spent_nanousd),
        cached=attempt.is_cached,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
    )


def _error(error: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if error is None else dict(error)
