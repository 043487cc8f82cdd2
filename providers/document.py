"""The catalog as a page for people: `python -m providers.document` prints what stands in docs/providers.md.

Prices are those of the day on which the newest row was gathered, so that the page changes only when the facts do.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time

from goblin.money import to_usd
from goblin.settings import ProviderSettings
from providers import price
from providers.price import Price
from providers.row import ModelRow, Row, rows
from providers.wire.spoken import NEEDS, SPOKEN, TOOLLESS

HEAD = """\
# Providers

Made from [the catalog](../providers/catalog/README.md) by `make docs`: edit the catalog, not this page.
`goblin providers` shows those that are ready and whether they can be reached, with `--all` the others, too, and what
they lack; `goblin providers test NAME` makes one real call.

Nothing here was checked against a live vendor. Addresses, keys and models may be set in goblin.toml for each provider,
and a provider that is not listed needs no more than a `base_url`."""
PRICES = """\
USD per million tokens, as they stood on {day}; some depend on the time of day. genai-prices is asked first, then
the catalog, whose own source is named. What goblin.toml says wins over both. A model whose price is unknown is never
asked."""


def page(catalog: Mapping[str, Row]) -> str:
    """The whole page, as Markdown."""
    day = max((row.gathered for row in catalog.values() if row.gathered is not None), default=date.min)
    moment = datetime.combine(day, time(12), UTC)
    who = _table(("id", "name", "dialect", "key", "address", "needs"), map(_provider, catalog, catalog.values()))
    listed = [(name, row, model) for name, row in catalog.items() for model in row.models]
    columns = ("provider", "model", "window", "for", "in", "cached in", "out", "who says so")
    what = _table(columns, (_model(name, row, model, moment) for name, row, model in listed))
    counts = f"{len(catalog)} providers, {len(listed)} models of theirs known by name."
    prices = PRICES.format(day=day)
    return "\n\n".join((HEAD, counts, "## Who", who, "## Models and prices", prices, what)) + "\n"


def _provider(name: str, row: Row) -> tuple[str, ...]:
    keys = [row.key_env, *row.key_env_alternatives, row.bearer_env]
    if row.key_env_with:
        keys[0] = " and ".join((row.key_env or "", row.key_env_with[0]))
    said = " or ".join(f"`{key}`".replace(" and ", "` and `") for key in keys if key)
    optional = " (optional)" if row.auth == "bearer-optional" and said else ""
    return name, row.name, row.dialect, said + optional, f"`{row.base_url}`", "; ".join(_needs(name, row))


def _needs(name: str, row: Row) -> Iterator[str]:
    if row.dialect not in SPOKEN:
        yield "answers no chats: no step is sent there"
        return
    if not row.enabled:
        yield f"`providers.{name}.enabled = true`"
    yield from (f"{gap}: `{'` or `'.join(variables)}`" for gap, variables in row.needs.items())
    if (package := NEEDS.get(row.dialect)) is not None:
        yield f"the extra `{row.dialect}` ({package})"
    if row.is_discovered and not row.talks:
        yield "to be running: its models are found" + ("" if row.is_free else ", their prices are not")
    elif not row.talks:
        yield f"`providers.{name}.models`"
    if row.key_env is None and row.auth not in ("none", "bearer-optional"):
        yield f"`providers.{name}.api_key`"
    if row.dialect in TOOLLESS:
        yield "steps without tools: its dialect has no word for them"


def _model(name: str, row: Row, model: ModelRow, moment: datetime) -> tuple[str, ...]:
    window = f"{model.context:,}" if model.context else ""
    uses = ", ".join(model.classes) if model.kind == "chat" else model.kind
    known = price.find(row, model.id, ProviderSettings(), moment, vectors=model.kind == "embedding")
    start = (name, f"`{model.id}`", window, uses)
    if known is not None:
        source = f"catalog: {model.source}" if known.source == "catalog" else known.source
        cached = _rate(known, "cache_read") if known.cache_read != known.input else ""
        return (*start, _rate(known, "input"), cached, _rate(known, "output") if model.kind == "chat" else "", source)
    return (*start, "unknown", "", "", model.unpriced or "not said")


def _rate(known: Price, kind: str) -> str:
    """The plain rate, and the others with the size of prompt above which they hold."""
    tiers = [f"{_usd(getattr(tier, kind))} over {tier.over:,}" for tier in known.tiers]
    fee = [f"{_usd(known.per_request)} a request"] if known.per_request and kind == "input" else []
    thoughts = [f"{_usd(known.reasoning)} for thoughts"] if known.reasoning is not None and kind == "output" else []
    more = "; ".join(tiers + fee + thoughts)
    return _usd(getattr(known, kind)) + (f" ({more})" if more else "")


def _usd(nanousd: int) -> str:
    whole, _, places = to_usd(nanousd).partition(".")
    return f"{whole}.{places.rstrip('0').ljust(2, '0')}"


def _table(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = list(columns)
    cells = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)


if __name__ == "__main__":
    sys.stdout.write(page(rows()))
