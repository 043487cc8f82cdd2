"""What goes over the wire: requests are refused for what they do not know, answers carry money as exact text."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from ledger.states import RunStatus, StepStatus
from workers.request import WORKFLOW, Request, Text

_RUN = "0199c2f4-6f0e-7c3a-9d0b-2f6f1f1f7a10"

Usd = Annotated[str, Field(description="US dollars, exact to nine places", examples=["0.000184500"])]


class ParseRequest(Request):
    text: Text = Field(examples=[WORKFLOW])
    default_goblin: Text | None = "chat"


class ParsedStep(BaseModel):
    id: str = Field(examples=["step2"])
    goblin: str
    task: str
    dependencies: list[str] = Field(examples=[["step1"]])
    provider: str | None = None
    model: str | None = None


class Parsed(BaseModel):
    steps: list[ParsedStep]
    total_batches: int = Field(description="canvases submitted")
    max_parallel: int = Field(description="the widest stage")
    depth: int = Field(description="groups one inside the other")


class Accepted(BaseModel):
    """A run that is stored, and will run."""

    id: uuid.UUID = Field(examples=[_RUN])
    status: RunStatus
    workflow: str
    url: str = Field(examples=[f"/v1/runs/{_RUN}"])
    events_url: str = Field(examples=[f"/v1/runs/{_RUN}/events"])


class Usage(BaseModel):
    """Tokens. `input` counts all that was read, also what came from a provider's cache (`cache_read`)."""

    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int
    measured: bool = Field(description="counted by the provider; else partly estimated")


class AttemptOut(BaseModel):
    number: int
    provider: str
    model: str
    status: str
    finish: str | None = Field(description="why the answer ended: stop, length, tool (it calls some)")
    error: dict[str, Any] | None
    ttft_ms: int | None = Field(description="milliseconds to the first token")
    duration_ms: int | None
    cost_usd: Usd
    cached: bool = Field(description="a kept answer was given; nobody was called")
    started_at: datetime
    finished_at: datetime | None


class StepOut(BaseModel):
    id: str
    goblin: str
    task: str
    dependencies: list[str]
    status: StepStatus
    outcome: StepStatus | None = Field(description="the status once it is final")
    provider: str | None
    model: str | None
    output: str | None
    error: dict[str, Any] | None
    usage: Usage | None
    cost_usd: Usd
    started_at: datetime | None
    finished_at: datetime | None
    cached: bool = Field(description="it was given the answer of an identical request")
    attempts: list[AttemptOut]


class RunSummary(BaseModel):
    id: uuid.UUID = Field(examples=[_RUN])
    status: RunStatus
    outcome: RunStatus | None = Field(description="the status once it is final")
    workflow: str
    cost_usd: Usd
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    metadata: dict[str, str]


class RunOut(RunSummary):
    options: dict[str, Any]
    output: str | None = Field(description="what the last steps wrote, once the run has ended")
    steps: list[StepOut]


class RunPage(BaseModel):
    data: list[RunSummary]
    has_more: bool
    next_cursor: str | None = Field(description="what `cursor` takes for the page after this one")


class DecisionOut(BaseModel):
    """How a candidate was chosen for an attempt, or (number null) why nobody was."""

    number: int | None
    provider: str | None
    model: str | None
    status: str
    hold_usd: Usd | None = Field(description="the most that the call could have cost, held against every budget")
    reproduced: bool | None = Field(
        description="whether what was kept leads to the same order and choice again; null where nobody was ranked"
    )
    decision: dict[str, Any] = Field(description="need, weights, candidates as ranked, and why others were not called")


class StepDecisions(BaseModel):
    id: str
    decisions: list[DecisionOut]


class RunDecisions(BaseModel):
    id: uuid.UUID
    steps: list[StepDecisions]
