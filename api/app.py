"""The HTTP API, put together. Endpoints that ask Postgres are plain functions in threads; only streams are async."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from api import batches, cancel, catalog, compat, embeddings, files, metrics, problem, runs, socket, stream, usage
from api.body import BodyLimit
from api.deps import opened
from api.metrics import Counted, Metrics
from api.problem import Crashes
from goblin.settings import Settings, environment

_DESCRIPTION = """\
Workflows in one line of text, run on the best of many AI providers. `POST /v1/runs` stores a run and answers 202: it
will run. Errors are `application/problem+json` with a stable `type`. Amounts named `*_usd` are exact decimal text."""


def create(settings: Settings, environ: Mapping[str, str] | None = None) -> FastAPI:
    """The app for uvicorn. Starting it raises ConfigError when the configuration cannot be used."""
    given = environment() if environ is None else environ

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with opened(settings, given) as house:
            app.state.house = house
            yield
            await house.events.aclose()

    app = FastAPI(
        title="Goblin Assistant", description=_DESCRIPTION, version=version("goblin-assistant"), lifespan=lifespan
    )
    app.state.metrics = Metrics()
    for part in (runs, cancel, stream, files, batches, embeddings, compat, socket, usage, catalog, metrics):
        app.include_router(part.router)
    problem.install(app)
    app.add_middleware(BodyLimit, limit=settings.limits.body_bytes)
    app.add_middleware(Crashes)
    app.add_middleware(Counted, metrics=app.state.metrics)
    return app
