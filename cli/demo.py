"""`goblin demo`: the product at work on this machine alone, with simulated providers and data that go away."""

import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cli.complain import FAILED

if TYPE_CHECKING:
    from cli.client import Api
    from cli.launch import Launch

WORKFLOW = (
    "docs-writer: document this code THEN code-writer: write tests AND analyze: check coverage "
    "THEN IF_SUCCESS deploy: prepare release"
)
INTRODUCTION = (
    "Every answer here comes from goblin's built-in simulator, over real HTTP: four providers that differ in speed and",
    "price. No key of yours is used, nobody else is asked, and the servers and their data go away at the end.",
)
SOURCE = "money.py"  # of the package goblin
FAILOVER = "summarize: summarize what this module is for"
BROKEN, RESCUER = "openai", "anthropic"
FAULT = "+cut=15"  # the connection closes after so many tokens


def demo(
    keep_open: Annotated[bool, typer.Option("--keep-open", help="Leave it running until Ctrl-C.")] = False,
) -> None:
    """Show what goblin does, on simulated providers. Needs no key and no server, and leaves nothing behind."""
    from cli import show

    signal.signal(signal.SIGTERM, _interrupt)
    with _launched() as (launch, api):
        for line in INTRODUCTION:
            show.put(line)
        is_well = _first_act(api) and _second_act(api, launch.simulator_url)
        is_well = _reckoning(api, launch.simulator_url) and is_well
        _put_what_next()
        if keep_open:
            _stay(launch.url)
    raise typer.Exit(0 if is_well else FAILED)


@contextmanager
def _launched() -> "Iterator[tuple[Launch, Api]]":
    from cli import show
    from cli.client import Api
    from cli.launch import Launch, Order

    home = Path(tempfile.mkdtemp(prefix="goblin-demo-"))
    # what may be set for the user's own goblin: a key would lock this one, and a log level would talk into it
    own = {"GOBLIN_API_KEY": "", "LOG_LEVEL": "INFO", "DEBUG": "", "GOBLIN_CONCURRENCY": "50"}
    order = Order(home, cwd=home, environment=own, is_fast=True, is_passing=True, is_simulated=True, grace_s=1)
    try:
        with show.status("starting goblin") as tell, Launch.start(order, say=tell) as launch:
            tell("")
            with launch.watched(show.say), Api(launch.url) as api:
                yield launch, api
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _first_act(api: "Api") -> bool:
    code = files("goblin").joinpath(SOURCE).read_text()
    _title("1. A workflow in one line, each step on the provider that suits it", WORKFLOW, f"over goblin/{SOURCE}")
    ended = _run(api, WORKFLOW, code)
    return bool(ended["status"] == "succeeded")


def _second_act(api: "Api", simulator_url: str) -> bool:
    _title("2. A provider breaks in the middle of an answer, and another one finishes the step", FAILOVER)
    _order_fault(simulator_url, FAULT)
    ended = _run(api, FAILOVER, files("goblin").joinpath(SOURCE).read_text(), providers=[BROKEN, RESCUER])
    _order_fault(simulator_url, "")
    attempts = [(one["provider"], one["status"]) for one in ended["steps"][0]["attempts"]]
    return ended["status"] == "succeeded" and attempts == [(BROKEN, "failed"), (RESCUER, "succeeded")]


def _reckoning(api: "Api", simulator_url: str) -> bool:
    """Whether what the ledger holds is what the providers bill."""
    from cli import show
    from goblin.money import from_usd, to_usd

    _title("3. The ledger against the providers' invoice")
    total = api.usage()["total"]
    estimated = from_usd(total["estimated_usd"])
    measured = from_usd(total["cost_usd"]) - estimated
    calls = _ask(simulator_url, "GET", "/_sim/calls")
    whole = [call["nanousd"] for call in calls if call["outcome"] == "whole"]
    broken = [call["nanousd"] for call in calls if call["outcome"] != "whole"]
    agrees: bool = measured == sum(whole)
    show.put_table(
        ("calls", ">number", ">ledger", ">invoice"),
        [
            ("answered in full", len(whole), f"${to_usd(measured)}", f"${to_usd(sum(whole))}"),
            ("broken off (ledger: estimated)", len(broken), f"${to_usd(estimated)}", f"${to_usd(sum(broken))}"),
        ],
    )
    show.put("equal to the nano-dollar" if agrees else "NOT EQUAL: the ledger and the invoice differ")
    return agrees


def _run(api: "Api", workflow: str, code: str, **options: Any) -> Mapping[str, Any]:
    from cli.follow import follow, put_summary

    given = {"code": code, "language": "python"}
    ended = follow(api, api.submit({"workflow": workflow, "input": given, "options": options}))
    put_summary(ended)
    return ended


def _order_fault(simulator_url: str, directives: str) -> None:
    _ask(simulator_url, "POST", "/_sim/faults", json={"name": BROKEN, "model": "*", "directives": directives})


def _ask(simulator_url: str, method: str, path: str, **request: Any) -> Any:
    import httpx

    with httpx.Client(base_url=simulator_url, trust_env=False) as client:
        return client.request(method, path, **request).raise_for_status().json()


def _title(title: str, *lines: str) -> None:
    from cli import show

    show.put()
    show.console().print(title, style="bold cyan")
    for line in lines:
        show.put(f"  {line}")
    show.put()


def _put_what_next() -> None:
    from cli import show

    _title("With real providers")
    show.put("  export OPENAI_API_KEY=…   or any other key, or start Ollama; `goblin check` shows who is ready")
    show.put('  goblin run "chat: hello"   one workflow')
    show.put("  goblin up                 everything, until Ctrl-C: the API and its docs")


def _stay(url: str) -> None:
    from cli import show

    show.put(f"\nstill running at {url} until Ctrl-C")
    try:
        signal.pause()
    except KeyboardInterrupt:
        return


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
