"""`goblin up`: everything on this machine, in one terminal, until Ctrl-C."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from goblin.errors import UsageError

if TYPE_CHECKING:
    from cli.launch import Launch
    from goblin.settings import Settings

LISTED = 8  # providers named in the status block


def up(
    host: Annotated[str | None, typer.Option(help="Address of the API.  (default: as configured, 127.0.0.1)")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes a free one.  (default: as configured, 3001)")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A goblin.toml.  (default: GOBLIN_CONFIG, ./goblin.toml)")] = None,
    with_simulator: Annotated[
        bool, typer.Option("--with-simulator", help="Simulated providers instead of real ones; no key needed.")
    ] = False,
) -> None:
    """Start everything: servers (unless configured), API, worker, scheduler."""
    from cli import reach, show
    from cli.launch import Launch, Order
    from goblin.settings import load

    if config and with_simulator:
        raise UsageError("--with-simulator brings its own settings: leave --config away")
    if config:
        os.environ["GOBLIN_CONFIG"] = str(config.resolve())
    settings = load()
    order = replace(
        Order.of(settings),
        host=host or settings.server.host,
        port=settings.server.port if port is None else port,
        grace_s=settings.worker.grace + 5,
        is_simulated=with_simulator,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    with show.status("starting") as tell, Launch.start(order, say=tell) as launch:
        tell("")
        try:
            with reach.note(launch.home, reach.Note(launch.url, launch.database_url)):
                _put_status(launch, settings)
                launch.watch(show.say)
        except KeyboardInterrupt:
            show.say("stopping: what runs may finish; again Ctrl-C to cut it short")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _put_status(launch: "Launch", settings: "Settings") -> None:
    from cli import show

    url = launch.url
    shown = {
        "API": f"{url}  (docs {url}/docs)",
        "providers": "simulated: openai, anthropic, gemini, ollama" if launch.order.is_simulated else ready(settings),
        "data": str(launch.home),
        "run": 'goblin run "chat: hello"',
    }
    show.put(f"goblin is up (process {os.getpid()}); Ctrl-C stops it")
    for name, value in shown.items():
        show.put(f"  {name:<10} {value}")


def ready(settings: "Settings") -> str:
    """The providers that can be asked, in one line."""
    from goblin.settings import environment
    from providers import registry

    known = registry.load(settings, environment()).providers.values()
    names = [one.id for one in known if one.obstacle is None]
    if not names:
        return "none: set a key such as OPENAI_API_KEY, or start Ollama (`goblin check` tells more)"
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
