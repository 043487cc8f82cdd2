"""The single processes of a deployment: `goblin api`, `worker`, `beat`, `flower`, `migrate`. Settings come from the
environment and goblin.toml; what runs in them is known to the floors below.
"""

import json
import os
import secrets
import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from goblin.settings import Settings

CLOSING_S = 3  # that open streams get to end when the API stops; their clients take them up elsewhere
BACKLOG = 2_048
KEEP_ALIVE_S = 75  # longer than clients (httpx 5) and balancers (AWS 60): who closes first may cut the next request

Host = Annotated[str | None, typer.Option(help="Address to listen on.  (default: as configured, 127.0.0.1)")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.  (default: as configured, 3001)")]


def api(
    host: Host = None,
    port: Port = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Serve the HTTP API. Prints its URL as JSON when it listens."""
    for name, value in (("GOBLIN_HOST", host), ("GOBLIN_PORT", port)):
        if value is not None:
            os.environ[name] = str(value)  # where the processes of --workers look, too
    settings = _start()
    from api.auth import refuse_open_listening
    from goblin.settings import environment
    from ledger.session import Ledger
    from providers import registry

    settings.require_redis_url()
    registry.load(settings, environment())  # its mistakes are told before anybody is served
    ledger = Ledger(settings.require_database_url(), connections=1)
    try:
        refuse_open_listening(settings, ledger)
    finally:
        ledger.close()
    listener = listen(settings.server.host, settings.server.port)
    print(json.dumps({"url": url_of(settings.server.host, listener.getsockname()[1])}), flush=True)  # noqa: T201
    _serve(listener, workers)


def worker(
    concurrency: Annotated[int | None, typer.Option(min=1, help="Steps at once.  (default: as configured)")] = None,
    queues: Annotated[
        str | None, typer.Option(help="Comma-separated.  (default: the steps and every enabled provider)")
    ] = None,
    name: Annotated[str, typer.Option(help="Unique among the workers; %h is the host.")] = "celery@%h",
) -> None:
    """Work on steps, and call providers."""
    settings = _start()
    import workers.tasks  # noqa: F401 - before Celery looks for it, with the working directory in front of ours
    from goblin.settings import environment
    from providers import registry
    from workers.app import app, serve
    from workers.app import queues as all_queues

    settings.require_database_url()
    settings.require_redis_url()
    known = registry.load(settings, environment()).providers.values()
    consumed = queues.split(",") if queues else all_queues(known)
    _announce_when_ready()
    serve(app, name, consumed, concurrency or settings.worker.concurrency)


def beat() -> None:
    """Run the scheduler: it brings back what a crash or an outage took."""
    settings = _start()
    from scheduler import beat as scheduler

    settings.require_database_url()
    settings.require_redis_url()
    scheduler.run(settings)


def flower(
    port: Annotated[int, typer.Option(min=0, max=65535, envvar="FLOWER_PORT")] = 5555,
    address: Annotated[str, typer.Option(envvar="FLOWER_ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    basic_auth: Annotated[
        str | None, typer.Option(envvar="FLOWER_BASIC_AUTH", help="USER:PASSWORD.  (default: made and printed)")
    ] = None,
    max_tasks: Annotated[
        int, typer.Option(min=1, envvar="FLOWER_MAX_TASKS", help="Tasks remembered; each takes about 4 KiB.")
    ] = 20_000,
) -> None:
    """Watch the Celery workers in a browser. Nobody gets in without a password."""
    from cli import show
    from cli.flower import serve
    from goblin.errors import ConfigError

    if basic_auth is not None and not all(":" in one.strip(":") for one in basic_auth.split(",")):
        raise ConfigError("--basic-auth takes USER:PASSWORD, or several with commas between: none may be in a password")
    settings = _start()
    settings.require_redis_url()
    with listen(address, port) as free:
        port = free.getsockname()[1]
    if basic_auth is None:
        user, password = "goblin", secrets.token_urlsafe(16)
        basic_auth = f"{user}:{password}"
        show.say(f"Flower at {url_of(address, port)}  user {user}  password {password}")
    import workers.tasks  # noqa: F401
    from workers.app import app

    serve(app, address=address, port=port, basic_auth=basic_auth, max_tasks=max_tasks)


def migrate(
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for Postgres.")] = 0,
) -> None:
    """Bring the database to the shape that this release expects."""
    from cli import show
    from cli.migrate import upgrade
    from goblin.settings import load

    before, after = upgrade(load().require_database_url(), wait_s=wait)
    show.put(f"the database is at {after}" if before == after else f"migrated from {before or 'nothing'} to {after}")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. ConfigError, with the cure, when the port is taken or the address is not ours."""
    from goblin.errors import ConfigError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another port with --port N, or --port 0 for any"
        ) from error


def url_of(host: str, port: int) -> str:
    """Where to reach what listens on this address."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def asgi() -> Any:
    """The API, made by each process of `--workers`."""
    from api.app import create

    return create(_start())


def _announce_when_ready() -> None:
    from celery.signals import worker_ready

    def announce(sender: Any, **_: Any) -> None:
        print(json.dumps({"ready": sender.hostname}), flush=True)  # noqa: T201 - the answer to who started us

    worker_ready.connect(announce, weak=False)


def _serve(listener: socket.socket, workers: int) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(
        "cli.processes:asgi",
        factory=True,
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSING_S,
    )
    if workers > 1:
        Multiprocess(config, sockets=[listener]).run()
    else:
        uvicorn.Server(config).run(sockets=[listener])


def _start() -> "Settings":
    """The settings of this process, which from now on logs as they say."""
    from goblin import log
    from goblin.settings import load

    settings = load()
    log.configure(settings.log_level)
    return settings
