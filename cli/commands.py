"""Puts the commands together. What each does is in a module of its own, imported light."""

import typer

from cli import batch, check, demo, keys, parse, processes, providers, run, runs, up
from cli.complain import Commands

app = typer.Typer(
    name="goblin",
    cls=Commands,
    help="Workflows in one line of text, each step on the best of many AI providers, durable and within budget.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _command in (
    demo.demo,
    up.up,
    run.run,
    parse.parse,
    runs.runs,
    runs.watch,
    runs.cancel,
    runs.explain,
    runs.costs,
    check.check,
):
    app.command()(_command)
app.add_typer(batch.app, name="batch")
app.add_typer(providers.app, name="providers")
app.add_typer(keys.app, name="keys")
for _process in (processes.api, processes.worker, processes.beat, processes.flower, processes.migrate):
    app.command(rich_help_panel="Processes of a deployment")(_process)
