"""How far a run is, folded from its events. Pure: the caller brings the time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cli.events import Event
from goblin.money import from_usd

REPLAYED = "replayed"  # the reason of a reset after which a step is told once more, from its beginning
KEPT = 400  # characters of a step's text that are kept for its last line


@dataclass(slots=True)
class StepProgress:
    """`cost` in nano-dollars; times are those of the caller's clock, in seconds."""

    id: str
    goblin: str
    task: str
    after: tuple[str, ...] = ()
    status: str = "pending"
    by: str = ""
    attempt: int = 0
    tokens: int = 0
    cost: int = 0
    tail: str = ""
    note: str = ""  # what went wrong last
    began: float | None = None
    ended: float | None = None

    @property
    def last_line(self) -> str:
        lines = self.tail.strip().splitlines()
        return lines[-1].strip() if lines else ""

    def elapsed(self, now: float) -> float | None:
        """Seconds that it has been at work."""
        return None if self.began is None else (self.ended or now) - self.began


@dataclass(slots=True)
class Progress:
    steps: dict[str, StepProgress]
    outcome: str | None = None
    alerts: list[str] = field(default_factory=list)  # of budgets
    _lost: dict[str, int] = field(default_factory=dict)  # nano-dollars of attempts that were withdrawn

    @classmethod
    def of_run(cls, run: Mapping[str, Any]) -> "Progress":
        """From a run as the API shows it."""
        return cls(
            {
                step["id"]: StepProgress(step["id"], step["goblin"], step["task"], tuple(step["dependencies"]))
                for step in run["steps"]
            }
        )

    @property
    def cost(self) -> int:
        """Nano-dollars, what is known so far."""
        return sum(step.cost for step in self.steps.values())

    @property
    def stages(self) -> list[list[StepProgress]]:
        """Steps that wait for the same steps stand side by side."""
        stages: dict[tuple[str, ...], list[StepProgress]] = {}
        for step in self.steps.values():
            stages.setdefault(step.after, []).append(step)
        return list(stages.values())

    @property
    def is_parallel(self) -> bool:
        return any(len(stage) > 1 for stage in self.stages)

    def apply(self, event: Event, now: float) -> None:
        if event.type == "run.finished":
            self.outcome = event.data["outcome"]
        if event.type == "budget.alert":
            self.alerts.append(f"four fifths of the budget {event.data['budget']} are spent")
        step = self.steps.get(event.data.get("step", ""))
        if step is None:
            return
        match event.type:
            case "step.started":
                self._start(step, event.data, now)
            case "delta":
                step.tail = (step.tail + event.data["text"])[-KEPT:]
                step.tokens += event.data["tokens"]
                step.cost += from_usd(event.data["cost"])
            case "step.reset":
                self._withdraw(step, event.data.get("reason") or "no reason given")
            case "step.waiting":
                step.status = "waiting"
            case "step.finished":
                self._finish(step, event.data, now)

    def _start(self, step: StepProgress, data: Mapping[str, Any], now: float) -> None:
        step.status, step.attempt = "running", data["attempt"]
        step.by = f"{data['provider']}/{data['model']}"
        step.began = now if step.began is None else step.began

    def _withdraw(self, step: StepProgress, reason: str) -> None:
        step.status, step.tail, step.tokens = "pending", "", 0
        if reason == REPLAYED:
            step.cost = self._lost[step.id] = 0
            return
        self._lost[step.id] = step.cost
        step.note = f"{step.by}: {reason}"

    def _finish(self, step: StepProgress, data: Mapping[str, Any], now: float) -> None:
        step.status, step.ended = data["outcome"], now
        step.cost = self._lost.get(step.id, 0) + from_usd(data["cost_usd"])
        if usage := data.get("usage"):
            step.tokens = usage["output"]
        if error := data.get("error"):
            step.note = str(error.get("message", ""))
