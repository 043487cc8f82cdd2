"""Who could serve a step, and why the others cannot. Pure; health and admission have their own rooms."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from goblin.settings import RetrieveSettings, TaskClass
from providers.price import Price, search, worst_case
from providers.registry import Model, Provider, Registry
from providers.vectorize import MOST_DIMENSIONS
from providers.wire.spoken import TOOLLESS, unsayable

_WORDLESS = ": its dialect has no word for them"


@dataclass(frozen=True, slots=True)
class Need:
    """What a step asks of a candidate. Tokens are estimates before the call."""

    task_class: TaskClass
    input_tokens: int
    output_tokens: int
    provider: str | None = None  # pins
    model: str | None = None
    providers: Collection[str] | None = None  # those the run allows; None = all
    models: Collection[str] | None = None
    preferred: tuple[str, ...] = ()  # the goblin's favourites, best first
    prefer_local: bool = False
    excluded: Mapping[str, str] = field(default_factory=dict)  # candidate name -> what it did to this step before
    context_above: int = 0  # tokens; a smaller window was refused already
    tools: bool = False  # the model is offered some
    wishes: tuple[str, ...] = ()  # for how the answer is drawn, and its form
    reasons: bool = False  # the model is to reason, if it can
    vectors: bool = False  # wanted in place of words
    fee: int = 0  # nano-dollars that a call may cost beside its tokens: the search of an index


def looking_up(
    registry: Registry,
    wanted: RetrieveSettings,
    input_tokens: int,
    provider: str | None = None,
    model: str | None = None,
    *,
    excluded: Mapping[str, str] = MappingProxyType({}),
) -> Need:
    """What a step asks for that looks things up: a vector by the index's own model, pins of the step first."""
    at, named = registry.embedder(wanted.model)
    store = registry.providers.get(wanted.store)
    fee = search(store.search_rate, wanted.vector_size or MOST_DIMENSIONS) if store is not None else 0
    return Need("fast", input_tokens, 0, provider or at, model or named, excluded=excluded, vectors=True, fee=fee)


class Candidate(NamedTuple):
    """A tuple, because hundreds are made for every decision."""

    provider: Provider
    model: Model
    price: Price
    counted: float = 1.0  # its input tokens for each that is estimated: as was seen, else as the catalog says

    @property
    def name(self) -> str:
        return f"{self.provider.id}/{self.model.id}"

    def worst_case(self, need: Need) -> int:
        """Nano-dollars of a call that uses its whole output limit."""
        wanted, possible = need.output_tokens, self.model.max_output  # as output_limit has it: no call for each of many
        tokens = need.input_tokens if self.counted == 1 else self.counting(need.input_tokens)
        return need.fee + worst_case(self.price, tokens, possible if possible and possible < wanted else wanted)

    def input_tokens(self, need: Need) -> int:
        """The estimate of the need, as this candidate counts."""
        return self.counting(need.input_tokens)

    def counting(self, tokens: int) -> int:
        """So many estimated input tokens, as it counts them."""
        return tokens if self.counted == 1 else math.ceil(round(tokens * self.counted, 6))

    def output_limit(self, need: Need) -> int:
        """Tokens that the answer may have: what is wanted, within what the model can."""
        wanted, possible = need.output_tokens, self.model.max_output
        return possible if possible and possible < wanted else wanted


def eligible(offers: Iterable[tuple[Provider, Model]], need: Need) -> tuple[list[Candidate], dict[str, str]]:
    """The candidates for a need, and the reason against every other offer (a whole provider's under its id)."""
    candidates: list[Candidate] = []
    refusals: dict[str, str] = {}
    asked: Provider | None = None
    obstacle: str | None = None
    for provider, model in offers:
        if provider is not asked:  # the models of a provider come one after the other
            asked, obstacle = provider, provider.obstacle if need.vectors else provider.why_not()
        if obstacle is not None:
            refusals[provider.id] = obstacle
            continue
        reason = _against(provider, model, need)
        if reason is None and model.price is not None:
            candidates.append(Candidate(provider, model, model.price, model.counts))
        else:
            refusals[f"{provider.id}/{model.id}"] = reason or "its price is not known: set one in goblin.toml"
    return candidates, refusals


def _against(provider: Provider, model: Model, need: Need) -> str | None:
    if need.provider is not None and provider.id != need.provider:
        return f"the step is pinned to {need.provider}"
    if need.model is not None and model.id != need.model:
        return f"the step is pinned to the model {need.model}"
    if need.providers is not None and provider.id not in need.providers:
        return "not among the providers that the run allows"
    if need.models is not None and model.id not in need.models:
        return "not among the models that the run allows"
    if need.excluded and (name := f"{provider.id}/{model.id}") in need.excluded:
        return f"tried already: {need.excluded[name]}"
    if need.provider is None and need.model is None and need.task_class not in model.classes:
        return f"not made for {need.task_class} tasks"
    if need.vectors:
        return None  # each text must fit by itself, and the vendor says so where one does not
    if need.tools and not provider.takes_tools(model):
        return f"takes no tools{_WORDLESS if provider.dialect in TOOLLESS else ''}"
    if need.wishes and (unsaid := unsayable(provider, model, need.wishes, reasons=need.reasons)):
        return unsaid
    return _too_small(model, need)


def _too_small(model: Model, need: Need) -> str | None:
    if model.context is None:
        return None
    if model.context <= need.context_above:
        return f"its context of {model.context} tokens is no larger than the one that was too small"
    wanted = need.input_tokens + need.output_tokens
    if wanted > model.context and model.max_output:
        wanted = need.input_tokens + min(need.output_tokens, model.max_output)
    if wanted > model.context:
        return f"about {wanted} tokens do not fit its context of {model.context}"
    return None
