"""Vectorize, version 2, with its index in memory. Writes are seen at once; values are kept as float32."""

import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from fractions import Fraction
from struct import error as StructError  # noqa: N812 - an exception in lower case
from struct import pack, unpack
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import pace
from providers.simulator.dialect import Dialect, Json, encode, field, needed
from providers.simulator.door import Door, Visit, body_of
from providers.simulator.line import Line
from providers.simulator.refusal import Kind, Refused
from providers.simulator.vector import METRICS, OPERATORS, Index, Vector
from providers.simulator.world import House

_NO_INDEX, _DUPLICATE, _DIMENSIONS, _BAD = 3000, 3002, 40006, 1000
_SEARCHED = Fraction("0.01") * 1000  # nano-dollars for each dimension of what is searched for
_MOST, _MOST_DETAILED, _MOST_VECTORS = 100, 20, 5000

Act: TypeAlias = Callable[[Request, Visit], Awaitable[object]]


class Store(Door):
    """One operation on indexes. Its result is put into the envelope of the vendor."""

    recorded = False

    def __init__(self, house: House, dialect: Dialect, act: Act) -> None:
        super().__init__(house, dialect)
        self.act = act

    async def serve(self, request: Request, line: Line, visit: Visit) -> None:
        self.check_key(request)
        behaviour = visit.world.behaviour(visit.name)
        if not await self.let_in(line, visit, behaviour):
            return
        self.take(visit, 0)
        pace.ending(behaviour)  # before anything is done
        result = {"result": await self.act(request, visit), "success": True, "errors": [], "messages": []}
        await pace.piece(line, {"content-type": "application/json", **visit.head()}, encode(result), behaviour)


def routes(path: str, house: House, dialect: Dialect) -> list[Route]:
    def route(end: str, method: str, act: Act) -> Route:
        return Route(path + end, Store(house, dialect, act), methods=[method])

    return [
        route("", "POST", _create),
        route("", "GET", _list),
        route("/{index}", "GET", _get),
        route("/{index}", "DELETE", _delete),
        route("/{index}/info", "GET", _info),
        route("/{index}/insert", "POST", _insert),
        route("/{index}/upsert", "POST", _upsert),
        route("/{index}/query", "POST", _query),
        route("/{index}/get_by_ids", "POST", _get_by_ids),
        route("/{index}/delete_by_ids", "POST", _delete_by_ids),
    ]


async def _create(request: Request, visit: Visit) -> Json:
    body = await body_of(request)
    name, config = needed(body, "name", str), needed(body, "config", dict)
    dimensions, metric = needed(config, "dimensions", int), needed(config, "metric", str)
    if metric not in METRICS or not 1 <= dimensions <= 1536:
        raise _bad("config: 1 to 1536 dimensions and one of the known metrics expected")
    key = (visit.name, request.path_params["account"], name)
    if key in visit.world.indexes:
        raise _bad("duplicate index name", _DUPLICATE)
    visit.world.indexes[key] = Index(dimensions, metric, datetime.now(UTC).isoformat())
    return _described(name, visit.world.indexes[key])


async def _list(request: Request, visit: Visit) -> list[Json]:
    mine = (visit.name, request.path_params["account"])
    return [_described(key[2], index) for key, index in visit.world.indexes.items() if key[:2] == mine]


async def _get(request: Request, visit: Visit) -> Json:
    return _described(request.path_params["index"], _find(request, visit))


async def _delete(request: Request, visit: Visit) -> None:
    _find(request, visit)
    del visit.world.indexes[visit.name, request.path_params["account"], request.path_params["index"]]


async def _info(request: Request, visit: Visit) -> Json:
    index = _find(request, visit)
    return {
        "dimensions": index.dimensions,
        "vectorCount": len(index.vectors),
        "processedUpToMutation": index.mutation,
        "processedUpToDatetime": index.created,
    }


async def _insert(request: Request, visit: Visit) -> Json:
    index = _find(request, visit)
    for vector in await _read(request, index):
        index.vectors.setdefault(vector.id, vector)
    return _mutated(index, visit)


async def _upsert(request: Request, visit: Visit) -> Json:
    index = _find(request, visit)
    index.vectors.update((vector.id, vector) for vector in await _read(request, index))
    return _mutated(index, visit)


async def _query(request: Request, visit: Visit) -> Json:
    index, body = _find(request, visit), await body_of(request)
    to = _floats(body.get("vector"), index)
    values, metadata = field(body, "returnValues", bool, False), field(body, "returnMetadata", str, "none")
    most, limit = body.get("topK", 5), _MOST_DETAILED if values or metadata == "all" else _MOST
    if not isinstance(most, int | float) or not 1 <= most <= limit or metadata not in ("none", "indexed", "all"):
        raise _bad(f"topK: 1 to {limit} expected")
    found = index.nearest(to, int(most), _filter(body), field(body, "namespace", str))
    matches = [
        {
            "id": vector.id,
            "score": score,
            **({"values": list(vector.values)} if values else {}),
            **({"metadata": dict(vector.metadata)} if metadata == "all" else {}),
            **({"namespace": vector.namespace} if vector.namespace else {}),
        }
        for score, vector in found
    ]
    visit.charge(f"search of {request.path_params['index']}", round(index.dimensions * _SEARCHED))
    return {"count": len(matches), "matches": matches}


async def _get_by_ids(request: Request, visit: Visit) -> list[Json]:
    index, ids = _find(request, visit), needed(await body_of(request), "ids", list)
    found = (index.vectors[one] for one in ids if one in index.vectors)
    return [{"id": one.id, "values": list(one.values), "metadata": dict(one.metadata)} for one in found]


async def _delete_by_ids(request: Request, visit: Visit) -> Json:
    index = _find(request, visit)
    for one in needed(await body_of(request), "ids", list):
        index.vectors.pop(one, None)
    return _mutated(index, visit)


def _find(request: Request, visit: Visit) -> Index:
    name = request.path_params["index"]
    index = visit.world.indexes.get((visit.name, request.path_params["account"], name))
    if index is None:
        raise Refused(Kind.NOT_FOUND, f"index {name} does not exist", code=_NO_INDEX)
    return index


async def _read(request: Request, index: Index) -> list[Vector]:
    """Vectors, one a line: the body itself, or a file in a form."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise _bad("a body of one vector a line expected")
    lines = [line for line in (await request.body()).splitlines() if line.strip()]
    if not 1 <= len(lines) <= _MOST_VECTORS:
        raise _bad(f"1 to {_MOST_VECTORS} vectors expected")
    skips = request.query_params.get("unparsable-behavior") == "discard"
    return list(_parsed(lines, index, skips))


def _parsed(lines: list[bytes], index: Index, skips: bool) -> Iterator[Vector]:
    for line in lines:
        try:
            row: Any = json.loads(line)
            if not isinstance(row, dict):
                raise _bad("an object in every line expected")
            values = _floats(row.get("values"), index)
            name, namespace = needed(row, "id", str), field(row, "namespace", str)
            yield Vector(name, values, field(row, "metadata", dict, {}), namespace)
        except (ValueError, Refused) as error:
            if skips:
                continue
            raise error if isinstance(error, Refused) else _bad("a line is not JSON") from error


def _floats(values: Any, index: Index) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != index.dimensions:
        raise _bad(f"invalid vector, expected {index.dimensions} dimensions", _DIMENSIONS)
    try:
        return unpack(f"<{len(values)}f", pack(f"<{len(values)}f", *values))
    except (StructError, OverflowError) as error:
        raise _bad("numbers expected") from error


def _filter(body: Json) -> Json:
    wanted: Json = field(body, "filter", dict, {})
    operators = {name for condition in wanted.values() if isinstance(condition, dict) for name in condition}
    if unknown := operators - set(OPERATORS):
        raise _bad(f"filter: unknown operator {sorted(unknown)[0]}")
    return wanted


def _mutated(index: Index, visit: Visit) -> Json:
    index.mutation = visit.id
    return {"mutationId": visit.id}


def _described(name: str, index: Index) -> Json:
    config = {"dimensions": index.dimensions, "metric": index.metric}
    return {"name": name, "config": config, "created_on": index.created, "modified_on": index.created}


def _bad(message: str, code: int = _BAD) -> Refused:
    return Refused(Kind.BAD_REQUEST, message, code=code)
