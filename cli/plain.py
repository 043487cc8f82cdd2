"""A run off a terminal: lines of text. Tokens as they come while steps follow each other; else whole lines by step."""

import sys
from collections import defaultdict
from types import TracebackType
from typing import Self, TextIO

from cli.events import Event
from cli.progress import Progress, StepProgress


class PlainLines:
    """Writes what happens: the text of steps and who writes it."""

    def __init__(self, progress: Progress, stream: TextIO | None = None) -> None:
        self._progress = progress
        self._stream = stream or sys.stdout
        self._is_parallel = progress.is_parallel
        self._unfinished: dict[str, str] = defaultdict(str)  # the line that each step is in

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for step in list(self._unfinished):
            self._end_line(step)

    def hear(self, event: Event) -> None:
        """An event that the progress has taken in already."""
        if event.type == "budget.alert":
            for unfinished in list(self._unfinished):
                self._end_line(unfinished)
            self._out(f"== {self._progress.alerts[-1]}\n")
        step = self._progress.steps.get(event.data.get("step", ""))
        if step is None:
            return
        match event.type:
            case "step.started":
                attempt = f", attempt {step.attempt}" if step.attempt > 1 else ""
                self._tell(step, f"{step.by}{attempt}: {' '.join(step.task.split())}")
            case "delta":
                self._write(step, event.data["text"])
            case "step.reset":
                self._tell(step, f"withdrawn: {step.note or event.data.get('reason')}")
            case "step.waiting":
                self._tell(step, "waits for capacity")
            case "step.finished":
                self._tell(step, f"{step.status}{f': {step.note}' if step.status == 'failed' and step.note else ''}")

    def _tell(self, step: StepProgress, what: str) -> None:
        self._end_line(step.id)
        self._out(f"== {step.id} {step.goblin}: {what}\n" if not self._is_parallel else f"{step.id} == {what}\n")

    def _write(self, step: StepProgress, text: str) -> None:
        if not self._is_parallel:
            self._out(text)
            self._unfinished[step.id] = text.rpartition("\n")[2] or ("" if text.endswith("\n") else " ")
            return
        *lines, rest = (self._unfinished[step.id] + text).split("\n")
        self._unfinished[step.id] = rest
        self._out("".join(f"{step.id} | {line}\n" for line in lines))

    def _end_line(self, step: str) -> None:
        rest = self._unfinished.pop(step, "")
        if rest:
            self._out(f"{step} | {rest}\n" if self._is_parallel else "\n")

    def _out(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
