"""What goes over the wire: requests are refused for what they do not know, answers carry money as exact text."""

import json
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ledger.states import RunStatus, StepStatus
from providers.name import nearest

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_LARGEST_TOOLS = 65_536  # characters
_WORKFLOW = "docs-writer: document this code THEN code-writer: write a unit test"
_RUN = "0199c2f4-6f0e-7c3a-9d0b-2f6f1f1f7a10"


def _storable(text: str) -> str:
    if unstorable := _UNSTORABLE.search(text):
        raise ValueError(f"must not contain the character U+{ord(unstorable[0]):04X}")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Names = Annotated[list[Annotated[Text, Field(min_length=1, max_length=200)]], Field(min_length=1, max_length=100)]
Usd = Annotated[str, Field(description="US dollars, exact to nine places", examples=["0.000184500"])]


class Request(BaseModel):
    """A body whose unknown keys are refused with the nearest known ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in value:
                if key not in known:
                    shown = str(key)[:100]
                    hint = nearest(shown, known)
                    raise PydanticCustomError(
                        "unknown_key", "unknown key {key}{hint}", {"key": repr(shown), "hint": hint}
                    )
        return value


class RunInput(Request):
    """What the steps work on."""

    code: Text | None = None
    language: Annotated[Text, Field(max_length=50)] | None = None
    text: Text | None = None


class ToolFunction(Request):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = Field(None, description="a JSON schema")
    strict: bool | None = None


class Tool(Request):
    """As chat completions describe one."""

    type: Literal["function"] = "function"
    function: ToolFunction


def _bounded(tools: list[Tool]) -> list[Tool]:
    text = json.dumps([tool.model_dump(exclude_none=True) for tool in tools])
    if len(text) > _LARGEST_TOOLS:
        raise ValueError(f"tools must not be described in more than {_LARGEST_TOOLS} characters")
    if "\\u0000" in text or re.search(r"\\ud[89a-f]", text):
        raise ValueError("tools must not hold characters that cannot be stored")
    if len({tool.function.name for tool in tools}) < len(tools):
        raise ValueError("two tools have the same name")
    return tools


class RunOptions(Request):
    prefer_local: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="local models before all others, where they can serve a step"
    )
    budget_usd: Annotated[Decimal, Field(ge=0, le=9_000_000, decimal_places=9)] | None = Field(
        None, description="the most that the run may cost", examples=["0.50"]
    )
    on_budget: Literal["fail", "wait"] | None = Field(None, description="what a step does that no budget has room for")
    fail_fast: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="false: a plain THEN goes on after a failure"
    )
    priority: Annotated[int, Field(strict=True, ge=-100, le=100)] | None = Field(
        None, description="among steps that wait for capacity: lower goes first, 0 when not given"
    )
    deadline: AwareDatetime | None = Field(
        None, description="with its offset from UTC", examples=["2030-01-31T18:00:00Z"]
    )
    providers: Names | None = Field(None, description="nobody else may serve the run")
    models: Names | None = Field(None, description="nothing else may serve the run")
    cache: Annotated[bool, Field(strict=True)] | None = Field(
        None,
        description="whether steps may have answers of identical requests of the same key; else as each goblin says",
    )
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128), AfterValidator(_bounded)] | None = Field(
        None,
        description="offered to the steps; one that calls some has the calls as its output: nobody makes them",
    )
    tools_for: Names | None = Field(None, description="steps by id, or goblins, that alone are offered the tools")
    metadata: (
        Annotated[
            dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = Field(None, description="handed back with the run, read by nobody")

    def as_value(self) -> dict[str, Any]:
        """What was given, as JSON; money with nine places."""
        value = self.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        if self.budget_usd is not None:
            value["budget_usd"] = f"{self.budget_usd:.9f}"
        return value


class RunRequest(Request):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "workflow": _WORKFLOW,
                    "input": {"code": "def add(a, b):\n    return a + b", "language": "python"},
                    "options": {"budget_usd": "0.50", "prefer_local": True},
                }
            ]
        }
    )

    workflow: Text = Field(examples=[_WORKFLOW])
    input: RunInput = RunInput()
    default_goblin: Text | None = Field("chat", description="who takes the steps without a label")
    options: RunOptions = RunOptions()


class ParseRequest(Request):
    text: Text = Field(examples=[_WORKFLOW])
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
