"""Is it well, and who is there: the health of this installation and its providers."""

import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from statistics import fmean

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api.auth import CallerDep
from api.deps import House, HouseDep
from goblin.errors import Unavailable
from goblin.kv import outages
from goblin.money import MILLION, NANO
from ledger import keys
from providers.price import FREE
from providers.provider import Provider
from routing.candidate import Candidate
from routing.health import Snapshot
from routing.score import Measure

router = APIRouter(tags=["catalog"])


class Health(BaseModel):
    status: str = Field(description="healthy, degraded (runs are accepted and wait), or unhealthy")
    version: str
    providers: int = Field(description="providers known")
    uptime: str = Field(examples=["1h 23m"])
    parts: dict[str, str] = Field(examples=[{"postgres": "up", "redis": "up"}])


class ProviderHealth(BaseModel):
    latency: float = Field(description="seconds to the first token, as measured of late; before that, expected")
    success_rate: float
    cost_per_token: float | None = Field(description="USD for a token that its cheapest model writes; null: not known")


class ProviderOut(BaseModel):
    id: str = Field(examples=["openai"])
    name: str = Field(examples=["OpenAI"])
    enabled: bool
    models: list[str]
    health: ProviderHealth
    ready: bool
    reason: str | None = Field(description="why it is not asked now, with the cure")
    local: bool
    priority: int


class Providers(BaseModel):
    providers: list[ProviderOut]


@router.get("/api/health", summary="Is it well?")
def health(house: HouseDep, response: Response) -> Health:
    """503 when Postgres cannot be reached. Without Redis runs are accepted, and wait."""
    parts = {"postgres": _postgres(house), "redis": _redis(house)}
    status = "healthy"
    if parts["postgres"] != "up":
        response.status_code, status = 503, "unhealthy"
    elif parts["redis"] != "up":
        status = "degraded"
    return Health(
        status=status,
        version=_version(),
        providers=len(house.registry.providers),
        uptime=_uptime(time.monotonic() - house.started_at),
        parts=parts,
    )


@router.get("/providers", summary="Who can be asked")
def providers(house: HouseDep, _: CallerDep) -> Providers:
    snapshot = house.health.snapshot()
    resting = snapshot.resting(time.time())
    return Providers(providers=[_provider(one, snapshot, resting) for one in house.registry.providers.values()])


def _provider(provider: Provider, snapshot: Snapshot, resting: Mapping[str, str]) -> ProviderOut:
    reason = provider.why_not() or resting.get(provider.id)
    return ProviderOut(
        id=provider.id,
        name=provider.name,
        enabled=provider.enabled,
        models=[model.id for model in provider.models],
        health=_health(provider, snapshot),
        ready=reason is None,
        reason=reason,
        local=provider.local,
        priority=provider.priority,
    )


def _health(provider: Provider, snapshot: Snapshot) -> ProviderHealth:
    measures = _measures(provider, snapshot)
    prices = [model.price.output for model in provider.models if model.price is not None]
    return ProviderHealth(
        latency=round(fmean(one.ttft_s for one in measures), 3),
        success_rate=round(fmean(one.success for one in measures), 3),
        cost_per_token=min(prices) / MILLION / NANO if prices else None,
    )


def _measures(provider: Provider, snapshot: Snapshot) -> Sequence[Measure]:
    """Of the models that were asked; else what is expected of the provider."""
    candidates = (Candidate(provider, model, model.price or FREE) for model in provider.models)
    measured = [snapshot.measure(one) for one in candidates if one.name in snapshot.candidates]
    prior = provider.prior
    return measured or [Measure(prior.ttft_s, prior.success_rate, prior.tokens_per_second)]


def _postgres(house: House) -> str:
    try:
        keys.any_exist(house.ledger)
    except Unavailable:
        return "down"
    return "up"


def _redis(house: House) -> str:
    try:
        with outages():
            house.redis.ping()
    except Unavailable:
        return "down"
    return "up"


def _uptime(seconds: float) -> str:
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours}h {minutes}m"


@cache
def _version() -> str:
    return version("goblin-assistant")
