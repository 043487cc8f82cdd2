"""A run on a terminal: a tree that changes while its steps work."""

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from cli import show
from cli.events import Event
from cli.progress import Progress, StepProgress
from goblin.money import to_usd

PER_SECOND = 10


class LiveTree:
    """Draws the progress of one run until it is left; the last drawing stays."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self._spinner = Spinner("dots", style="cyan")
        self._open = ExitStack()

    def hear(self, event: Event) -> None:
        """An event that the progress has taken in already."""

    def __enter__(self) -> Self:
        live = Live(console=self._console, refresh_per_second=PER_SECOND, get_renderable=self.draw, transient=False)
        self._open.enter_context(live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def draw(self) -> Tree:
        tree = Tree(self._headline(), guide_style="dim")
        for stage in self._progress.stages:
            node = tree.add(Text("side by side", style="dim")) if len(stage) > 1 else tree
            for step in stage:
                self._add(node, step)
        for alert in self._progress.alerts:
            tree.add(Text(alert, style="yellow"))
        return tree

    def _headline(self) -> Text:
        steps = list(self._progress.steps.values())
        done = sum(step.ended is not None for step in steps)
        return Text(f"{done} of {len(steps)} steps  {show.dollars(to_usd(self._progress.cost))}", style="bold")

    def _add(self, tree: Tree, step: StepProgress) -> None:
        node = tree.add(self._line(step))
        width = max(20, self._console.width - 16)
        if step.note:
            node.add(Text(_cut(step.note, width), style="yellow"))
        if step.status == "running" and step.last_line:
            node.add(Text(_cut(step.last_line, width), style="dim"))

    def _line(self, step: StepProgress) -> Table:
        now = time.monotonic()
        is_running = step.status == "running"
        mark: Spinner | Text = self._spinner if is_running else show.outcome(step.status)[:1]
        line = Table.grid(padding=(0, 1))
        told = Text.assemble((step.goblin, "bold"), ": ", _cut(step.task, max(20, self._console.width // 3)))
        if step.by:
            told.append(f"  {step.by}", style="magenta")
        if step.attempt > 1:
            told.append(f"  attempt {step.attempt}", style="yellow")
        if step.tokens:
            told.append(f"  {step.tokens} tokens")
        if step.cost:
            told.append(f"  {show.dollars(to_usd(step.cost))}", style="green")
        if (elapsed := step.elapsed(now)) is not None:
            told.append(f"  {show.seconds(elapsed)}", style="dim")
        if not is_running and step.status != "succeeded":
            told.append(f"  {step.status}", style="dim")
        line.add_row(mark, told)
        return line


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
