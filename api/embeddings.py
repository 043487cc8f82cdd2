"""`POST /v1/embeddings`, in OpenAI's shape: texts to vectors, by whoever of the catalog makes them for this model."""

import base64
import struct
from functools import partial
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.auth import Caller, CallerDep
from api.deps import House, HouseDep
from api.embed import Embedded, embed
from api.schemas import Usd
from goblin.errors import TooLarge
from goblin.money import to_usd
from providers.embed import Vector
from providers.name import nearest
from providers.tokens import estimate
from routing.candidate import Need, eligible
from workers.embedding import Wish
from workers.order import UnknownName, Unservable
from workers.request import Request, Text

MOST_TEXTS = 2048
router = APIRouter(tags=["embeddings"])

Words = Annotated[Text, Field(min_length=1)]


class EmbeddingRequest(Request):
    model: Text = Field(description="a model, or provider/model", examples=["text-embedding-3-small"])
    input: Words | Annotated[list[Words], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = None
    purpose: Literal["document", "query"] = Field(
        "document", description="what the texts are for, told to models that make a difference"
    )
    user: Text | None = Field(None, description="accepted, and told to nobody")


class EmbeddingOut(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsOut(BaseModel):
    object: Literal["list"] = "list"
    data: list[EmbeddingOut]
    model: str
    usage: EmbeddingUsage
    provider: str
    run_id: str = Field(description="in /v1/runs, as a run of one step")
    cost_usd: Usd


@router.post("/v1/embeddings", summary="Texts to vectors")
async def create_embeddings(request: EmbeddingRequest, house: HouseDep, caller: CallerDep) -> EmbeddingsOut:
    """Admitted and entered in the ledger like any call. Who has no room now is told so, with 429 and Retry-After."""
    return await to_thread.run_sync(partial(_serve, request, house, caller), limiter=house.vector_calls)


def _serve(request: EmbeddingRequest, house: House, caller: Caller) -> EmbeddingsOut:
    texts = (request.input,) if isinstance(request.input, str) else tuple(request.input)
    wish = Wish(texts, sum(map(estimate, texts)), request.purpose, request.dimensions)
    _check_size(house, wish)
    need = _need(house, request.model, wish)
    _check_candidates(house, need)
    house.knocks.knock(caller.key_id, caller.rpm)
    return _present(request, embed(house, wish, need, caller.key_id))


def _check_size(house: House, wish: Wish) -> None:
    if sum(len(text.encode()) for text in wish.texts) > house.settings.limits.input_bytes:
        raise TooLarge(f"the input is larger than {house.settings.limits.input_bytes} bytes")


def _need(house: House, name: str, wish: Wish) -> Need:
    """Who is meant: every provider of a model, or one. Raises UnknownName."""
    provider, model = house.registry.embedder(name)
    known = {f"{vendor.id}/{one.id}" for vendor, one in house.registry.embedders()}
    models = {one.id for _, one in house.registry.embedders()}
    if model not in models:
        raise UnknownName(
            f"unknown embedding model {name[:100]!r}{nearest(name[:100], (*models, *known))}", field="model"
        )
    return Need("fast", wish.tokens, 0, provider, model, vectors=True)


def _check_candidates(house: House, need: Need) -> None:
    candidates, refusals = eligible(house.registry.embedders(), need)
    if not candidates:
        concerned = {who: why for who, why in refusals.items() if "pinned to" not in why}
        raise Unservable(f"no provider can make vectors with {need.model}", concerned or refusals)


def _present(request: EmbeddingRequest, made: Embedded) -> EmbeddingsOut:
    as_base64 = request.encoding_format == "base64"
    data = [
        EmbeddingOut(index=index, embedding=_packed(vector) if as_base64 else list(vector))
        for index, vector in enumerate(made.found.vectors)
    ]
    return EmbeddingsOut(
        data=data,
        model=made.candidate.model.id,
        usage=EmbeddingUsage(prompt_tokens=made.input_tokens, total_tokens=made.input_tokens),
        provider=made.candidate.provider.id,
        run_id=str(made.run),
        cost_usd=to_usd(made.cost),
    )


def _packed(vector: Vector) -> Any:
    """Little-endian float32, as OpenAI's clients read it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
