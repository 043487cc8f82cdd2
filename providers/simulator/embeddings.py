"""The embeddings dialect: who makes vectors and nothing else, each with words of its own for what it took over."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import openai
from providers.simulator.dialect import EmbedAsk, Json, field, needed, retry_after
from providers.simulator.door import Embed
from providers.simulator.openai import OpenAI
from providers.simulator.refusal import Kind, Refused, error_type
from providers.simulator.world import House


@dataclass(frozen=True, slots=True)
class Words:
    """What a vendor calls the purpose of a text, the length of a vector and a text's being cut, and what else it takes.

    `cuts` is whether it cuts what is too long when it is not told, `too_long` how it complains when it does not.
    """

    purpose: str
    purposes: tuple[str | None, ...]
    dimensions: str
    truncation: str
    cuts: bool
    too_long: Json | str
    others: tuple[str, ...]
    counts: tuple[str, ...]


VENDORS: Mapping[str, Words] = {
    "voyage": Words(
        purpose="input_type",
        purposes=(None, "query", "document"),
        dimensions="output_dimension",
        truncation="truncation",
        cuts=True,
        too_long="The example at index 0 in your batch does not fit into the model's context window of 8192 tokens.",
        others=("output_dtype",),
        counts=("total_tokens",),
    ),
    "jina": Words(
        purpose="task",
        purposes=(None, "retrieval.query", "retrieval.passage", "text-matching", "classification", "separation"),
        dimensions="dimensions",
        truncation="truncate",
        cuts=False,
        too_long={
            "message": "Input text exceeds the model's maximum of 8192 tokens.",
            "code": "INPUT_TOKEN_LIMIT_EXCEEDED",
        },
        others=("embedding_type", "normalized", "late_chunking"),
        counts=("total_tokens", "prompt_tokens"),
    ),
}


class Vectors(OpenAI):
    name = "embeddings"

    def routes(self, house: House) -> list[Route]:
        return [
            Route(
                f"/{vendor}/v1/embeddings",
                Embed(house, _Vendor(words), partial(_read, words), partial(_told, words)),
                methods=["POST"],
            )
            for vendor, words in VENDORS.items()
        ]


class _Vendor(Vectors):
    def __init__(self, words: Words) -> None:
        self._words = words

    def refusal(self, refused: Refused, _call_id: str) -> tuple[int, dict[str, str], Json]:
        status, _ = error_type(refused, openai.TYPES)
        detail = self._words.too_long if refused.kind is Kind.CONTEXT else refused.text()
        return status, retry_after(refused), {"detail": detail}


def _read(words: Words, _request: Request, body: Json) -> EmbedAsk:
    known = {"model", "input", words.purpose, words.dimensions, words.truncation, *words.others}
    if stray := sorted(set(body) - known):
        raise Refused(Kind.BAD_REQUEST, f"Argument {stray[0]!r} is not supported by our API.")
    if body.get(words.purpose) not in words.purposes:
        raise Refused(Kind.BAD_REQUEST, f"{words.purpose}: one of {words.purposes} expected")
    texts = needed(body, "input", list)
    dimensions = field(body, words.dimensions, int)
    if dimensions is not None and not 1 <= dimensions <= 4096:
        raise Refused(Kind.BAD_REQUEST, f"{words.dimensions}: 1 to 4096 expected")
    cuts = field(body, words.truncation, bool, words.cuts)
    return EmbedAsk(needed(body, "model", str), texts, dimensions, cuts=cuts)


def _told(words: Words, ask: EmbedAsk, vectors: list[list[float]], tokens: int) -> Json:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    return {"object": "list", "model": ask.model, "data": data, "usage": dict.fromkeys(words.counts, tokens)}


DIALECT = Vectors()
