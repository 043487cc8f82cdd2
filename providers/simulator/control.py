"""The simulator's own endpoints, under /_sim: faults, limits, calls, invoice, reset. No vendor has them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.simulator.behaviour import BadDirective
from providers.simulator.limits import Limit
from providers.simulator.world import House


class FaultOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    model: str = "*"
    directives: str


class LimitOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    rpm: PositiveInt | None = None
    tpm: PositiveInt | None = None
    concurrency: PositiveInt | None = None
    window: PositiveFloat = 60.0


def routes(house: House) -> list[Route]:
    async def post_faults(request: Request) -> Response:
        try:
            order = FaultOrder.model_validate_json(await request.body())
            house.world.set_faults(order.name, order.model, order.directives)
        except (ValidationError, BadDirective) as error:
            return _bad(error)
        return JSONResponse(house.world.faults())

    async def post_limits(request: Request) -> Response:
        try:
            order = LimitOrder.model_validate_json(await request.body())
        except ValidationError as error:
            return _bad(error)
        house.world.set_limit(order.name, Limit(order.rpm, order.tpm, order.concurrency, order.window))
        return JSONResponse(house.world.limits())

    async def get_faults(_: Request) -> Response:
        return JSONResponse(house.world.faults())

    async def get_limits(_: Request) -> Response:
        return JSONResponse(house.world.limits())

    async def get_calls(_: Request) -> Response:
        return JSONResponse(house.world.book.calls())

    async def get_invoice(_: Request) -> Response:
        return JSONResponse(house.world.book.invoice())

    async def post_reset(_: Request) -> Response:
        house.reset()
        return JSONResponse({})

    return [
        Route("/faults", post_faults, methods=["POST"]),
        Route("/faults", get_faults),
        Route("/limits", post_limits, methods=["POST"]),
        Route("/limits", get_limits),
        Route("/calls", get_calls),
        Route("/invoice", get_invoice),
        Route("/reset", post_reset, methods=["POST"]),
    ]


def _bad(error: Exception) -> Response:
    detail: Any = (
        error.errors(include_url=False, include_context=False) if isinstance(error, ValidationError) else str(error)
    )
    return JSONResponse({"error": detail}, status_code=400)
