"""`goblin check`: the configuration as goblin understands it, offline. Secrets are never shown."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from goblin.settings import Settings
    from providers.provider import Provider

LISTED = 3  # models named for each cure


def check(
    file: Annotated[Path | None, typer.Argument(help="A goblin.toml.  (default: as goblin would find it)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As data.")] = False,
) -> None:
    """Check the configuration: what is known, who is ready, and what the others lack."""
    from cli import show
    from cli.lookup import lookups
    from goblin.settings import environment, load
    from providers.discover import refresh
    from providers.registry import load as load_registry

    settings = load(file)
    registry = refresh(load_registry(settings, environment()))
    known = registry.providers.values()
    _check_budgets(settings)
    _check_favourites(settings, known)
    lacks = lookups(settings, registry)
    if as_json:
        show.put_json(as_value(settings, known, lacks, _source(file)))
        return
    show.put(f"settings   {_source(file)}")
    show.put(f"database   {'DATABASE_URL' if settings.database_url else 'embedded PostgreSQL'}")
    show.put(f"redis      {'REDIS_URL' if settings.redis_url else 'embedded Valkey'}")
    show.put(f"data       {settings.home.expanduser()}")
    show.put(f"catalog    {_catalog(settings)}")
    routing = settings.routing
    show.put(f"budgets    ${routing.budget_hourly} an hour, ${routing.budget_daily} a day")
    weights = " ".join(f"{name} {value}" for name, value in routing.weights.model_dump().items())
    show.put(f"weights    {weights}")
    _put_providers(known)
    show.put()
    columns = ("goblin", "class", ">output tokens", "verdict", "reasoning", "prefers")
    show.put_table(columns, [_goblin_row(name, settings) for name in sorted(settings.goblins)])
    show.put()
    show.put_table(("looks things up", "lacks"), [(name, lack or "nothing") for name, lack in sorted(lacks.items())])


def as_value(
    settings: "Settings", known: "Iterable[Provider]", lacks: "Mapping[str, str | None]", source: str
) -> dict[str, Any]:
    from providers.row import own_rows, rows

    return {
        "settings": source,
        "database": "configured" if settings.database_url else "embedded",
        "redis": "configured" if settings.redis_url else "embedded",
        "home": str(settings.home.expanduser()),
        "catalog": {"shipped": len(rows()), "own": sorted(own_rows(settings.catalog) if settings.catalog else ())},
        "routing": settings.routing.model_dump(mode="json"),
        "providers": {one.id: one.why_not() or "ready" for one in known},
        "unpriced": _unpriced(known),
        "goblins": {name: goblin.model_dump(exclude={"instructions"}) for name, goblin in settings.goblins.items()},
        "lookups": {name: lack or "ready" for name, lack in lacks.items()},
    }


def _catalog(settings: "Settings") -> str:
    from providers.row import own_rows, rows

    shipped = rows()
    if settings.catalog is None:
        return f"{len(shipped)} providers shipped"
    own = own_rows(settings.catalog)
    replaced = f" ({len(own.keys() & shipped.keys())} in place of shipped ones)" if own.keys() & shipped.keys() else ""
    return f"{len(shipped)} providers shipped, {len(own)} of your own in {settings.catalog}{replaced}"


def _put_providers(known: "Iterable[Provider]") -> None:
    from cli import show

    unasked = _unpriced(known)
    by_reason: dict[str, list[str]] = defaultdict(list)
    ready = []
    for one in known:
        reason = one.why_not()
        if reason is None:
            ready.append(f"{one.id} ({_count(one)})")
        else:
            by_reason[reason].append(one.id)
    show.put()
    show.put(f"ready      {', '.join(ready) or 'nobody: set a key such as OPENAI_API_KEY, or start Ollama'}")
    show.put_table(("not ready", "why"), [(", ".join(names), reason) for reason, names in by_reason.items()])
    if unasked:
        show.put()
        show.put_table(("never asked: no price is known", "cure"), _by_cure(unasked))


def _count(provider: "Provider") -> str:
    unasked = sum(model.price is None for model in provider.models)
    count = f"{len(provider.models)} model{'s' if len(provider.models) != 1 else ''}"
    return f"{count}, {unasked} never asked" if unasked else count


def _unpriced(known: "Iterable[Provider]") -> dict[str, str]:
    """The models that nothing but a price keeps from being asked, with the keys that give them one."""
    found: dict[str, str] = {}
    for one in known:
        keys = f"set providers.{one.id}.input_usd_mtok"
        talking = one.models if one.ready else ()
        making = one.embedders if one.obstacle is None else ()
        for model in talking:
            if model.price is None:
                found[f"{one.id}/{model.id}"] = f"{keys} and .output_usd_mtok, or the model's own in .models"
        for model in making:
            if model.price is None:
                found[f"{one.id}/{model.id}"] = f"{keys}, or the model's own in .embedding_models"
    return found


def _by_cure(unpriced: Mapping[str, str]) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, cure in unpriced.items():
        found[cure].append(name)
    more = {cure: f" +{len(names) - LISTED}" if len(names) > LISTED else "" for cure, names in found.items()}
    return [(", ".join(names[:LISTED]) + more[cure], cure) for cure, names in found.items()]


def _goblin_row(name: str, settings: "Settings") -> tuple[object, ...]:
    goblin = settings.goblins[name]
    flags = ("yes" if goblin.verdict else "", "yes" if goblin.reasoning else "")
    return (name, goblin.task_class, goblin.max_output_tokens, *flags, ", ".join(goblin.providers))


def _check_budgets(settings: "Settings") -> None:
    from goblin.errors import ConfigError
    from goblin.money import from_usd

    for name in ("budget_hourly", "budget_daily"):
        try:
            from_usd(getattr(settings.routing, name))
        except ValueError as error:
            raise ConfigError(f"routing.{name}: {error}; write dollars, as in 10.0") from error


def _check_favourites(settings: "Settings", known: "Iterable[Provider]") -> None:
    from goblin.errors import ConfigError
    from providers.name import nearest

    names = {one.id for one in known}
    for goblin, said in settings.goblins.items():
        for name in said.providers:
            if name not in names:
                raise ConfigError(f"goblins.{goblin}.providers: unknown provider {name!r}{nearest(name, names)}")


def _source(file: Path | None) -> str:
    from goblin.settings import environment

    found = file or environment().get("GOBLIN_CONFIG") or ("goblin.toml" if Path("goblin.toml").is_file() else None)
    return str(found) if found else "the defaults and the environment (no goblin.toml)"
