"""`goblin providers test`: one small real call straight to a provider, and in plain words what came of it.

It runs without a database, so no budget knows of it: what it costs is said, and is a fraction of a cent. Who makes or
keeps vectors is tried in `vectors.py`.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from cli.complain import FAILED

if TYPE_CHECKING:
    from goblin.errors import GoblinError
    from goblin.settings import ModelSettings, Settings
    from providers.message import Usage
    from providers.provider import Model, Provider

QUESTION = "Answer with the single word: ready"
LIMIT = 256  # output tokens, thoughts among them
SHOWN = 200  # characters of the answer
UNCOUNTED = "not counted by the vendor"


class Outcome(Protocol):
    """What came back."""

    def as_value(self) -> dict[str, Any]: ...

    def lines(self) -> tuple[str, list[tuple[str, str]]]:
        """A line that says it, and what there is to say beside: of what, and what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`ttft_s` and `duration_s` in seconds; without `usage` the vendor did not count."""

    provider: "Provider"
    model: "Model"
    answer: str
    thoughts: str
    usage: "Usage | None"
    ttft_s: float | None
    duration_s: float

    def as_value(self) -> dict[str, Any]:
        from dataclasses import asdict

        return {
            "ok": True,
            "provider": self.provider.id,
            "model": self.model.id,
            "answer": self.answer,
            "usage": asdict(self.usage) if self.usage else None,
            "cost_usd": cost_of(self.model, self.usage),
            "price_source": self.model.price.source if self.model.price else None,
            "ttft_s": self.ttft_s,
            "duration_s": self.duration_s,
        }

    def lines(self) -> tuple[str, list[tuple[str, str]]]:
        usage, words = self.usage, " ".join(self.answer.split())
        if not words:
            words = "(thoughts alone: the output limit of this test was used up)" if self.thoughts else "(empty)"
        setting = f"providers.{self.provider.id}"
        unpriced = f"unknown, so no step is sent there: set {setting}.input_usd_mtok and {setting}.output_usd_mtok"
        return f"{self.provider.id}/{self.model.id} answered in {self.duration_s:.2f} s", [
            ("answer", words if len(words) <= SHOWN else words[: SHOWN - 1] + "…"),
            ("first token", f"after {self.ttft_s:.2f} s" if self.ttft_s is not None else "none"),
            ("tokens", f"{usage.input} in, {usage.output} out" if usage else UNCOUNTED),
            ("cost", price_line(self.model, usage, unpriced)),
        ]


def trial(
    name: Annotated[str, typer.Argument(help="Of the provider.")],
    model: Annotated[
        str | None, typer.Option(help="Any model of its, or an index; the cheapest known when none is given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As data.")] = False,
) -> None:
    """Make one small real call to a provider and say what came back, or what is wrong and how to mend it."""
    from cli import show
    from goblin.errors import GoblinError
    from goblin.settings import environment, load
    from providers import registry

    settings, environ = load(), environment()
    known = registry.load(settings, environ).get(name)
    try:
        outcome = _try(settings, environ, name, model)
    except GoblinError as error:
        cure = _cure(error, known, settings, model)
        if as_json:
            show.put_json({"ok": False, "provider": name, "model": model, "error": error.as_value(), "cure": cure})
        else:
            show.say(f"goblin: {error.message}" + (f"; {cure}" if cure else ""))
        raise typer.Exit(FAILED) from error
    if as_json:
        show.put_json(outcome.as_value())
        return
    first, more = outcome.lines()
    show.put(first)
    for what, said in more:
        show.put(f"{what:<12} {said}")


def _try(settings: "Settings", environ: Mapping[str, str], name: str, model: str | None) -> Outcome:
    """Raises ConfigError with what it lacks, or ProviderFault."""
    from cli import vectors
    from providers.provider import INDEX

    known = wished(settings, environ, name)
    if known.dialect == INDEX:
        return vectors.look(known, model or vectors.index_of(settings, name))
    if _makes_vectors(known, model):
        return vectors.make(*vectors.maker(settings, environ, name, model))
    return _call(*_candidate(settings, environ, name, model))


def _makes_vectors(provider: "Provider", model: str | None) -> bool:
    """Whether it is to make vectors: because it does nothing else, or because the model does."""
    from providers.provider import VECTORS

    return provider.dialect in VECTORS or (model is not None and provider.embedder(model) is not None)


def wished(settings: "Settings", environ: Mapping[str, str], name: str, **wishes: Any) -> "Provider":
    """The provider as it would be with these settings, switched on."""
    from goblin.settings import ProviderSettings
    from providers import registry

    said = settings.providers.get(name, ProviderSettings())
    asked = {**settings.providers, name: said.model_copy(update={"enabled": True, **wishes})}
    return registry.load(settings.model_copy(update={"providers": asked}), environ).get(name)


def described(among: "Iterable[str | ModelSettings]", model: str) -> "str | ModelSettings":
    """A model as the settings have it, else by its name."""
    return next((one for one in among if not isinstance(one, str) and one.id == model), model)


def _candidate(
    settings: "Settings", environ: Mapping[str, str], name: str, model: str | None
) -> "tuple[Provider, Model]":
    """The provider, also one that is switched off, and the model to ask. Raises ConfigError with what it lacks."""
    from goblin.errors import ConfigError
    from goblin.settings import ProviderSettings
    from providers import registry
    from providers.discover import refresh

    said = settings.providers.get(name, ProviderSettings())
    wish = {} if model is None else {"models": (described(said.models or (), model),)}
    found = refresh(registry.Registry({name: wished(settings, environ, name, **wish)})).get(name)
    if (reason := found.why_not()) is not None:
        raise ConfigError(f"{found.name} cannot be asked: {reason}")
    return found, min(found.models, key=_dearness)


def _dearness(model: "Model") -> float:
    return float("inf") if model.price is None else model.price.output


def _call(provider: "Provider", model: "Model") -> Answer:
    """Raises ProviderFault."""
    from providers.answer import collect
    from providers.call import Caller, Control
    from providers.message import Chat, Message

    caller, control, began = Caller(), Control(), time.monotonic()
    try:
        chat = Chat(model.id, (Message("user", QUESTION),), LIMIT)
        answer, thoughts, _, usage = collect(caller.stream(provider, chat, control))
    finally:
        caller.close()
    return Answer(provider, model, answer.strip(), thoughts, usage, control.ttft_s, time.monotonic() - began)


def price_line(model: "Model", usage: "Usage | None", unpriced: str) -> str:
    if model.price is None:
        return unpriced
    cost = cost_of(model, usage)
    return f"${cost} ({model.price.source})" if cost else "unknown without a count"


def cost_of(model: "Model", usage: "Usage | None") -> str | None:
    from goblin.money import to_usd
    from providers.price import cost

    return None if usage is None or model.price is None else to_usd(cost(model.price, usage))


def _cure(error: "GoblinError", provider: "Provider", settings: "Settings", model: str | None) -> str:
    """What the operator can do; empty where the error says it itself."""
    from providers.provider import INDEX
    from providers.row import rows

    models = "embedding_models" if _makes_vectors(provider, model) else "models"
    row, setting = rows(settings.catalog).get(provider.id), f"providers.{provider.id}"
    variable = row.key_env if row is not None and row.key_env else f"{setting}.api_key"
    cures = {
        "bad_credentials": f"check {variable}: the vendor does not take this key, or not for this model",
        "quota_spent": "look at the vendor's account: it is empty, capped or unpaid",
        "throttled": f"wait and try again; {setting}.rpm and .tpm keep Goblin below the vendor's limits",
        "unknown_model": f"name another with --model, and yours in {setting}.{models}",
        "unreachable": f"is {'it running' if provider.local else 'the network up'}, and is {provider.base_url}"
        f" its address ({setting}.base_url)?",
        "timed_out": f"try again, or allow more time: {setting}.timeout and {setting}.first_token_timeout",
        "malformed": f"something else answers there: check {setting}.base_url and {setting}.dialect",
        "bad_request": "another model may take it (--model); what is sent is described in the provider's catalog file",
        "overloaded": "try again later, or another model",
        "server_error": "try again later: the fault is the vendor's",
        "broken_stream": "try again: the connection was lost, at the vendor's or between",
    }
    if provider.dialect == INDEX:
        where = "name the index as the vendor has it: in goblins.NAME.retrieve, or with --model"
        cures |= {"bad_request": where, "unknown_model": where}
    return cures.get(error.slug, "")
