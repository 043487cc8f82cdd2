"""Decides what is answered: the text, the reasoning before it, where it ends and why, and what it counts."""

from dataclasses import dataclass
from enum import Enum
from itertools import cycle, islice
from typing import Any

from providers.simulator import compose, form, tokens, tool
from providers.simulator.behaviour import Behaviour, Think
from providers.simulator.reading import Reading, read
from providers.simulator.sheet import Model
from providers.simulator.tool import Called, Tool


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a conversation, read from any dialect."""

    model: str
    prompt: str
    stream: bool = False
    max_tokens: int | None = None
    wants_usage: bool = True  # in the stream
    thinking: bool = False  # wanted, or not suppressed where the dialect has it on by default
    shows_thinking: bool = True
    window: int | None = None  # tokens; the rest of a longer prompt is dropped in silence
    framed: bool = True  # events; one JSON array otherwise
    begun: str = ""  # the assistant's words, when they end the prompt
    tools: tuple[Tool, ...] = ()
    is_told: bool = False  # the result of a tool ends the prompt
    stops: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None  # of the JSON that is wanted; an empty one fits all

    @property
    def question(self) -> str:
        return self.prompt.removesuffix(f"\n\n{self.begun}") if self.begun else self.prompt


class Finish(Enum):
    STOP = "stop"
    LENGTH = "length"
    FILTERED = "filtered"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `input` includes `cached`, `output` includes `reasoning`."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    thinking: tuple[str, ...]  # tokens
    text: tuple[str, ...]
    finish: Finish
    usage: Usage
    shows_thinking: bool
    reports_usage: bool
    says_done: bool
    think_field: str = Think.CONTENT.value
    calls: tuple[Called, ...] = ()

    def thought(self) -> str:
        return "".join(self.thinking) if self.shows_thinking else ""

    def content(self) -> str:
        return "".join(self.text)


def answer(ask: Ask, behaviour: Behaviour, model: Model, seed: int) -> Reply:
    """The reply to a prompt, bounded by what was asked for and by what is left of the model's window."""
    prompt_tokens = tokens.count(ask.prompt)
    limit = max(1, model.context - prompt_tokens)
    if ask.window is not None:  # what does not fit is shifted out, of the prompt as of the answer
        prompt_tokens, limit = min(prompt_tokens, ask.window, model.context), model.context
    if ask.max_tokens is not None and not behaviour.overrun:
        limit = min(limit, ask.max_tokens)
    thinking, text, calls = ([], [], []) if behaviour.filtered else _say(ask, behaviour, model, seed)
    cut = len(thinking) + len(text) + sum(len(call.pieces) for call in calls) > limit
    thinking = thinking[:limit]
    text = text[: limit - len(thinking)]
    calls = list(tool.within(calls, limit - len(thinking) - len(text)))
    made = len(thinking) + len(text) + sum(len(call.pieces) for call in calls)
    think = behaviour.think or Think.CONTENT
    return Reply(
        thinking=tuple(thinking),
        text=tuple(text),
        finish=_finish(behaviour, cut, bool(calls)),
        usage=Usage(prompt_tokens, made, min(behaviour.cached, prompt_tokens), len(thinking)),
        shows_thinking=think is not Think.HIDDEN and (behaviour.think is not None or ask.shows_thinking),
        reports_usage=behaviour.usage,
        says_done=behaviour.done,
        think_field=think.value,
        calls=tuple(calls),
    )


def _finish(behaviour: Behaviour, cut: bool, calls: bool) -> Finish:
    if behaviour.filtered:
        return Finish.FILTERED
    if cut or behaviour.length:
        return Finish.LENGTH
    return Finish.TOOL if calls else Finish.STOP


def _say(ask: Ask, behaviour: Behaviour, model: Model, seed: int) -> tuple[list[str], list[str], list[Called]]:
    """Thinking, text, calls. Who calls says nothing else, unless the text was dictated."""
    reading = read(ask.question, f"{seed}\0{ask.model}")
    thinks = behaviour.think is not None or (model.reasoning and ask.thinking)
    thinking = tokens.split(compose.reason(reading)) if thinks else []
    if behaviour.calls and ask.tools and not ask.is_told:
        said = tokens.split(behaviour.say) if behaviour.say is not None else []
        return thinking, said, tool.make(ask.tools, behaviour.calls, reading.salt[:4].hex())
    text = _formed(ask, _text(ask.prompt, behaviour, reading))
    if behaviour.prefill == "on" and ask.begun:
        text = _rest(text, ask.begun)
    if behaviour.thinktag:
        text = tokens.split(f"<think>{compose.reason(reading)}</think>\n\n") + text
    return thinking, text, []


def _formed(ask: Ask, text: list[str]) -> list[str]:
    if ask.schema is not None:
        text = tokens.split(form.as_json("".join(text), ask.schema))
    return tokens.split(form.until("".join(text), ask.stops)) if ask.stops else text


def _rest(text: list[str], begun: str) -> list[str]:
    """What follows the words that were put into the assistant's mouth; all of it if they are not its own."""
    return tokens.split("".join(text).removeprefix(begun))


def _text(prompt: str, behaviour: Behaviour, reading: Reading) -> list[str]:
    if behaviour.say is not None:
        return tokens.split(behaviour.say)
    if behaviour.echo:
        return tokens.split(prompt)
    verdict = behaviour.verdict or ("PASS" if reading.is_judged else None)
    ending = tokens.split(f"\nVERDICT: {verdict}") if verdict else []
    body = tokens.split(compose.compose(reading))
    if behaviour.tokens is not None:
        body = list(islice(cycle([*body, "\n"]), max(0, behaviour.tokens - len(ending))))
        return (body + ending)[: behaviour.tokens]
    return body + ending
