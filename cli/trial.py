"""`goblin providers test`: one small real call straight to a provider, and in plain words what came of it.

It runs without a database, so no budget knows of it: what it costs is said, and is a fraction of a cent.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.complain import FAILED

if TYPE_CHECKING:
    from goblin.errors import GoblinError
    from goblin.settings import Settings
    from providers.message import Usage
    from providers.provider import Model, Provider

QUESTION = "Answer with the single word: ready"
LIMIT = 256  # output tokens, thoughts among them
SHOWN = 200  # characters of the answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """`ttft_s` and `duration_s` in seconds; without `usage` the vendor did not count."""

    provider: "Provider"
    model: "Model"
    answer: str
    thoughts: str
    usage: "Usage | None"
    ttft_s: float | None
    duration_s: float


def trial(
    name: Annotated[str, typer.Argument(help="Of the provider.")],
    model: Annotated[str | None, typer.Option(help="Any model of its; the cheapest known when none is given.")] = None,
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
        outcome = _call(*_candidate(settings, environ, name, model))
    except GoblinError as error:
        cure = _cure(error, known, settings)
        if as_json:
            show.put_json({"ok": False, "provider": name, "model": model, "error": error.as_value(), "cure": cure})
        else:
            show.say(f"goblin: {error.message}" + (f"; {cure}" if cure else ""))
        raise typer.Exit(FAILED) from error
    if as_json:
        show.put_json(as_value(outcome))
        return
    show.put(f"{outcome.provider.id}/{outcome.model.id} answered in {outcome.duration_s:.2f} s")
    for what, said in _lines(outcome):
        show.put(f"{what:<12} {said}")


def as_value(outcome: Outcome) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "ok": True,
        "provider": outcome.provider.id,
        "model": outcome.model.id,
        "answer": outcome.answer,
        "usage": asdict(outcome.usage) if outcome.usage else None,
        "cost_usd": _cost(outcome),
        "price_source": outcome.model.price.source if outcome.model.price else None,
        "ttft_s": outcome.ttft_s,
        "duration_s": outcome.duration_s,
    }


def _candidate(
    settings: "Settings", environ: Mapping[str, str], name: str, model: str | None
) -> "tuple[Provider, Model]":
    """The provider, also one that is switched off, and the model to ask. Raises ConfigError with what it lacks."""
    from goblin.errors import ConfigError
    from goblin.settings import ModelSettings, ProviderSettings
    from providers import registry
    from providers.discover import refresh

    said = settings.providers.get(name, ProviderSettings())
    wish: dict[str, Any] = {"enabled": True}
    if model is not None:
        described = (one for one in said.models or () if isinstance(one, ModelSettings) and one.id == model)
        wish["models"] = (next(described, model),)
    asked = {**settings.providers, name: said.model_copy(update=wish)}
    found = registry.load(settings.model_copy(update={"providers": asked}), environ).get(name)
    found = refresh(registry.Registry({name: found})).get(name)
    if (reason := found.why_not()) is not None:
        raise ConfigError(f"{found.name} cannot be asked: {reason}")
    return found, min(found.models, key=_dearness)


def _dearness(model: "Model") -> float:
    return float("inf") if model.price is None else model.price.output


def _call(provider: "Provider", model: "Model") -> Outcome:
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
    return Outcome(provider, model, answer.strip(), thoughts, usage, control.ttft_s, time.monotonic() - began)


def _lines(outcome: Outcome) -> list[tuple[str, str]]:
    usage, cost = outcome.usage, _cost(outcome)
    words = " ".join(outcome.answer.split())
    if not words:
        words = "(thoughts alone: the output limit of this test was used up)" if outcome.thoughts else "(empty)"
    price = outcome.model.price
    setting = f"providers.{outcome.provider.id}"
    unpriced = f"unknown, so no step is sent there: set {setting}.input_usd_mtok and {setting}.output_usd_mtok"
    return [
        ("answer", words if len(words) <= SHOWN else words[: SHOWN - 1] + "…"),
        ("first token", f"after {outcome.ttft_s:.2f} s" if outcome.ttft_s is not None else "none"),
        ("tokens", f"{usage.input} in, {usage.output} out" if usage else "not counted by the vendor"),
        ("cost", unpriced if price is None else f"${cost} ({price.source})" if cost else "unknown without a count"),
    ]


def _cost(outcome: Outcome) -> str | None:
    from goblin.money import to_usd
    from providers.price import cost

    if outcome.usage is None or outcome.model.price is None:
        return None
    return to_usd(cost(outcome.model.price, outcome.usage))


def _cure(error: "GoblinError", provider: "Provider", settings: "Settings") -> str:
    """What the operator can do; empty where the error says it itself."""
    from providers.row import rows

    row, setting = rows(settings.catalog).get(provider.id), f"providers.{provider.id}"
    variable = row.key_env if row is not None and row.key_env else f"{setting}.api_key"
    cures = {
        "bad_credentials": f"check {variable}: the vendor does not take this key, or not for this model",
        "quota_spent": "look at the vendor's account: it is empty, capped or unpaid",
        "throttled": f"wait and try again; {setting}.rpm and .tpm keep Goblin below the vendor's limits",
        "unknown_model": f"name another with --model, and yours in {setting}.models",
        "unreachable": f"is {'it running' if provider.local else 'the network up'}, and is {provider.base_url}"
        f" its address ({setting}.base_url)?",
        "timed_out": f"try again, or allow more time: {setting}.timeout and {setting}.first_token_timeout",
        "malformed": f"something else answers there: check {setting}.base_url and {setting}.dialect",
        "bad_request": "another model may take it (--model); what is sent is described in the provider's catalog file",
        "overloaded": "try again later, or another model",
        "server_error": "try again later: the fault is the vendor's",
        "broken_stream": "try again: the connection was lost, at the vendor's or between",
    }
    return cures.get(error.slug, "")
