"""How Vertex makes vectors: of the sheet's models behind `gemini-` by embedContent, of the same without it by predict.
All else is the gemini dialect's.
"""

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import tokens
from providers.simulator.dialect import Dialect, EmbedAsk, Json, field, needed, texts
from providers.simulator.door import Embed
from providers.simulator.refusal import Kind, Refused
from providers.simulator.world import House

MOST_TEXTS = 250  # of one request for predictions
TASKS = (
    None, "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING",
    "QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY",
)  # fmt: skip
_MODELS = "/v1beta1/projects/{project}/locations/{location}/publishers/google/models"


def routes(house: House, dialect: Dialect) -> list[Route]:
    content = Embed(house, dialect, _read_content, _embedding)
    instances = Embed(house, dialect, _read_instances, _predictions)
    return [
        Route(_MODELS + "/gemini-{model:path}:embedContent", content, methods=["POST"]),
        Route(_MODELS + "/{model:path}:predict", instances, methods=["POST"]),
    ]


def _read_content(request: Request, body: Json) -> EmbedAsk:
    wish = field(body, "embedContentConfig", dict, {})
    text = texts(needed(body, "content", dict).get("parts"))
    return _asked(request, [text], wish, [wish.get("taskType")])


def _read_instances(request: Request, body: Json) -> EmbedAsk:
    instances = needed(body, "instances", list)
    if len(instances) > MOST_TEXTS:
        raise Refused(Kind.BAD_REQUEST, f"{MOST_TEXTS} instance(s) is allowed per prediction. Actual: {len(instances)}")
    if not all(isinstance(one, dict) for one in instances):
        raise Refused(Kind.BAD_REQUEST, "instances: a list of objects expected")
    told = [needed(one, "content", str) for one in instances]
    return _asked(request, told, field(body, "parameters", dict, {}), [one.get("task_type") for one in instances])


def _asked(request: Request, told: list[str], wish: Json, tasks: list[str | None]) -> EmbedAsk:
    if stray := [task for task in tasks if task not in TASKS]:
        raise Refused(Kind.BAD_REQUEST, f"Invalid task_type: {stray[0]}")
    dimensions = field(wish, "outputDimensionality", int)
    if dimensions is not None and not 1 <= dimensions <= 3072:
        raise Refused(Kind.BAD_REQUEST, "outputDimensionality: 1 to 3072 expected")
    return EmbedAsk(request.path_params["model"], told, dimensions, cuts=field(wish, "autoTruncate", bool, True))


def _embedding(ask: EmbedAsk, vectors: list[list[float]], count: int) -> Json:
    (vector,) = vectors
    usage = {"promptTokenCount": count, "totalTokenCount": count}
    return {"embedding": {"values": vector}, "usageMetadata": usage, "truncated": bool(ask.cut)}


def _predictions(ask: EmbedAsk, vectors: list[list[float]], _count: int) -> Json:
    counts = [{"token_count": tokens.count(text), "truncated": nth in ask.cut} for nth, text in enumerate(ask.texts)]
    rows = [{"values": vector, "statistics": told} for vector, told in zip(vectors, counts, strict=True)]
    characters = sum(len(text) for text in ask.texts)
    return {"predictions": [{"embeddings": row} for row in rows], "metadata": {"billableCharacterCount": characters}}
