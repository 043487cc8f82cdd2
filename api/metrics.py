"""Metrics for Prometheus: what was asked of this process, how many runs are open, what of the budgets is left."""

import time
from contextlib import suppress

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import CallerDep
from api.deps import HouseDep
from api.usage import budgets_above
from goblin.errors import Unavailable
from ledger import views
from ledger.states import RunStatus

router = APIRouter(tags=["catalog"])
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The metrics of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "goblin_http_requests", "Requests answered", ["method", "path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "goblin_http_answer_seconds", "Time to the first byte of an answer", ["path"], registry=self.registry
        )
        self.runs = Gauge("goblin_runs", "Runs that have not ended", ["status"], registry=self.registry)
        self.budgets = Gauge(
            "goblin_budget_usd", "A budget in its window", ["budget", "amount"], registry=self.registry
        )


class Counted:
    """ASGI middleware: counts answers by route, so that the number of labels is bounded."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(scope.get("route"), "path", "unknown")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._metrics.requests.labels(method, path, message["status"]).inc()
                self._metrics.seconds.labels(path).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, count)


@router.get("/metrics", response_class=Response, summary="For Prometheus")
def metrics(request: Request, house: HouseDep, caller: CallerDep) -> Response:
    known: Metrics = request.app.state.metrics
    counts = views.open_runs(house.ledger)
    for status in RunStatus:
        if not status.is_final:
            known.runs.labels(status).set(counts.get(status, 0))
    known.budgets.clear()
    with suppress(Unavailable):  # then nobody knows
        begin_anew = (one for one in budgets_above(house, caller) if one.resets_at is not None)  # few, and always there
        for one in begin_anew:
            for amount, usd in (("limit", one.limit_usd), ("spent", one.spent_usd), ("held", one.held_usd)):
                known.budgets.labels(one.name, amount).set(float(usd))
    return Response(generate_latest(known.registry), media_type=CONTENT_TYPE_LATEST)
