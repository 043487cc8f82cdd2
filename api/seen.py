"""What one listener has been shown of a run, and what an event of the stream changes in that. Pure.

The stream may have holes: it is trimmed, expires, and is lost with Redis; a worker that died leaves text behind. A
step's text counts as shown only from its `step.started` on, and only if as much was shown as the ledger holds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum, auto
from typing import Any

from goblin.money import from_usd


class Verdict(Enum):
    PASS = auto()
    DROP = auto()
    WITHDRAW = auto()  # pass it on, after taking back the text of an attempt that nobody ended
    CHECK = auto()  # the step has ended: was its whole text shown?
    END = auto()  # the run has ended: was every step shown?


@dataclass(slots=True)
class Shown:
    """Of a running step. White space around an answer is not kept, so `solid` counts characters without it."""

    size: int = 0
    solid: int = 0
    tokens: int = 0
    cost_nanousd: int = 0

    def add(self, text: str, tokens: int, cost_nanousd: int) -> None:
        text = text if self.size else text.lstrip()
        self.size += len(text)
        self.solid = self.size - (len(text) - len(text.rstrip())) if text.strip() else self.solid
        self.tokens += tokens
        self.cost_nanousd += cost_nanousd


@dataclass(slots=True)
class Seen:
    """`at` is the id of the last entry of the stream that was looked at; "" before the first."""

    at: str = ""
    running: dict[str, Shown] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    has_ended: bool = False

    def take(self, kind: str, data: Mapping[str, Any]) -> Verdict:
        step = data.get("step", "")
        if kind == "run.finished":
            return Verdict.END
        if step in self.done:
            return Verdict.DROP
        match kind:
            case "step.started":
                before = self.running.get(step)
                if data.get("continues"):
                    return Verdict.PASS  # its text goes on where that of the attempt before ended
                self.running[step] = Shown()
                return Verdict.WITHDRAW if before and before.size else Verdict.PASS
            case "delta":
                return self._delta(step, data)
            case "step.reset":
                return Verdict.PASS if self.running.pop(step, None) else Verdict.DROP
            case "step.finished":
                return Verdict.CHECK
            case _:
                return Verdict.PASS

    def _delta(self, step: str, data: Mapping[str, Any]) -> Verdict:
        shown = self.running.get(step)
        if shown is None:
            return Verdict.DROP  # its beginning is lost: the whole text comes when the step ends
        shown.add(data["text"], data["tokens"], from_usd(data["cost"]))
        return Verdict.PASS

    def finish(self, step: str) -> Shown | None:
        """The step is done; what had been shown of it."""
        self.done.add(step)
        return self.running.pop(step, None)

    def as_value(self) -> dict[str, Any]:
        running = {step: asdict(shown) for step, shown in self.running.items()}
        return {"at": self.at, "running": running, "done": sorted(self.done), "has_ended": self.has_ended}

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> "Seen":
        running = {step: Shown(**shown) for step, shown in value["running"].items()}
        return cls(value["at"], running, set(value["done"]), value["has_ended"])
