"""Every state and every edge. The statements in ledger/sql guard exactly these; docs/state_machine.md draws them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return not RUN_EDGES[self]


class StepStatus(StrEnum):
    PENDING = "pending"
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return not STEP_EDGES[self]


class AttemptStatus(StrEnum):
    OPEN = "open"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABANDONED = "abandoned"


class BatchStatus(StrEnum):
    """OpenAI's words. Until all that was begun has ended and is written, a batch is finalizing or cancelling; one that
    could not be fed to its end has failed.
    """

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return not BATCH_EDGES[self]


def _final(*states: StrEnum) -> Mapping[Any, frozenset[Any]]:
    return {state: frozenset() for state in states}


RUN_EDGES: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}),
    **_final(RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED),
}

STEP_EDGES: Mapping[StepStatus, frozenset[StepStatus]] = {
    StepStatus.PENDING: frozenset(
        {StepStatus.WAITING, StepStatus.RUNNING, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED}
    ),
    StepStatus.WAITING: frozenset({StepStatus.RUNNING, StepStatus.FAILED, StepStatus.CANCELLED}),
    # back to pending: the attempt failed or was abandoned, and the step is free for another one
    StepStatus.RUNNING: frozenset({StepStatus.PENDING, StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELLED}),
    **_final(StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED),
}

ATTEMPT_EDGES: Mapping[AttemptStatus, frozenset[AttemptStatus]] = {
    AttemptStatus.OPEN: frozenset({AttemptStatus.SUCCEEDED, AttemptStatus.FAILED, AttemptStatus.ABANDONED}),
    **_final(AttemptStatus.SUCCEEDED, AttemptStatus.FAILED, AttemptStatus.ABANDONED),
}

BATCH_EDGES: Mapping[BatchStatus, frozenset[BatchStatus]] = {
    BatchStatus.VALIDATING: frozenset({BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING}),
    BatchStatus.IN_PROGRESS: frozenset({BatchStatus.FINALIZING, BatchStatus.CANCELLING}),
    BatchStatus.FINALIZING: frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED}),
    BatchStatus.CANCELLING: frozenset({BatchStatus.CANCELLED}),
    **_final(BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED),
}
