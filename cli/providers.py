"""`goblin providers`: who could be asked, at which price, and how they have been doing."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from goblin.settings import Settings
    from providers.provider import Provider

LISTED = 3  # models named in the table


def providers(
    every: Annotated[bool, typer.Option("--all", help="Also those that lack a key or are switched off.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All, with all their models.")] = False,
) -> None:
    """List providers: key, reach, models, prices, and health if an API is running."""
    from cli import show
    from goblin.settings import environment, load
    from providers import registry
    from providers.discover import refresh

    settings = load()
    known = refresh(registry.load(settings, environment())).providers.values()
    health = _health(settings)
    if as_json:
        show.put_json([as_value(one, health.get(one.id)) for one in known])
        return
    shown = [one for one in known if every or one.ready]
    columns = ("id", "key", "ready", "models", ">USD/M in", ">USD/M out", ">latency", ">success")
    show.put_table(columns, [_row(one, health.get(one.id, {})) for one in shown])
    if hidden := len(known) - len(shown):
        show.say(f"{hidden} more are not ready: `goblin providers --all` lists them with what they lack")


def as_value(provider: "Provider", health: Mapping[str, Any] | None) -> dict[str, Any]:
    models = [
        {
            "id": model.id,
            "context": model.context,
            "classes": sorted(model.classes),
            "input_usd_mtok": _rate(model.price.input) if model.price else None,
            "output_usd_mtok": _rate(model.price.output) if model.price else None,
            "price_source": model.price.source if model.price else None,
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
        "models": models,
        "health": health,
    }


def _row(provider: "Provider", health: Mapping[str, Any]) -> tuple[object, ...]:
    prices = [model.price for model in provider.models if model.price]
    names = ", ".join(model.id for model in provider.models[:LISTED])
    more = len(provider.models) - LISTED
    key = "yes" if provider.key else "no" if provider.needs_key else "not needed"
    return (
        *(provider.id, key, "yes" if provider.ready else provider.why_not()),
        names + (f" +{more}" if more > 0 else ""),
        *(_range(price.input for price in prices), _range(price.output for price in prices)),
        f"{health['latency']:.2f} s" if health else "",
        f"{health['success_rate']:.0%}" if health else "",
    )


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
