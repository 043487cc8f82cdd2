"""What asks for a run, as it comes over the wire or stands in a line of a batch: refused for what it does not know."""

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from goblin.money import MOST_USD
from providers.name import nearest

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_SHOWN = 500  # characters
_LARGEST_TOOLS = 65_536  # characters
_DEEPEST = 100  # levels of a described value: whoever handles it next bears a few hundred
WORKFLOW = "docs-writer: document this code THEN code-writer: write a unit test"


def shown(text: str) -> str:
    """What a caller sent, so that it can stand in an error: bounded, and with nothing that cannot be stored."""
    return _UNSTORABLE.sub("\ufffd", text[:_SHOWN])


def _storable(text: str) -> str:
    if unstorable := _UNSTORABLE.search(text):
        raise ValueError(f"must not contain the character U+{ord(unstorable[0]):04X}")
    return text


Text = Annotated[str, AfterValidator(_storable)]
BudgetUsd = Annotated[Decimal, Field(ge=0, le=MOST_USD, decimal_places=9)]
_MOST_METADATA = 16


def _count(value: Any) -> Any:
    """Before anything of it is read: every entry may be a mistake of its own, and each would be gathered."""
    if isinstance(value, Mapping) and len(value) > _MOST_METADATA:
        raise ValueError(f"must not have more than {_MOST_METADATA} entries")
    return value


Metadata = Annotated[
    dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]],
    Field(max_length=_MOST_METADATA),
    BeforeValidator(_count),
]
Names = Annotated[list[Annotated[Text, Field(min_length=1, max_length=200)]], Field(min_length=1, max_length=100)]


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


def bounded_json(name: str, value: Any, most: int) -> None:
    """Raises ValueError for what is larger than `most` characters, is nested too deep, or cannot be stored."""
    _check_parts(name, value)
    if len(json.dumps(value, ensure_ascii=False)) > most:
        raise ValueError(f"{name} must not be described in more than {most} characters")


def _check_parts(name: str, value: Any) -> None:
    """Without recursion: that is what a value may be too deep for."""
    waiting = [(value, 1)]
    while waiting:
        part, level = waiting.pop()
        if level > _DEEPEST:
            raise ValueError(f"{name} must not be nested more than {_DEEPEST} levels deep")
        match part:
            case str():
                _storable(part)
            case float() if not math.isfinite(part):
                raise ValueError(f"{name} must not hold a number that is too large")
            case dict():
                waiting += [(one, level + 1) for pair in part.items() for one in pair]
            case list():
                waiting += [(one, level + 1) for one in part]


def bounded_tools(tools: list[Tool]) -> list[Tool]:
    bounded_json("tools", [tool.model_dump(exclude_none=True) for tool in tools], _LARGEST_TOOLS)
    if len({tool.function.name for tool in tools}) < len(tools):
        raise ValueError("two tools have the same name")
    return tools


class RunOptions(Request):
    prefer_local: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="local models before all others, where they can serve a step"
    )
    budget_usd: BudgetUsd | None = Field(None, description="the most that the run may cost", examples=["0.50"])
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
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128), AfterValidator(bounded_tools)] | None = Field(
        None,
        description="offered to the steps; one that calls some has the calls as its output: nobody makes them",
    )
    tools_for: Names | None = Field(None, description="steps by id, or goblins, that alone are offered the tools")
    metadata: Metadata | None = Field(None, description="handed back with the run, read by nobody")

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
                    "workflow": WORKFLOW,
                    "input": {"code": "def add(a, b):\n    return a + b", "language": "python"},
                    "options": {"budget_usd": "0.50", "prefer_local": True},
                }
            ]
        }
    )

    workflow: Text = Field(examples=[WORKFLOW])
    input: RunInput = RunInput()
    default_goblin: Text | None = Field("chat", description="who takes the steps without a label")
    options: RunOptions = RunOptions()
