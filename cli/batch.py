"""`goblin batch`: a file of lines submitted, watched, its results fetched, cancelled."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.complain import FAILED
from goblin.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from cli.client import Api

app = typer.Typer(no_args_is_help=True, help="Files of lines, each of which becomes a run.")
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="The id of a batch.")]
AsJson = Annotated[bool, typer.Option("--json", help="As the API answers.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Until it has ended; exit 1 unless every line succeeded.")]
ENDED = ("completed", "failed", "expired", "cancelled")
LOOK_S = 0.5


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="Lines of JSON.")],
    budget: Annotated[str | None, typer.Option(metavar="USD", help="The most that all lines may cost.")] = None,
    window: Annotated[str, typer.Option(help="Afterwards nothing more is done: minutes, hours or days.")] = "24h",
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=TEXT", help="Kept with the batch.")] = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Upload a file and begin its batch. The url of its first line is that of all."""
    from cli import reach, show
    from cli.budget import nanousd

    if budget is not None:
        nanousd(budget)
    if not file.is_file():
        raise UsageError(f"{file} is no file that can be read twice: write the lines into one first")
    request = {"endpoint": _endpoint(file), "completion_window": window, "metadata": _labels(label or [])}
    with reach.api() as api:
        with show.status(f"uploading {file}"):
            request["input_file_id"] = api.upload(file)
        batch = api.begin_batch(request if budget is None else {**request, "budget_usd": budget})
        if watch:
            show.say(batch["id"])
        _show(api, batch, watch=watch, as_json=as_json, is_new=True)


@app.command()
def status(batch: BatchId, watch: Watch = False, as_json: AsJson = False) -> None:
    """How far a batch is."""
    from cli import reach

    with reach.api() as api:
        _show(api, api.batch(batch), watch=watch, as_json=as_json)


@app.command()
def results(
    batch: BatchId,
    errors: Annotated[bool, typer.Option("--errors", help="Of the lines that failed.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", dir_okay=False, help="A file; else stdout.")] = None,
) -> None:
    """The results of a batch that has ended, in the order of its lines."""
    from cli import reach

    with reach.api() as api:
        found = api.batch(batch)
        if found["status"] not in ENDED:
            raise UsageError(f"the batch is {found['status']}: its results are there when it has ended")
        file = found["error_file_id" if errors else "output_file_id"]
        if file is None:
            raise UsageError(f"no line has {'failed' if errors else 'succeeded'}")
        _save(api, file, output)


@app.command()
def cancel(batch: BatchId, as_json: AsJson = False) -> None:
    """Stop a batch: nothing more is begun, running calls are cut; the results so far are kept."""
    from cli import reach

    with reach.api() as api:
        _show(api, api.cancel_batch(batch), watch=False, as_json=as_json)


def _show(api: "Api", batch: Mapping[str, Any], *, watch: bool, as_json: bool, is_new: bool = False) -> None:
    from cli import show

    if watch:
        batch = _watched(api, batch)
    if as_json:
        show.put_json(batch)
    elif is_new and not watch:
        show.put(batch["id"])
    else:
        show.put(_line(batch))
        for error in (batch["errors"] or {"data": []})["data"]:
            show.put(f"{error['code']}: {error['message']}")
        if batch["error_file_id"]:
            show.put(f"why lines have failed: goblin batch results --errors {batch['id']}")
    counts = batch["request_counts"]
    if watch and (batch["status"] != "completed" or counts["completed"] < counts["total"]):
        raise typer.Exit(FAILED)


def _watched(api: "Api", batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch once it has ended; how far it is meanwhile, on stderr."""
    from cli import show

    with show.progress(batch["request_counts"]["total"]) as tell:
        while True:
            counts = batch["request_counts"]
            tell(_line(batch), counts["completed"] + counts["failed"])
            if batch["status"] in ENDED:
                return batch
            time.sleep(LOOK_S)
            batch = _now(api, batch["id"])


def _now(api: "Api", batch: str) -> Mapping[str, Any]:
    """An API that is away is waited for, as when a run is watched."""
    from cli.client import Answered
    from cli.events import PATIENCE_S

    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return api.batch(batch)
        except (Answered, Unavailable) as error:
            if error.details.get("status", 500) < 500 or time.monotonic() >= give_up:
                raise
        time.sleep(LOOK_S)


def _line(batch: Mapping[str, Any]) -> str:
    counts = batch["request_counts"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    return f"{batch['status']}: {counts['completed']} of {counts['total']} lines{failed}"


def _save(api: "Api", file: str, output: Path | None) -> None:
    if output is None:
        stdout = typer.get_binary_stream("stdout")
        for piece in api.content(file):
            stdout.write(piece)
        stdout.flush()
        return
    if output.exists() and not output.is_file():  # a device or a pipe, which is written to and not replaced
        _write(api, file, output)
        return
    whole = output.resolve()
    part = whole.with_name(whole.name + ".part")  # a file that is there is whole
    _write(api, file, part)
    part.replace(whole)


def _write(api: "Api", file: str, place: Path) -> None:
    try:
        taken = place.open("wb")
    except OSError as error:
        raise UsageError(f"cannot write {place}: {error.strerror}") from error
    with taken:
        for piece in api.content(file):
            taken.write(piece)


def _endpoint(file: Path) -> str:
    from workers.line import ENDPOINTS

    with file.open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    try:
        url = json.loads(first)["url"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(
            f'the first line of {file} names no url: {{"custom_id": …, "method": "POST", "url": "/v1/runs", "body": …}}'
        ) from None
    if url not in ENDPOINTS:
        raise UsageError(f"the url of the first line of {file} is {url!r}: a batch takes {' or '.join(ENDPOINTS)}")
    return str(url)


def _labels(labels: list[str]) -> dict[str, str]:
    parted = [label.partition("=") for label in labels]
    if wrong := [name for name, sign, _ in parted if not sign]:
        raise UsageError(f"--label takes NAME=TEXT, not {wrong[0]!r}")
    return {name: text for name, _, text in parted}
