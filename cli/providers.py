"""`goblin providers`: who could be asked, at which price, and how they have been doing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import trial

if TYPE_CHECKING:
    from goblin.settings import Settings
    from providers.provider import Model, Provider

LISTED = 3  # models named in the table
ASKED_S = 3.0  # that a provider has for its list of models

app = typer.Typer(help="Who could be asked, at which price; and one real call.", invoke_without_command=True)
app.command("test")(trial.trial)


@app.callback()
def providers(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that lack a key or are switched off.")] = False,
    reach: Annotated[
        bool, typer.Option("--reach/--no-reach", help="Ask those that are ready whether they are there, which is free.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="All, with all their models.")] = False,
) -> None:
    """List providers: key, reach, models, prices, and health if an API is running; or make one real call (`test`)."""
    if context.invoked_subcommand is not None:
        return
    from cli import show
    from goblin.settings import environment, load
    from providers import registry
    from providers.discover import refresh

    settings = load()
    known = refresh(registry.load(settings, environment())).providers.values()
    health = _health(settings)
    reached = _reached(known) if reach else {}
    if as_json:
        show.put_json([as_value(one, health.get(one.id), reached.get(one.id)) for one in known])
        return
    ready = [one for one in known if one.ready]
    lacking = [one for one in known if not one.ready and not _has_vectors(one)]
    columns = ["id", "key", "ready", "models", ">USD/M in", ">USD/M out", ">latency", ">success"]
    table = [_row(one, health.get(one.id, {})) for one in ready]
    if reach:
        columns.append("reached")
        table = [(*row, reached[one.id]) for one, row in zip(ready, table, strict=True)]
    show.put_table(columns, table)
    if vectors := [_vectors_row(one) for one in known if _has_vectors(one) or (every and one.embedders)]:
        show.put()
        show.put_table(("vectors", "key", "models", ">USD/M"), vectors)
    if every:
        show.put()
        columns = ["not ready", "name", "key", ">USD/M in", ">USD/M out", "why"]
        show.put_table(columns, [_lacking_row(one) for one in lacking])
    elif lacking:
        show.say(f"{len(lacking)} more are not ready: `goblin providers --all` lists them with what they lack")


def _reached(known: "Iterable[Provider]") -> dict[str, str]:
    """What each that is ready said to the question for its models, or to none where it has no list; all at once."""
    from concurrent.futures import ThreadPoolExecutor

    ready = [one for one in known if one.ready]
    with ThreadPoolExecutor(max_workers=max(len(ready), 1)) as pool:
        return dict(zip((one.id for one in ready), pool.map(_ask, ready), strict=True))


def _ask(provider: "Provider") -> str:
    from providers.discover import knock, list_models
    from providers.errors import ProviderFault

    try:
        if list_models(provider, ASKED_S) is not None:
            return "yes"
        knock(provider, ASKED_S)
    except ProviderFault as fault:
        return f"no: {fault.message}"
    return "yes, key not checked" if provider.needs_key else "yes"


def as_value(provider: "Provider", health: Mapping[str, Any] | None, reached: str | None = None) -> dict[str, Any]:
    models = [
        {
            **_priced(model),
            "classes": sorted(model.classes),
            "output_usd_mtok": _rate(model.price.output) if model.price else None,
        }
        for model in provider.models
    ]
    return {
        "id": provider.id,
        "name": provider.name,
        "has_key": provider.key is not None,
        "needs_key": provider.needs_key,
        "enabled": provider.enabled,
        "local": provider.local,
        "ready": provider.ready,
        "reason": provider.why_not(),
        "base_url": provider.base_url,
        "reached": reached,
        "models": models,
        "embedding_models": [_priced(model) for model in provider.embedders],
        "query_usd_mdim": None if provider.search_rate is None else _rate(provider.search_rate),
        "health": health,
    }


def _priced(model: "Model") -> dict[str, Any]:
    return {
        "id": model.id,
        "context": model.context,
        "input_usd_mtok": _rate(model.price.input) if model.price else None,
        "price_source": model.price.source if model.price else None,
    }


def _row(provider: "Provider", health: Mapping[str, Any]) -> tuple[object, ...]:
    is_priced = any(model.price for model in provider.models)
    return (
        *(provider.id, _key(provider), "yes" if is_priced else "no price: set one in goblin.toml"),
        *_offer(provider.models),
        f"{health['latency']:.2f} s" if health else "",
        f"{health['success_rate']:.0%}" if health else "",
    )


def _lacking_row(provider: "Provider") -> tuple[object, ...]:
    """With the prices of the catalog: who looks for a vendor has no key yet."""
    _, *prices = _offer(provider.models) if provider.models else ("", "", "")
    return (provider.id, provider.name, _key(provider), *prices, _why_not(provider))


def _why_not(provider: "Provider") -> str | None:
    """What it lacks, also where it answers no step."""
    from providers.provider import INDEX, VECTORS

    if provider.obstacle is None and provider.dialect in VECTORS - {INDEX}:
        return f"no model named: set providers.{provider.id}.embedding_models"
    return provider.obstacle or provider.why_not()


def _offer(models: "Sequence[Model]") -> tuple[str, str, str]:
    """Its models, and from the cheapest to the dearest what they take for input and output."""
    prices = [model.price for model in models if model.price]
    return _names(models), _range(price.input for price in prices), _range(price.output for price in prices)


def _has_vectors(provider: "Provider") -> bool:
    """Whether it can be asked to make vectors, or keeps some; a server that was not found cannot."""
    from providers.provider import INDEX

    is_there = provider.obstacle is None and (bool(provider.models) or not provider.discovers)
    return is_there and (bool(provider.embedders) or provider.dialect == INDEX)


def _vectors_row(provider: "Provider") -> tuple[object, ...]:
    if provider.embedders:
        prices = [model.price.input for model in provider.embedders if model.price]
        return provider.id, _key(provider), _names(provider.embedders), _range(prices)
    rate = "unknown" if provider.search_rate is None else f"{_rate(provider.search_rate)} for dimensions"
    return provider.id, _key(provider), "(keeps them)", rate


def _names(models: "Sequence[Model]") -> str:
    more = len(models) - LISTED
    return ", ".join(model.id for model in models[:LISTED]) + (f" +{more}" if more > 0 else "")


def _key(provider: "Provider") -> str:
    return "yes" if provider.key else "no" if provider.needs_key else "not needed"


def _range(rates: Iterable[int]) -> str:
    """From the cheapest to the dearest, of nano-dollars per million tokens."""
    found = sorted(set(rates))
    if not found:
        return "unknown"
    low, high = _rate(found[0]), _rate(found[-1])
    return low if low == high else f"{low} – {high}"


def _rate(nanousd: int) -> str:
    """Dollars, as short as exactness allows."""
    from goblin.money import to_usd

    whole, _, places = to_usd(nanousd).partition(".")
    return f"{whole}.{places.rstrip('0').ljust(2, '0')}"


def _health(settings: "Settings") -> dict[str, Mapping[str, Any]]:
    """What a running API has measured; nothing when there is none."""
    from cli import reach
    from goblin.errors import GoblinError

    found = reach.find(settings)
    if found is None:
        return {}
    with found:
        try:
            return {one["id"]: one["health"] for one in found.providers()["providers"]}
        except GoblinError:
            return {}
