"""Chat completions as a line of a batch asks for them: one step of the goblin `chat` that says what the model says.

What cannot be honoured is refused by its name, never dropped. What is told to nobody: user, metadata, store. A list is
read up to its first mistake: nobody is told of more, and a line may hold a hundred thousand.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from providers.name import nearest
from providers.sampling import Sampling
from workers.conversation import spoken
from workers.order import Desk, Order, UnknownName
from workers.request import Request, Text, Tool, bounded_json, bounded_tools
from workflow.plan import Plan, Sequence, Stage, Step

GOBLIN = "chat"
TASK = "answer the conversation"
# Parameters that have no way to a provider, with the values that ask for nothing.
_WAYLESS: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": (),
    "functions": (),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "prediction": (),
    "prompt_cache_key": (),
    "reasoning_effort": (),
    "safety_identifier": (),
    "service_tier": ("auto", "default"),
    "store": (False, True),
    "stream": (False,),
    "stream_options": (),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
# Values that ask for nothing, of parameters that have one.
_IDLE: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "response_format": {"type": "text"},
    "stop": [],
    "top_p": 1,
}
_MOST_STOPS = 4
_LARGEST_FORM = 65_536  # characters


class TextPart(Request):
    type: Literal["text"]
    text: Text


class CalledFunction(Request):
    name: Text
    arguments: Text


class GoogleExtra(Request):
    thought_signature: Text


class Extra(Request):
    """What Google wants back with a call."""

    google: GoogleExtra


class Called(Request):
    id: Annotated[Text, Field(min_length=1)]
    type: Literal["function"] = "function"
    function: CalledFunction
    extra_content: Extra | None = None


class ThinkingBlock(Request):
    type: Literal["thinking"]
    thinking: Text
    signature: Text


class HiddenBlock(Request):
    type: Literal["redacted_thinking"]
    data: Annotated[Text, Field(min_length=1)]


class Turn(Request):
    """A message. Only text can be handed on; what must be None or empty stands so in messages of OpenAI's client."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(fail_fast=True)] | None = None
    tool_calls: Annotated[list[Called], Field(fail_fast=True)] | None = None
    tool_call_id: Text | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    reasoning_content: Text | None = None
    thinking_blocks: (
        Annotated[list[Annotated[ThinkingBlock | HiddenBlock, Field(discriminator="type")]], Field(fail_fast=True)]
        | None
    ) = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Turn":
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant makes tool_calls")
        if self.role != "assistant" and (self.reasoning_content or self.thinking_blocks):
            raise ValueError("only an assistant has reasoned")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a message of the role tool, and no other, needs a tool_call_id")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        return self

    def as_value(self) -> dict[str, Any]:
        parts = [part.text for part in self.content] if isinstance(self.content, list) else [self.content or ""]
        value: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": "\n".join(parts),
        }
        if self.tool_calls:
            value["tool_calls"] = [call.model_dump(exclude_none=True) for call in self.tool_calls]
        if self.reasoning_content:
            value["reasoning_content"] = self.reasoning_content
        if self.thinking_blocks:
            value["thinking_blocks"] = [block.model_dump() for block in self.thinking_blocks]
        if self.tool_call_id is not None:
            value["tool_call_id"] = self.tool_call_id
        return value


class JsonObject(Request):
    type: Literal["json_object"]


class Schema(Request):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Text | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class JsonSchema(Request):
    type: Literal["json_schema"]
    json_schema: Schema


def _bounded_form(form: JsonObject | JsonSchema) -> JsonObject | JsonSchema:
    bounded_json("response_format", form.model_dump(by_alias=True), _LARGEST_FORM)
    return form


Stop = Annotated[Text, Field(min_length=1, max_length=1000)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Form = Annotated[JsonObject | JsonSchema, Field(discriminator="type"), AfterValidator(_bounded_form)]


class CompletionRequest(Request):
    model_config = ConfigDict(allow_inf_nan=False)

    model: Annotated[Text, Field(min_length=1, max_length=200)]
    messages: Annotated[list[Turn], Field(min_length=1, fail_fast=True)]
    max_tokens: Annotated[int, Field(strict=True, gt=0, le=10_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(strict=True, gt=0, le=10_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=_MOST_STOPS)] | None = None
    seed: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    response_format: Form | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128), AfterValidator(bounded_tools)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    user: Text | None = None
    metadata: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        for name in value:
            if name in _WAYLESS and value[name] is not None and value[name] not in _WAYLESS[name]:
                raise PydanticCustomError("no_way", "{name} cannot be honoured here: leave it out", {"name": name})
        return {
            name: said
            for name, said in value.items()
            if name not in _WAYLESS and (name not in _IDLE or said != _IDLE[name])
        }

    @model_validator(mode="after")
    def _answers_calls_that_were_made(self) -> "CompletionRequest":
        try:
            spoken([turn.as_value() for turn in self.messages])
        except KeyError as missing:
            raise ValueError(f"no message before it makes the call {missing}") from None
        return self

    def order(self, desk: Desk) -> Order:
        """Raises UnknownName for a model that nobody has."""
        provider, model = _who(desk, self.model)
        given: dict[str, Any] = {"messages": [turn.as_value() for turn in self.messages]}
        limit = self.max_completion_tokens or self.max_tokens
        if limit is not None:
            given["max_output_tokens"] = limit
        given |= self._sampling().as_value()
        options: dict[str, Any] = {} if self.temperature is None else {"cache": False}
        if self.tools and self.tool_choice != "none":
            options["tools"] = [tool.model_dump(exclude_none=True) for tool in self.tools]
        plan = Plan(Sequence((Stage((Step(0, GOBLIN, TASK, provider, model),)),)))
        return Order(f"{GOBLIN}: {TASK}", input=given, options=options, plan=plan)

    def _sampling(self) -> Sampling:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        form = self.response_format
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            stop=tuple(stop or ()),
            seed=self.seed,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            response_format=None if form is None else form.model_dump(by_alias=True, exclude_none=True),
        )


def _who(desk: Desk, name: str) -> tuple[str | None, str]:
    """Every provider of a model, or one of them by provider/model."""
    candidates = desk.registry.candidates()
    if any(model.id == name for _, model in candidates):
        return None, name
    provider, slash, model = name.partition("/")
    known = desk.registry.providers.get(provider)
    if slash and known is not None and (known.known(model) is not None or known.discovers):
        return provider, model
    if any(one.discovers and one.obstacle is None for one in desk.registry.providers.values()):
        return None, name
    near = nearest(name[:100], {model.id for _, model in candidates})
    raise UnknownName(f"unknown model {name[:100]!r}{near}", field="model")
