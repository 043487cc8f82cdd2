"""Puts the simulator together: all dialects by name, vendors who speak one in words of their own by theirs, all again
under /at/{name} for other providers, and /_sim.
"""

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount

from providers.simulator import (
    anthropic,
    bedrock,
    cloudflare,
    cohere,
    compatible,
    control,
    embeddings,
    gemini,
    ollama,
    openai,
    replicate,
)
from providers.simulator.dialect import Dialect
from providers.simulator.sheet import Sheet
from providers.simulator.world import House

DIALECTS: tuple[Dialect, ...] = (
    openai.DIALECT,
    anthropic.DIALECT,
    gemini.DIALECT,
    ollama.DIALECT,
    cohere.DIALECT,
    replicate.DIALECT,
    bedrock.DIALECT,
    cloudflare.DIALECT,
    embeddings.DIALECT,
    *compatible.HOUSES,
)


def create(sheet: Sheet | None = None) -> Starlette:
    """An ASGI app with state of its own. Without a sheet it serves the shipped one, with seed 0."""
    house = House(sheet or Sheet.load())
    mounted: list[BaseRoute] = [Mount(f"/{dialect.name}", routes=dialect.routes(house)) for dialect in DIALECTS]
    return Starlette(
        routes=[Mount("/_sim", routes=control.routes(house)), *mounted, Mount("/at/{name}", routes=mounted)]
    )
