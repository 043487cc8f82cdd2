"""`goblin run`: one workflow, watched to its end; on the API that is there, else on an embedded stack of its own."""

import os
import select
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.complain import FAILED, INTERRUPTED
from goblin.errors import ConfigError, GoblinError, UsageError

if TYPE_CHECKING:
    from cli.client import Api
    from cli.reach import Reached
    from goblin.settings import Settings

LANGUAGES = {
    ".c": "c", ".cc": "cpp", ".cpp": "cpp", ".cs": "csharp", ".css": "css", ".ex": "elixir", ".go": "go", ".h": "c",
    ".hpp": "cpp", ".hs": "haskell", ".html": "html", ".java": "java", ".jl": "julia", ".js": "javascript",
    ".json": "json", ".jsx": "javascript", ".kt": "kotlin", ".lua": "lua", ".php": "php", ".pl": "perl",
    ".py": "python", ".r": "r", ".rb": "ruby", ".rs": "rust", ".scala": "scala", ".sh": "bash", ".sql": "sql",
    ".swift": "swift", ".toml": "toml", ".ts": "typescript", ".tsx": "typescript", ".yaml": "yaml", ".yml": "yaml",
    ".zig": "zig",
}  # fmt: skip
PROSE = (".md", ".rst", ".txt", "")


def run(
    workflow: Annotated[str, typer.Argument(help="The workflow.")],
    file: Annotated[Path | None, typer.Option(help="Code or text that the steps work on.")] = None,
    text: Annotated[str | None, typer.Option(help="Text that the steps work on.  (default: stdin, if piped)")] = None,
    language: Annotated[str | None, typer.Option(help="Of the file.  (default: by its suffix)")] = None,
    default_goblin: Annotated[str, typer.Option(help="Who takes the steps without a label.")] = "chat",
    prefer_local: Annotated[bool, typer.Option("--prefer-local", help="Local models before all others.")] = False,
    budget: Annotated[str | None, typer.Option(metavar="USD", help="The most that the run may cost.")] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Nobody else may serve it. Repeatable.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Nothing else may serve it. Repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON per event, then the run.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Submit, print the id, and leave.")] = False,
) -> None:
    """Run a workflow and watch it: its tokens, providers and cost."""
    from cli import show
    from cli.parse import plan_of
    from goblin.settings import load

    settings = load()
    request = {
        "workflow": workflow,
        "input": _input(file, text, language),
        "default_goblin": default_goblin,
        "options": _options(prefer_local=prefer_local, budget=budget, providers=provider, models=model),
    }

    def check() -> None:
        plan_of(workflow, settings, default_goblin)
        _check_somebody_is_ready(settings)

    with _reached(settings, check, detach=detach) as reached:
        submitted = reached.api.submit(request)
        if detach:
            show.put_json({"id": submitted}) if as_json else show.put(submitted)
            return
        ended = watch(reached, submitted, as_json=as_json)
    raise typer.Exit(0 if ended["status"] == "succeeded" else FAILED)


def watch(reached: "Reached", run: str, *, as_json: bool) -> dict[str, Any]:
    """The run as it ended. Ctrl-C ends the watching; the run only if its API ends, too."""
    from cli import follow, show

    try:
        ended = follow.follow(reached.api, run, as_json=as_json)
    except KeyboardInterrupt:
        if reached.is_ours:
            _cancel(reached.api, run)
            show.say(f"run {run} was cancelled")
        else:
            show.say(f"run {run} goes on: `goblin watch {run}` shows it, `goblin cancel {run}` stops it")
        raise typer.Exit(INTERRUPTED) from None
    if not as_json:
        follow.put_text(ended)
        follow.put_summary(ended)
    return ended


@contextmanager
def _reached(settings: "Settings", check: Callable[[], None], *, detach: bool) -> "Iterator[Reached]":
    from cli.reach import Reached, find

    found = find(settings)
    if found is not None:
        with found:
            yield Reached(found)
        return
    check()  # a mistake costs no start of servers
    if detach:
        raise UsageError("--detach leaves the run to an API, and none is running: start one with `goblin up`")
    from cli import show
    from cli.client import Api, key_of_environment
    from cli.launch import Launch, Order

    order = replace(Order.of(settings), grace_s=1)
    with show.status("starting goblin") as tell, Launch.start(order, say=tell) as launch:
        tell("")
        with launch.watched(show.say), Api(launch.url, key=key_of_environment()) as api:
            yield Reached(api, is_ours=True)


def _check_somebody_is_ready(settings: "Settings") -> None:
    from goblin.settings import environment
    from providers import registry
    from providers.discover import refresh

    if not any(one.ready for one in refresh(registry.load(settings, environment())).providers.values()):
        raise ConfigError(
            "no provider is ready: set a key such as OPENAI_API_KEY, or start Ollama "
            "(`goblin check` tells what is missing, `goblin demo` needs none)"
        )


def _input(file: Path | None, text: str | None, language: str | None) -> dict[str, str]:
    if file is not None and text is not None:
        raise UsageError("give --file or --text, not both")
    if file is not None:
        content, suffix = _read(file), file.suffix.lower()
        if suffix in PROSE and language is None:
            return {"text": content}
        known = language or LANGUAGES.get(suffix)
        return {"code": content} | ({"language": known} if known else {})
    if text is None:
        text = _piped()
    if language is not None and text is not None:
        return {"code": text, "language": language}
    return {"text": text} if text else {}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not text in UTF-8") from error


def _piped() -> str | None:
    """What was piped or redirected to us; a terminal, and the nothing that daemons have, are not waited for."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return None
    if not select.select([sys.stdin], [], [], 1.0)[0]:
        from cli import show

        show.say("reading the input from stdin, up to its end")
    try:
        with open(sys.stdin.fileno(), encoding="utf-8", closefd=False) as piped:
            return piped.read()
    except UnicodeDecodeError as error:
        raise UsageError("what was piped in is not text in UTF-8") from error


def _options(
    *, prefer_local: bool, budget: str | None, providers: list[str] | None, models: list[str] | None
) -> Mapping[str, Any]:
    from cli.budget import nanousd

    given = {"budget_usd": budget, "providers": providers, "models": models}
    if budget is not None:
        nanousd(budget)
    return {name: value for name, value in given.items() if value} | ({"prefer_local": True} if prefer_local else {})


def _cancel(api: "Api", run: str) -> None:
    with suppress(GoblinError):
        api.cancel(run)
