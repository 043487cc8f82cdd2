"""A provider and its models as values: catalog row, settings and environment, made one by the registry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from pydantic import SecretStr

from goblin.errors import NotFound
from goblin.settings import TaskClass, TokensCounted
from providers.name import nearest
from providers.price import Price
from providers.tokens import UNKNOWN
from providers.wire.complaint import Rule

INDEX = "vectorize"  # the dialect of those who keep vectors
VECTORS = frozenset({"embeddings", INDEX})  # dialects in which nobody talks


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Limits of one call, in seconds. `stall` is the longest silence between two pieces of an answer."""

    connect: float
    first_token: float
    stall: float
    total: float


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a provider before it is measured."""

    ttft_s: float
    tokens_per_second: float
    success_rate: float


@dataclass(frozen=True, slots=True)
class Model:
    """`context` and `max_output` in tokens, None = not known; `price` None = not known, so not eligible.

    `reasoning` says that it can reason, and that this can be asked for or against. `quirks` win over the provider's.
    """

    id: str
    context: int | None = None
    max_output: int | None = None
    classes: frozenset[TaskClass] = frozenset(("fast", "reasoning"))
    reasoning: bool = False
    price: Price | None = None
    quirks: Mapping[str, Any] = field(default_factory=dict)
    counts: float = UNKNOWN  # input tokens for each that is estimated, as far as its source or prudence says


@dataclass(frozen=True, slots=True)
class Provider:
    """`quirks` is what the dialect must do differently for it; the catalog's README names every key.

    `obstacle` is why nothing can be asked of it; `discovers` means that its models are those it is found to serve.
    Limits: requests and tokens per rolling minute, calls at once; None = none known. `tokens_counted` says whether
    the vendor counts what was used, or input and output limit of every request when it arrives.
    """

    id: str
    name: str
    dialect: str
    base_url: str
    auth: str = "bearer"
    key: SecretStr | None = None
    needs_key: bool = True
    enabled: bool = True
    local: bool = False
    priority: int = 100
    models: tuple[Model, ...] = ()
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    tokens_counted: TokensCounted = "use"
    deadlines: Deadlines = Deadlines(5, 60, 30, 600)
    retry_count: int = 1
    quirks: Mapping[str, Any] = field(default_factory=dict)
    prior: Prior = Prior(0.8, 60, 0.98)
    chat_path: str | None = None  # None = the dialect's own
    stream_path: str | None = None
    models_path: str | None = None
    embeddings_path: str | None = None
    embeddings_dialect: str | None = None  # None = its dialect
    embedders: tuple[Model, ...] = ()  # models that make vectors; never candidates for a step
    embedding_texts: int | None = None  # that one request for vectors may hold; None = as its dialect has it
    variables: Mapping[str, str] = field(default_factory=dict)  # what fills placeholders; no secrets
    rules: tuple[Rule, ...] = ()  # how its error answers differ from its dialect's
    discovers: bool = False
    unlisted_price: Price | None = None  # of a model that is found on the server and described nowhere
    obstacle: str | None = None
    search_rate: int | None = None  # of an index: nano-dollars per million dimensions searched for; None = not known
    _by_id: Mapping[str, Model] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {model.id: model for model in self.models})

    @property
    def fingerprint(self) -> str:
        """Tells its key from another one and nothing else of it; "" without a key."""
        key = self.key.get_secret_value() if self.key is not None else ""
        return blake2b(key.encode(), digest_size=6, person=b"goblin key").hexdigest() if key else ""

    @property
    def ready(self) -> bool:
        return self.why_not() is None

    def why_not(self) -> str | None:
        """Why no call can be sent, with the cure; None when one can."""
        if self.dialect in VECTORS:
            return "makes or keeps vectors, and answers no step"
        if self.obstacle is not None or self.models:
            return self.obstacle
        return (
            f"no model found at {self.base_url}"
            if self.discovers
            else f"no model named: set providers.{self.id}.models"
        )

    def continues(self, model: Model) -> bool:
        """Whether it goes on with the words of an assistant that end a conversation."""
        return bool({**self.quirks, **model.quirks}.get("prefill"))

    def embedder(self, model_id: str) -> Model | None:
        return next((model for model in self.embedders if model.id == model_id), None)

    def takes_tools(self, model: Model) -> bool:
        return bool({**self.quirks, **model.quirks}.get("tools", True))

    def known(self, model_id: str) -> Model | None:
        return self._by_id.get(model_id)

    def model(self, model_id: str) -> Model:
        """Raises NotFound with the nearest names."""
        if (model := self._by_id.get(model_id)) is not None:
            return model
        raise NotFound(f"{self.id} has no model {model_id!r}{nearest(model_id, self._by_id)}")
