"""What goblins need that look things up: who makes their vectors, who keeps their index. Part of `goblin check`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goblin.settings import RetrieveSettings, Settings
    from providers.registry import Registry


def lookups(settings: "Settings", registry: "Registry") -> dict[str, str | None]:
    """What each goblin with a `retrieve` table lacks, with the cure; None when it is ready.

    Raises ConfigError for a table that means nobody.
    """
    return {
        name: _lack(f"goblins.{name}.retrieve", goblin.retrieve, registry)
        for name, goblin in settings.goblins.items()
        if goblin.retrieve is not None
    }


def _lack(table: str, wanted: "RetrieveSettings", registry: "Registry") -> str | None:
    lacks = (_of_vectors(f"{table}.model", wanted, registry), _of_index(f"{table}.store", wanted.store, registry))
    return "; ".join(lack for lack in lacks if lack) or None


def _of_vectors(key: str, wanted: "RetrieveSettings", registry: "Registry") -> str | None:
    from goblin.errors import ConfigError
    from providers.name import nearest
    from routing.candidate import eligible, looking_up

    need = looking_up(registry, wanted, 1)
    makers = [
        (provider, model)
        for provider, model in registry.embedders()
        if model.id == need.model and need.provider in (None, provider.id)
    ]
    if not makers:
        known = {name for provider, model in registry.embedders() for name in (model.id, f"{provider.id}/{model.id}")}
        raise ConfigError(
            f"{key}: nobody makes vectors with {wanted.model!r}{nearest(wanted.model, known)}; "
            "name it in a provider's embedding_models"
        )
    candidates, refusals = eligible(makers, need)
    if candidates:
        return None
    return "; ".join(f"{name}: {reason}" for name, reason in refusals.items())


def _of_index(key: str, name: str, registry: "Registry") -> str | None:
    from goblin.errors import ConfigError
    from providers.provider import INDEX

    indexes = [one.id for one in registry.providers.values() if one.dialect == INDEX]
    if name not in indexes:
        raise ConfigError(f"{key}: {name!r} keeps no index; these do: {', '.join(indexes)}")
    obstacle = registry.get(name).obstacle
    return f"{name}: {obstacle}" if obstacle else None
