"""The catalog: one TOML file per provider, its name the provider's id. Reads and checks; its README explains."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from goblin.errors import ConfigError
from goblin.settings import NAME, TaskClass, TokensCounted, Usd
from providers.errors import ANSWERED
from providers.name import nearest
from providers.wire.complaint import Rule

DialectName = Literal[
    "openai", "anthropic", "gemini", "ollama", "cohere", "replicate", "bedrock", "cloudflare", "vectorize", "embeddings"
]
Kind = Literal["chat", "embedding", "rerank"]
Word = Literal[False] | str
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
KEYLESS = ("bearer-optional", "none")
_WAYS = ("bearer", "sigv4", *KEYLESS)  # to send a key that are no name of a header
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _way(auth: str) -> str:
    if auth in _WAYS:
        return auth
    if not _HEADER.fullmatch(auth):
        raise ValueError(f"{auth!r} cannot be the name of a header")
    if near := nearest(auth, _WAYS):
        raise ValueError(f"{auth!r} is no way to send a key, and too near to one to be the name of a header{near}")
    return auth.lower()


Auth: TypeAlias = Annotated[str, AfterValidator(_way)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Reasoning(Part):
    """What is merged into a request's body so that a model reasons, or does not."""

    on: dict[str, Any] | None = None
    off: dict[str, Any] | None = None
    always: bool = Field(False, description="every model takes these, not only those marked as reasoning")
    temperature: bool = Field(True, description="a temperature or top_p may be sent while a model reasons")
    output: str | None = Field(None, description="where reasoning text comes back; for readers")
    back: Literal["reasoning_content", "reasoning", "thinking_blocks"] | None = Field(
        None, description="how chat completions hand it back with the calls that it led to; absent: they do not"
    )


class SamplingRow(Part):
    """What it calls by other names than its dialect, and what it refuses (false)."""

    temperature: Word | None = None
    top_p: Word | None = None
    stop: Word | None = None
    seed: Word | None = None
    frequency_penalty: Word | None = None
    presence_penalty: Word | None = None
    json_object: Literal[False] | None = None
    json_schema: Literal[False] | None = None

    def named(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class EmbeddingRow(Part):
    """What a request for vectors calls by other names than OpenAI's."""

    purpose_field: str | None = Field(None, description="says what the texts are for; absent: it is not told")
    document: str = "document"
    query: str = "query"
    dimensions_field: str = "dimensions"
    truncation_field: str | None = Field(None, description="is sent as false, so that what is too long is not cut")


class ErrorRow(Part):
    """An error answer that means something else here than in the dialect; every given condition must hold."""

    meaning: str
    status: tuple[int, ...] = ()
    names: tuple[str | int, ...] = Field((), description="codes, types or reasons")
    contains: tuple[str, ...] = Field((), description="words of the message; one hit is enough")

    def rule(self) -> Rule:
        names = frozenset(str(name).lower() for name in self.names)
        return Rule(
            ANSWERED[self.meaning], frozenset(self.status), names, tuple(words.lower() for words in self.contains)
        )


class CountsRow(Part):
    """How its vocabulary counts, beside an estimate that is upper for OpenAI's."""

    share: float = Field(ge=1, le=4, description="its tokens for each that is estimated, at most")
    source: str = Field(description="who says so")


class ModelRow(Part):
    """Tokens, USD (or CNY) per million tokens. Only models of kind chat become candidates."""

    id: str
    kind: Kind = "chat"
    context: int | None = Field(None, gt=0)
    max_output: int | None = Field(None, gt=0)
    classes: tuple[TaskClass, ...] = ("fast", "reasoning")
    reasoning: bool = False
    reasoning_on: dict[str, Any] | None = None
    reasoning_off: dict[str, Any] | None = None
    sampling: SamplingRow = SamplingRow()
    prefill: bool | None = Field(None, description="as the provider says when absent")
    tools: bool | None = Field(None, description="as the provider says when absent")
    counts: CountsRow | None = Field(None, description="as the provider says when absent")
    max_tokens_field: str | None = None
    input_usd_mtok: Usd | None = None
    output_usd_mtok: Usd | None = None
    cached_input_usd_mtok: Usd | None = None
    input_cny_mtok: Usd | None = None
    output_cny_mtok: Usd | None = None
    unpriced: str | None = Field(None, description="why it has no price here")
    dimensions: int | None = None
    retires: date | None = None
    source: str | None = Field(None, description="who says its price")


class DeadlineRow(Part):
    """Seconds."""

    connect: float = Field(5, gt=0)
    first_token: float = Field(60, gt=0)
    stall: float = Field(30, gt=0)
    total: float = Field(600, gt=0)


class PriorRow(Part):
    ttft_s: float = Field(0.8, gt=0)
    tokens_per_second: float = Field(60, gt=0)
    success_rate: float = Field(0.98, ge=0, le=1)


class Row(Part):
    """A provider as its file says it."""

    name: str
    dialect: DialectName = "openai"
    base_url: str
    base_url_env: str | None = Field(None, description="an environment variable that replaces base_url")
    base_url_alternatives: tuple[str, ...] = ()
    base_url_for: Mapping[str, Mapping[str, str]] = Field(
        {}, description="placeholder -> its value -> the address in place of base_url"
    )
    needs: Mapping[str, tuple[str, ...]] = Field(
        {}, description="placeholder -> environment variables that may fill it"
    )
    chat_path: str | None = None
    stream_path: str | None = None
    models_path: str | None = None
    embeddings_path: str | None = None
    embeddings: bool = Field(True, description="makes vectors, as far as its dialect has a word for them")
    embeddings_dialect: Literal["vertex"] | None = Field(
        None, description="in which it is asked for vectors, where that is not its dialect"
    )
    embedding_texts: int | None = Field(None, gt=0, description="texts that one request for vectors may hold")
    rerank_path: str | None = None
    key_env: str | None = None
    key_env_alternatives: tuple[str, ...] = ()
    key_env_with: tuple[str, ...] = Field((), description="follow the key, joined by colons; the first must be set")
    bearer_env: str | None = Field(None, description="a token that, when set, is sent as bearer in place of the key")
    auth: Auth = "bearer"
    local: bool = False
    free: bool | None = Field(None, description="calls cost nothing; as `local` says when absent")
    discover: bool | None = Field(
        None, description="its models are those found on the server; as `local` says when absent"
    )
    enabled: bool = True
    priority: int = Field(100, ge=1)
    rpm: int | None = Field(None, gt=0)
    tpm: int | None = Field(None, gt=0)
    concurrency: int | None = Field(None, gt=0)
    tokens_counted: TokensCounted = "use"
    retry_count: int = Field(1, ge=0)
    deadlines: DeadlineRow = DeadlineRow()
    prior: PriorRow = PriorRow()
    stream_usage: Literal["include_usage", "always", "x_groq", "after"] | None = None
    max_tokens_field: str | None = None
    sampling: SamplingRow = SamplingRow()
    prefill: bool = Field(False, description="goes on with the words of an assistant that end a conversation")
    tools: bool = Field(True, description="may be offered tools, as far as its dialect has a word for them")
    counts: CountsRow | None = None
    idempotency_header: str | None = None
    version: str | None = None
    headers: Mapping[str, str] = {}
    body: Mapping[str, Any] = Field({}, description="merged into every request")
    reasoning: Reasoning = Reasoning()
    embedding: EmbeddingRow | None = None
    query_usd_mdim: Usd | None = Field(
        None, description="of an index of vectors: USD per million dimensions of what is searched for"
    )
    errors: tuple[ErrorRow, ...] = ()
    genai_prices: str | None = Field(None, description="provider id in genai-prices")
    price_context: Mapping[str, str] = Field({}, description="what its prices there may depend on, as service_tier")
    batch: str | None = None
    rate_limit_headers: tuple[str, ...] = ()
    alt_dialects: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    gathered: date | None = Field(None, description="the day on which the sources were read")
    models: tuple[ModelRow, ...] = ()

    @property
    def is_free(self) -> bool:
        return self.local if self.free is None else self.free

    @property
    def is_discovered(self) -> bool:
        return self.local if self.discover is None else self.discover

    @property
    def talks(self) -> bool:
        """Whether it is known by name who answers chats there."""
        return any(model.kind == "chat" for model in self.models)

    @property
    def urls(self) -> tuple[str, ...]:
        return self.base_url, *(url for by_value in self.base_url_for.values() for url in by_value.values())

    def placeholders(self) -> set[str]:
        paths = (self.chat_path, self.stream_path, self.models_path, self.embeddings_path, self.rerank_path)
        named = {name for text in (*self.urls, *paths) if text for name in PLACEHOLDER.findall(text)}
        return named | self.base_url_for.keys()

    def model(self, model_id: str) -> ModelRow | None:
        return next((model for model in self.models if model.id == model_id), None)


def rows(folder: Path | None = None) -> Mapping[str, Row]:
    """The shipped catalog, with the operator's own files over it: a file of the same name replaces the shipped row.

    Raises ConfigError with the file, the key and the nearest known key.
    """
    return {**_shipped(), **own_rows(folder)} if folder is not None else _shipped()


def own_rows(folder: Path) -> Mapping[str, Row]:
    """The operator's own files alone. Raises ConfigError."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise ConfigError(f"catalog = {str(folder)!r} is not a folder")
    return {path.stem: _own(path) for path in sorted(folder.glob("*.toml"))}


def _own(path: Path) -> Row:
    if not NAME.fullmatch(path.stem):
        raise ConfigError(f"{path} cannot name a provider: use at most 30 letters, digits, _ and -")
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from error


@cache
def _shipped() -> Mapping[str, Row]:
    found = sorted(files("providers").joinpath("catalog").iterdir(), key=lambda entry: entry.name)
    return {
        entry.name.removesuffix(".toml"): parse(entry.read_text(encoding="utf-8"), f"catalog/{entry.name}")
        for entry in found
        if entry.name.endswith(".toml")
    }


def parse(content: str, place: str) -> Row:
    """One catalog file. `place` names it in errors (ConfigError)."""
    try:
        row = Row.model_validate(tomllib.loads(content))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{place} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{place}: {_explain(error, content)}") from error
    if (flaw := next(filter(None, map(flaw_of, row.urls)), None)) is not None:
        raise ConfigError(f"{place}: base_url {flaw}")
    if twice := next((one.id for nth, one in enumerate(row.models) if row.model(one.id) is not row.models[nth]), None):
        raise ConfigError(f"{place}: models names {twice!r} twice")
    for error_row in row.errors:
        if error_row.meaning not in ANSWERED:
            raise ConfigError(
                f"{place}: errors.meaning {error_row.meaning!r} is unknown{nearest(error_row.meaning, ANSWERED)}"
            )
    if gaps := sorted(row.placeholders() - row.needs.keys() - {"model"}):
        raise ConfigError(f"{place}: {{{gaps[0]}}} in an address or path is not named in needs")
    return row


def flaw_of(url: str) -> str | None:
    """What is wrong with an address. One that may hold a key is not repeated."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "is not an http(s) address"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "may hold no credentials, no ? and no #: a key is sent in a header, and never in an address"
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return f"{url!r} is not an http(s) address"
    return None


def _explain(error: ValidationError, content: str) -> str:
    first = error.errors()[0]
    where = ".".join(_named(first["loc"], tomllib.loads(content)))
    if first["type"] == "extra_forbidden":
        known = _keys((Row, ModelRow, Reasoning, SamplingRow, EmbeddingRow, ErrorRow, DeadlineRow, PriorRow))
        return f"unknown key {where}{nearest(str(first['loc'][-1]), known)}"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def _named(place: tuple[str | int, ...], content: Mapping[str, Any]) -> tuple[str, ...]:
    """The place of a mistake, a model by its id."""
    match place:
        case ("models", int(nth), *rest) if isinstance(name := content["models"][nth].get("id"), str):
            place = ("models", name, *rest)
    return tuple(map(str, place))


def _keys(parts: Iterable[type[Part]]) -> set[str]:
    return {key for part in parts for key in part.model_fields}
