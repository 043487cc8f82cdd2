"""All providers of this installation: catalog rows, the operator's settings over them, keys from the environment.

Reading only: nothing is asked of any server here. Local models are found by `providers/discover.py`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from typing import Any, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr

from goblin import clock
from goblin.errors import ConfigError, NotFound
from goblin.settings import ModelSettings, ProviderSettings, Settings, TaskClass
from providers import price
from providers.name import nearest
from providers.provider import VECTORS, Deadlines, Model, Prior, Provider
from providers.row import KEYLESS, PLACEHOLDER, DialectName, Kind, ModelRow, Row, flaw_of, rows
from providers.tokens import UNKNOWN
from providers.wire.embedding import EMBEDDING
from providers.wire.spoken import NEEDS, SPOKEN, TOOLLESS

__all__ = ["Deadlines", "Model", "Prior", "Provider", "Registry", "load"]

_SENDABLE = re.compile(r"[!-~]+")
_EITHER: frozenset[TaskClass] = frozenset(("fast", "reasoning"))


@dataclass(frozen=True, slots=True)
class Registry:
    """`providers` holds all of them, also the disabled and those without a key: `why_not` says what they lack."""

    providers: Mapping[str, Provider]

    def get(self, provider_id: str) -> Provider:
        """Raises NotFound with the nearest names."""
        if (provider := self.providers.get(provider_id)) is not None:
            return provider
        raise NotFound(f"unknown provider {provider_id!r}{nearest(provider_id, self.providers)}")

    def candidates(self) -> tuple[tuple[Provider, Model], ...]:
        """Every model of every provider, by priority, then name; whether it can serve now is for others to say."""
        ordered = sorted(self.providers.values(), key=lambda provider: (provider.priority, provider.id))
        return tuple((provider, model) for provider in ordered for model in provider.models)

    def embedders(self) -> tuple[tuple[Provider, Model], ...]:
        """The same for models that make vectors."""
        ordered = sorted(self.providers.values(), key=lambda provider: (provider.priority, provider.id))
        return tuple((provider, model) for provider in ordered for model in provider.embedders)

    def embedder(self, name: str) -> tuple[str | None, str]:
        """Who is meant by a model for vectors, or by provider/model: the provider if it is one alone, and the model."""
        known = self.embedders()
        if all(model.id != name for _, model in known):
            for provider, model in known:
                if name == f"{provider.id}/{model.id}":
                    return provider.id, model.id
        return None, name

    def with_models(self, found: Mapping[str, Iterable[Model]]) -> "Registry":
        """The same registry in which the named providers serve other models."""
        changed = {name: replace(self.get(name), models=tuple(models)) for name, models in found.items()}
        return Registry({**self.providers, **changed})


def load(settings: Settings, environ: Mapping[str, str], now: datetime | None = None) -> Registry:
    """The registry for these settings, with the prices of `now`. Raises ConfigError with the cure."""
    catalog = rows(settings.catalog)
    moment = now or clock.now()
    known = {name: row for name, row in catalog.items() if name not in settings.providers}
    own = {name: _row(name, said, catalog) for name, said in settings.providers.items()}
    built = {
        name: _provider(name, row, settings.providers.get(name, ProviderSettings()), environ, moment)
        for name, row in {**known, **own}.items()
    }
    return Registry(dict(sorted(built.items())))


def _row(name: str, said: ProviderSettings, catalog: Mapping[str, Row]) -> Row:
    if said.dialect is not None and said.dialect not in get_args(DialectName):
        raise ConfigError(f"providers.{name}.dialect {said.dialect!r} is unknown{nearest(said.dialect, SPOKEN)}")
    row = catalog.get(name)
    if row is not None:
        return row.model_copy(update={"dialect": said.dialect}) if said.dialect is not None else row
    if said.base_url is None:
        raise ConfigError(
            f"providers.{name} is not in the catalog{nearest(name, catalog)} (a provider of your own needs a base_url)"
        )
    auth = "bearer-optional" if said.api_key is None else _AUTH.get(said.dialect or "openai", "bearer")
    return Row.model_validate(
        {"name": name, "dialect": said.dialect or "openai", "base_url": said.base_url, "auth": auth}
    )


_AUTH = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}


def _provider(name: str, row: Row, said: ProviderSettings, environ: Mapping[str, str], now: datetime) -> Provider:
    local = row.local if said.local is None else said.local
    row = row.model_copy(update={"local": local})
    price.check(name, row, said)
    key, auth = _credentials(row, said, environ)
    filled, missing = _fill(row, said, environ)
    enabled = row.enabled if said.enabled is None else said.enabled
    models = _models(name, row, said, now)
    base_url = _base_url(name, row, said, environ, filled)
    paths = [_filled(path, filled) for path in (row.chat_path, row.stream_path, row.models_path, row.embeddings_path)]
    missing = tuple(one for one in missing if f"{{{one}}}" in " ".join((base_url, *filter(None, paths))))
    chat_path, stream_path, models_path, embeddings_path = paths
    return Provider(
        id=name,
        name=row.name,
        dialect=row.dialect,
        base_url=base_url,
        auth=auth,
        key=key,
        needs_key=row.auth not in KEYLESS,
        enabled=enabled,
        local=local,
        priority=said.priority or row.priority,
        models=models,
        rpm=said.rpm or row.rpm,
        tpm=said.tpm or row.tpm,
        concurrency=said.concurrency or row.concurrency,
        deadlines=_deadlines(row, said),
        retry_count=row.retry_count if said.retry_count is None else said.retry_count,
        quirks=_quirks(row, said),
        prior=Prior(row.prior.ttft_s, row.prior.tokens_per_second, row.prior.success_rate),
        chat_path=chat_path,
        stream_path=stream_path,
        models_path=models_path,
        embeddings_path=embeddings_path,
        embeddings_dialect=row.embeddings_dialect,
        embedders=_embedders(name, row, said, now),
        embedding_texts=said.embedding_texts or row.embedding_texts,
        tokens_counted=said.tokens_counted or row.tokens_counted,
        variables=filled,
        rules=tuple(error.rule() for error in row.errors),
        discovers=row.is_discovered and not said.models and not row.talks,
        unlisted_price=price.find(row, "", said, now) if row.is_discovered else None,
        obstacle=_obstacle(name, row, key, enabled, missing),
        search_rate=price.rate(row.query_usd_mdim if said.query_usd_mdim is None else said.query_usd_mdim),
    )


def _obstacle(name: str, row: Row, key: SecretStr | None, enabled: bool, missing: tuple[str, ...]) -> str | None:
    if not enabled:
        return "disabled"
    if row.dialect not in SPOKEN and row.dialect not in VECTORS:
        return f"its dialect ({row.dialect}) is not spoken here"
    if (package := NEEDS.get(row.dialect)) is not None and find_spec(package) is None:
        return f"needs the package {package}: install goblin-assistant with the extra `{row.dialect}`"
    if missing:
        ways = (f"set {' or '.join((*row.needs.get(one, ()), f'providers.{name}.variables.{one}'))}" for one in missing)
        return f"needs {', '.join(missing)}: {'; '.join(ways)}"
    if key is None and row.auth not in KEYLESS:
        return f"no key: set {' and '.join((row.key_env or f'providers.{name}.api_key', *row.key_env_with[:1]))}"
    return None


def _credentials(row: Row, said: ProviderSettings, environ: Mapping[str, str]) -> tuple[SecretStr | None, str]:
    """The key and how it is sent: a bearer token in the environment replaces the catalog's way."""
    if said.api_key is None and row.bearer_env is not None and environ.get(row.bearer_env, "").strip():
        return _secret(row, row.bearer_env, environ[row.bearer_env]), "bearer"
    return _key(row, said, environ), row.auth


def _key(row: Row, said: ProviderSettings, environ: Mapping[str, str]) -> SecretStr | None:
    found = {"api_key": said.api_key.get_secret_value()} if said.api_key is not None else {}
    names = (row.key_env or "", *row.key_env_alternatives)
    found.update((name, environ[name]) for name in names if name in environ)
    name, value = next(((name, value) for name, value in found.items() if value.strip()), ("", ""))
    if value and name != "api_key" and row.key_env_with:
        value = ":".join((value, *(environ[part] for part in row.key_env_with if environ.get(part))))
        if row.key_env_with[0] not in environ:
            return None
    return _secret(row, name, value) if value else None


def _secret(row: Row, name: str, value: str) -> SecretStr:
    if not _SENDABLE.fullmatch(value := value.strip()):
        raise ConfigError(f"{name} for {row.name} holds characters that no HTTP header may carry")
    return SecretStr(value)


def _fill(row: Row, said: ProviderSettings, environ: Mapping[str, str]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Values for placeholders, and the names of those that have none."""
    filled: dict[str, str] = {}
    for name, variables in row.needs.items():
        value = said.variables.get(name) or next((environ[one] for one in variables if environ.get(one)), None)
        if value is not None:
            filled[name] = value
    return {**said.variables, **filled}, tuple(name for name in row.needs if name not in filled)


def _filled(path: str | None, values: Mapping[str, str]) -> str | None:
    return None if path is None else PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), path)


def _base_url(
    name: str, row: Row, said: ProviderSettings, environ: Mapping[str, str], values: Mapping[str, str]
) -> str:
    """The operator's URL, else the environment's, else the catalog's. One without a path takes the catalog's path."""
    variable = row.base_url_env if row.base_url_env is not None and environ.get(row.base_url_env) else None
    given = said.base_url or (environ[variable] if variable is not None else None)
    url = (_filled(given or _listed_url(row, values), values) or "").rstrip("/")
    if (flaw := flaw_of(url)) is not None:
        place = f"providers.{name}.base_url" if said.base_url or variable is None else variable
        raise ConfigError(f"{place} {flaw}")
    if given and not urlsplit(url).path:
        url += (_filled(urlsplit(row.base_url).path, values) or "").rstrip("/")
    return url


def _listed_url(row: Row, values: Mapping[str, str]) -> str:
    """The catalog's address: that for the value of a placeholder, where the row has one."""
    own = (by_value.get(values.get(name, "")) for name, by_value in row.base_url_for.items())
    return next((url for url in own if url is not None), row.base_url)


def _deadlines(row: Row, said: ProviderSettings) -> Deadlines:
    total = said.timeout or row.deadlines.total
    return Deadlines(
        connect=min(said.connect_timeout or row.deadlines.connect, total),
        first_token=min(said.first_token_timeout or row.deadlines.first_token, total),
        stall=min(said.stall_timeout or row.deadlines.stall, total),
        total=total,
    )


def _quirks(row: Row, said: ProviderSettings) -> Mapping[str, Any]:
    """What dialects read, under the names that they read; absent is absent."""
    quirks = {
        "stream_usage": row.stream_usage,
        "max_tokens_field": row.max_tokens_field,
        "idempotency_header": row.idempotency_header,
        "version": row.version,
        "headers": {name.lower(): value for name, value in row.headers.items()} or None,
        "body": row.body or None,
        "reasoning_on": row.reasoning.on,
        "reasoning_off": row.reasoning.off,
        "reasoning_always": row.reasoning.always or None,
        "reasoning_back": row.reasoning.back,
        "reasoning_temperature": None if row.reasoning.temperature else False,
        "sampling": row.sampling.named() or None,
        "prefill": (row.prefill if said.prefill is None else said.prefill) or None,
        "embedding": row.embedding.model_dump() if row.embedding is not None else None,
        "tools": None if row.tools and row.dialect not in TOOLLESS else False,
    }
    return {name: value for name, value in quirks.items() if value is not None}


def _models(name: str, row: Row, said: ProviderSettings, now: datetime) -> tuple[Model, ...]:
    if not said.models:
        return tuple(_model(row, one, said, now) for one in row.models if one.kind == "chat" and not _retired(one, now))
    return _named(f"providers.{name}.models", row, "chat", said, now)


def _embedders(name: str, row: Row, said: ProviderSettings, now: datetime) -> tuple[Model, ...]:
    if said.embedding_models is None:
        listed = (one for one in row.models if one.kind == "embedding" and not _retired(one, now))
        return tuple(_model(row, one, said, now) for one in listed)
    if said.embedding_models and not (row.embeddings and (row.embeddings_dialect or row.dialect) in EMBEDDING):
        raise ConfigError(f"providers.{name}.embedding_models: {row.name} makes no vectors that are spoken here")
    named = said.model_copy(update={"models": said.embedding_models})
    return _named(f"providers.{name}.embedding_models", row, "embedding", named, now)


def _named(place: str, row: Row, kind: Kind, said: ProviderSettings, now: datetime) -> tuple[Model, ...]:
    """The models that the operator names at a place of the settings."""
    models: dict[str, Model] = {}
    for one in said.models or ():
        wanted = ModelSettings(id=one) if isinstance(one, str) else one
        if wanted.id in models:
            raise ConfigError(f"{place} names {wanted.id!r} twice")
        models[wanted.id] = _wanted(row, wanted, kind, said, now)
    return tuple(models.values())


def _retired(model: ModelRow, now: datetime) -> bool:
    return model.retires is not None and now.date() >= model.retires


def _model(row: Row, model: ModelRow, said: ProviderSettings, now: datetime) -> Model:
    quirks = {
        "reasoning_on": model.reasoning_on,
        "reasoning_off": model.reasoning_off,
        "sampling": {**row.sampling.named(), **model.sampling.named()} or None,
        "max_tokens_field": model.max_tokens_field,
        "prefill": model.prefill,
        "tools": model.tools,
    }
    counts = model.counts or row.counts
    return Model(
        id=model.id,
        context=said.max_tokens or model.context,
        max_output=model.max_output,
        classes=frozenset(model.classes),
        reasoning=model.reasoning,
        price=price.find(row, model.id, said, now, vectors=model.kind == "embedding"),
        quirks={key: value for key, value in quirks.items() if value is not None},
        counts=counts.share if counts is not None else UNKNOWN,
    )


def _wanted(row: Row, wanted: ModelSettings, kind: Kind, said: ProviderSettings, now: datetime) -> Model:
    """A model that the operator names: the catalog's, if it has it, with what is said over it."""
    listed = row.model(wanted.id) or ModelRow(id=wanted.id)
    model = _model(row, listed.model_copy(update={"kind": kind}), said, now)
    return replace(
        model,
        context=wanted.context or model.context,
        max_output=wanted.max_output or model.max_output,
        classes=frozenset(wanted.classes) if wanted.classes else _EITHER,
    )
