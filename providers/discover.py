"""Asks servers which models they serve. Local servers have no models but those; nothing is asked at import or load."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from providers.call import fetch
from providers.errors import ProviderFault, TimedOut, Unreachable
from providers.provider import Model, Provider
from providers.registry import Registry
from providers.wire.dialect import HttpRequest
from providers.wire.spoken import SPOKEN


def list_models(provider: Provider, timeout: float = 5.0) -> tuple[str, ...] | None:
    """Ids of the models that a provider serves; None when it has no such list. A probe that costs nothing.

    `timeout` in seconds. Raises ProviderFault.
    """
    request = SPOKEN[provider.dialect].models_request(provider) if provider.dialect in SPOKEN else None
    if request is None:
        return None
    return fetch(provider, request, timeout, SPOKEN[provider.dialect].parse_models)


def knock(provider: Provider, timeout: float = 5.0) -> None:
    """Asks a provider that has no list for nothing, and without its key: whatever it says, it is there.

    `timeout` in seconds. Raises Unreachable or TimedOut.
    """
    request = HttpRequest("GET", provider.base_url, {"accept": "*/*"})
    try:
        fetch(provider, request, timeout, bytes)
    except (Unreachable, TimedOut):
        raise
    except ProviderFault:
        return


def discover(provider: Provider, timeout: float = 1.0) -> tuple[Model, ...] | None:
    """The models of a provider that is running; None = not reachable, or something else listens there.

    A model that was known keeps what is known about it; others fit every task, at the price of what is not listed.
    """
    try:
        names = list_models(provider, timeout)
    except ProviderFault:
        return None
    if names is None:
        return None
    return tuple(provider.known(name) or Model(name, price=provider.unlisted_price) for name in names)


def refresh(registry: Registry, timeout: float = 1.0) -> Registry:
    """The registry with the models that local servers serve now; a server that does not answer has none.

    Looks at providers whose models are to be discovered and that lack nothing else, all at once.
    """
    asked = [one for one in registry.providers.values() if one.discovers and one.obstacle is None]
    if not asked:
        return registry
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        found: Iterable[tuple[Model, ...] | None] = pool.map(lambda provider: discover(provider, timeout), asked)
        return registry.with_models({provider.id: models or () for provider, models in zip(asked, found, strict=True)})
