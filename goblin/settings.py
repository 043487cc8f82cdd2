"""One frozen tree of settings: defaults.toml < goblin.toml < environment, read here and nowhere else.

Entry points load it once and hand on the branch that a part needs. Provider facts live in providers/catalog;
this file only knows how an operator may override them.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from goblin.errors import ConfigError
from goblin.money import MOST, from_usd

TaskClass = Literal["fast", "reasoning"]
TokensCounted = Literal["use", "arrival"]
NAME = re.compile(r"[A-Za-z0-9_-]{1,30}")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ENVIRONMENT = {
    "DATABASE_URL": ("database_url",),
    "REDIS_URL": ("redis_url",),
    "LOG_LEVEL": ("log_level",),
    "GOBLIN_HOME": ("home",),
    "GOBLIN_HOST": ("server", "host"),
    "GOBLIN_PORT": ("server", "port"),
    "GOBLIN_CONCURRENCY": ("worker", "concurrency"),
}


def _money(usd: str | float) -> str | float:
    if from_usd(usd) < 0:
        raise ValueError("an amount of money cannot be negative")
    if from_usd(usd) > MOST:
        raise ValueError("an amount of money above 9,007,199 USD cannot be counted to the nano-dollar")
    return usd


Usd: TypeAlias = Annotated[str | float, AfterValidator(_money)]
LogLevel: TypeAlias = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSettings(Section):
    """A model of a provider; prices in USD per million tokens."""

    id: str
    context: int | None = Field(None, gt=0, description="context window in tokens")
    max_output: int | None = Field(None, gt=0, description="largest answer in tokens")
    classes: tuple[TaskClass, ...] | None = None
    input_usd_mtok: Usd | None = None
    output_usd_mtok: Usd | None = None
    cached_input_usd_mtok: Usd | None = None
    reasoning_usd_mtok: Usd | None = Field(None, description="of thoughts, where they cost other than the answer")


class ProviderSettings(Section):
    """What an operator may say about a provider; None keeps the catalog's value."""

    enabled: bool | None = None
    api_key: SecretStr | None = None
    base_url: str | None = None
    dialect: str | None = None
    models: tuple[str | ModelSettings, ...] | None = None
    embedding_models: tuple[str | ModelSettings, ...] | None = Field(
        None, description="models that make vectors; an output price is not needed"
    )
    embedding_texts: int | None = Field(None, gt=0, description="texts that one request for vectors may hold")
    priority: int | None = Field(None, ge=1, description="1 is preferred among equals")
    cost_per_token: float | None = Field(None, ge=0, description="USD for any token, in or out; 0 = free")
    input_usd_mtok: Usd | None = None
    output_usd_mtok: Usd | None = None
    cached_input_usd_mtok: Usd | None = None
    reasoning_usd_mtok: Usd | None = Field(None, description="of thoughts, where they cost other than the answer")
    price_context: Mapping[str, str] | None = Field(
        None, description='what prices of genai-prices may depend on, as {service_tier = "flex"}'
    )
    query_usd_mdim: Usd | None = Field(
        None, description="of an index of vectors: USD per million dimensions of what is searched for"
    )
    max_tokens: int | None = Field(None, gt=0, description="context length in tokens")
    timeout: float | None = Field(None, gt=0, description="seconds for a whole call")
    connect_timeout: float | None = Field(None, gt=0)
    first_token_timeout: float | None = Field(None, gt=0)
    stall_timeout: float | None = Field(None, gt=0, description="seconds between two pieces of a stream")
    retry_count: int | None = Field(
        None,
        ge=0,
        description="further calls to the same candidate after a fault; unless it is 0, one that throttles is asked"
        " again whenever its delay is over",
    )
    prefill: bool | None = Field(
        None, description="goes on with the words of an assistant that end a conversation; else it is asked anew"
    )
    rpm: int | None = Field(None, gt=0, description="requests per rolling minute")
    tpm: int | None = Field(None, gt=0, description="tokens per rolling minute")
    concurrency: int | None = Field(None, gt=0)
    tokens_counted: TokensCounted | None = Field(
        None, description="arrival: the vendor's tpm counts the output limit of every request, whatever is used"
    )
    budget_hourly: Usd | None = Field(None, description="USD that its calls may cost in a UTC hour")
    budget_daily: Usd | None = Field(None, description="USD in a UTC day")
    local: bool | None = None
    variables: Mapping[str, str] = {}


class Weights(Section):
    latency: float = Field(0.4, ge=0)
    cost: float = Field(0.3, ge=0)
    success: float = Field(0.2, ge=0)
    bandwidth: float = Field(0.1, ge=0)


class RoutingSettings(Section):
    budget_hourly: Usd = "10"
    budget_daily: Usd = "50"
    prefer_local: bool = False
    circuit_breaker_threshold: float = Field(0.8, gt=0, le=1)
    health_check_interval: float = Field(60, gt=0, description="seconds")
    required_bandwidth: float = Field(50, gt=0, description="output tokens per second that score full marks")
    weights: Weights = Weights()
    max_attempts: int = Field(6, ge=1, description="calls that one step may make, but for those that it has waited for")
    outage_patience: float = Field(
        300,
        ge=0,
        description="seconds after its first failed call for which a step waits for providers that fail, when no other"
        " is left",
    )


class RetrieveSettings(Section):
    """An index of vectors, and who makes vectors of questions: the model that made those of the index."""

    index: str
    model: str = Field(description="an embedding model, or provider/model")
    store: str = Field("cloudflare_vectorize", description="the provider that has the index")
    top_k: int = Field(5, ge=1, le=20, description="hits")
    text_field: str = Field("text", description="the metadata that holds a hit's text")
    namespace: str | None = None
    vector_size: int | None = Field(None, gt=0, description="of the index, where the model can make several")


class GoblinSettings(Section):
    instructions: str
    task_class: TaskClass
    max_output_tokens: int = Field(1024, gt=0)
    verdict: bool = False
    reasoning: bool = False
    providers: tuple[str, ...] = ()
    cache: bool = Field(False, description="its answers may be those of identical requests, unless the run says no")
    timeout: float | None = Field(None, gt=0, description="seconds for a step, from its first call on")
    retrieve: RetrieveSettings | None = Field(None, description="its steps look things up and ask no model to write")


class LimitSettings(Section):
    workflow_bytes: int = Field(65_536, gt=0)
    workflow_steps: int = Field(200, gt=0)
    workflow_depth: int = Field(20, gt=0)
    body_bytes: int = Field(8 * 2**20, gt=0)
    input_bytes: int = Field(4 * 2**20, gt=0)
    output_bytes: int = Field(2**20, gt=0, description="text that one step may produce")
    stream_events: int = Field(20_000, gt=0, description="events kept per run for replay")
    stream_ttl: int = Field(3_600, gt=0, description="seconds that a finished run's events stay in Redis")


class CacheSettings(Section):
    """Answers kept in Redis for identical requests of the same API key; what was not used for longest goes first."""

    ttl: float = Field(3_600, gt=0, description="seconds that an answer is kept")
    entries: int = Field(10_000, gt=0, description="answers kept at most")
    bytes: int = Field(64 * 2**20, gt=0, description="of all answers together")
    entry_bytes: int = Field(256 * 2**10, gt=0, description="a larger answer is not kept")


class BatchSettings(Section):
    """Files of lines that become runs, a window of them at a time."""

    file_bytes: int = Field(2**30, gt=0)
    line_bytes: int = Field(2**20, gt=0)
    lines: int = Field(1_000_000, gt=0, le=2**31 - 1, description="of one file")
    window: int = Field(
        500, gt=0, description="runs of all batches that are open at once: about twice the calls that the workers hold"
    )
    uploads: int = Field(4, gt=0, description="that one API process takes in at once")


class WorkerSettings(Section):
    concurrency: int = Field(200, gt=0, description="steps held at once by one worker process")
    lease: float = Field(12, gt=0, description="seconds; renewed every third of it")
    grace: float = Field(30, ge=0, description="seconds that a stopping worker lets its calls finish")


class RetentionSettings(Section):
    run_days: float = Field(
        30,
        gt=0,
        description="that a run is kept after its end, with its outputs and decisions; its money is kept for ever",
    )
    file_days: float = Field(30, gt=0, description="that a file is kept, unless its upload asks for less")


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(3001, ge=0, le=65535)


class Settings(Section):
    providers: Mapping[str, ProviderSettings] = {}
    routing: RoutingSettings = RoutingSettings()
    goblins: Mapping[str, GoblinSettings] = {}
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    batches: BatchSettings = BatchSettings()
    worker: WorkerSettings = WorkerSettings()
    retention: RetentionSettings = RetentionSettings()
    server: ServerSettings = ServerSettings()
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    log_level: LogLevel = "INFO"
    home: Path = Path("~/.local/share/goblin")
    catalog: Path | None = Field(None, description="a folder of the operator's own provider files")

    def require_database_url(self) -> str:
        if self.database_url is None:
            raise ConfigError("no database is configured: set DATABASE_URL, or use `goblin up`, which brings its own")
        return self.database_url.get_secret_value()

    def require_redis_url(self) -> str:
        if self.redis_url is None:
            raise ConfigError("no Redis is configured: set REDIS_URL, or use `goblin up`, which brings its own")
        return self.redis_url.get_secret_value()


def load(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process.

    `file` is the operator's goblin.toml: given here, or named by GOBLIN_CONFIG, or ./goblin.toml when there is one.
    Raises ConfigError with the place, the cause and the nearest known key.
    """
    env = environment() if environ is None else environ
    path = file or (Path(env["GOBLIN_CONFIG"]) if env.get("GOBLIN_CONFIG") else None)
    if path is None and Path("goblin.toml").is_file():
        path = Path("goblin.toml")
    tree = _merge(_defaults(), _expand(_read(path), env) if path else {})
    tree = _merge(tree, _from_environment(env))
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, path, env)) from None  # its text quotes what was given, secrets too
    _check_names(settings)
    return settings


def environment() -> Mapping[str, str]:
    """The process environment over a .env file in the working directory."""
    return {**{k: v for k, v in dotenv_values(".env").items() if v is not None}, **os.environ}


@cache
def _defaults() -> dict[str, Any]:
    return tomllib.loads(files("goblin").joinpath("defaults.toml").read_text())


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _expand(value: Any, env: Mapping[str, str]) -> Any:
    """Replace ${NAME}; a value that refers to what is not set becomes absent."""
    if isinstance(value, dict):
        expanded = {key: _expand(item, env) for key, item in value.items()}
        return {key: item for key, item in expanded.items() if item is not None}
    if isinstance(value, list):
        return [expanded for item in value if (expanded := _expand(item, env)) is not None]
    if not isinstance(value, str):
        return value
    if not all(env.get(name) for name in _REFERENCE.findall(value)):
        return None
    return _REFERENCE.sub(lambda match: env[match[1]], value)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, path in _ENVIRONMENT.items():
        if value := env.get(name):
            branch = tree
            for key in path[:-1]:
                branch = branch.setdefault(key, {})
            branch[path[-1]] = value
    if "log_level" not in tree and env.get("DEBUG", "").lower() in {"1", "true", "yes"}:
        tree["log_level"] = "DEBUG"
    return tree


def _check_names(settings: Settings) -> None:
    for name in (*settings.goblins, *settings.providers):
        if not NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot be a name: use at most 30 letters, digits, _ and -")
    url = settings.database_url.get_secret_value() if settings.database_url else "postgresql:"
    if not url.startswith(("postgresql:", "postgresql+psycopg:", "postgres:")):
        scheme, found, _ = url.partition("://")
        raise ConfigError(
            f"DATABASE_URL {f'names {scheme!r}' if found else 'is not a URL'}: only PostgreSQL is supported; write"
            " postgresql://user@host/database, or leave it out and use `goblin up`, which brings its own"
        )
    if settings.redis_url is not None and not _is_redis(settings.redis_url.get_secret_value()):
        raise ConfigError(
            "REDIS_URL is no address of a Redis: write redis://host:6379 (rediss:// with TLS), or leave it out and use"
            " `goblin up`, which brings its own"
        )


def _is_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("redis", "rediss") and (parts.port is None or bool(parts.port))
    except ValueError:
        return False


def _explain(error: ValidationError, path: Path | None, env: Mapping[str, str]) -> str:
    first = max(error.errors(), key=lambda one: len(one["loc"]))  # of what a value may be, that which it resembles most
    reason = first["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
    variable = next((name for name, loc in _ENVIRONMENT.items() if loc == first["loc"] and env.get(name)), None)
    if variable is not None:
        return f"{variable}: {reason}"
    where = ".".join(str(part) for part in first["loc"] if part not in {"str", "float", ModelSettings.__name__})
    place = f"{path}: " if path else ""
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        near = difflib.get_close_matches(key, sorted(set(_keys())), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"{place}unknown key {where}{hint}"
    return f"{place}{where}: {reason}"


def _keys() -> Iterator[str]:
    for section in Section.__subclasses__():
        yield from section.model_fields
