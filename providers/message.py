"""What is said to a model and what comes back, free of any dialect. Values only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from providers.sampling import UNSAID, Sampling

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
FinishReason: TypeAlias = Literal["stop", "length", "filtered", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool called. `arguments` is JSON as the model wrote it; `id` is empty where there is none.

    `signature` is the vendor's own, opaque: who made the call wants it back with the call.
    """

    id: str
    name: str
    arguments: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Reasoned:
    """A whole block of the reasoning that led to calls, as its vendor wants it back with them.

    `signature` is the vendor's own, opaque, and covers `text`. Of a hidden block it is all there is.
    """

    text: str
    signature: str = ""
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """`calls` are an assistant's, `reasoned` what led to them; `answers` is the call whose result a message of the role
    tool is."""

    role: Role
    content: str
    calls: tuple[ToolCall, ...] = ()
    answers: ToolCall | None = None
    reasoned: tuple[Reasoned, ...] = ()


@dataclass(frozen=True, slots=True)
class Chat:
    """One call. `max_output_tokens` bounds all output, reasoning included.

    `reasoning` False suppresses it in the way of the dialect.
    """

    model: str
    messages: tuple[Message, ...]
    max_output_tokens: int
    reasoning: bool = False
    sampling: Sampling = UNSAID
    idempotency_key: str | None = None  # sent to providers whose row names a header for it
    tools: tuple[Mapping[str, Any], ...] = ()  # as chat completions describe them; each dialect says them in its way


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in normal form: `input` includes both cache counts, `output` includes `reasoning`."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of reasoning text; never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The vendor says that its answer is over; `detail` is its own word for why."""

    reason: FinishReason
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Tokens as the vendor counted them; the last one wins. One that comes before Finish is a running total.

    `model` is the name that the vendor gives to what answered.
    """

    usage: Usage
    model: str | None = None


Event: TypeAlias = Text | Thought | Reasoned | ToolCall | Finish | Report
Events: TypeAlias = Sequence[Event]
