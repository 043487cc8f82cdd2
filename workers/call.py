"""One call for a step: tokens to the feed as they come, cost with every token, and its end as data for the ledger."""

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from goblin.errors import GoblinError, LeaseLost, Retry
from goblin.log import crash
from goblin.money import to_usd
from goblin.settings import GoblinSettings
from ledger.attempts import Closed, Ending
from ledger.states import AttemptStatus, StepStatus
from providers.call import Control
from providers.errors import (
    BadRequest,
    Cancelled,
    ContentFiltered,
    DeadlinePassed,
    Malformed,
    PrefillRefused,
)
from providers.message import Chat, Event, Finish, Message, Reasoned, Report, Text, Thought, ToolCall, Usage
from providers.price import cost
from providers.provider import Deadlines
from providers.sampling import UNSAID, Sampling
from providers.tokens import estimate
from routing.breaker import Told, told
from routing.health import failure, share_counted, speed, success
from routing.patience import Habit, deadlines
from routing.script import Verb
from workers.extend import extend
from workers.prompt import has_failed_verdict
from workers.report import report
from workers.runtime import Runtime
from workers.spoken import Spoken, go_on
from workers.stream import StepFeed
from workers.tool import as_output
from workers.turnstile import Pass
from workflow.plan import Step

_log = structlog.get_logger()
_ENDS: Mapping[type[GoblinError], StepStatus] = {
    Cancelled: StepStatus.CANCELLED,
    DeadlinePassed: StepStatus.FAILED,
}
_FAILED_VERDICT = {"type": "failed_verdict", "message": "the verdict was FAIL"}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, whoever answers."""

    run: uuid.UUID
    step: Step
    goblin: GoblinSettings
    messages: tuple[Message, ...]
    input_tokens: int  # estimated
    is_gate: bool  # a condition looks at the step, so a verdict was asked for
    begun: str = ""  # what calls that were cut have said, and listeners still hold
    has_other: bool = False  # another candidate could serve the step
    ends_at: float | None = None  # when its time is over (time.monotonic)
    tools: tuple[Mapping[str, Any], ...] = ()
    sampling: Sampling = UNSAID


class Call:
    def __init__(self, runtime: Runtime, question: Question, given: Pass, number: int) -> None:
        candidate = given.candidate
        self._runtime = runtime
        self._question = question
        self._candidate = candidate
        self._attempt = given.admitted.attempt
        self._held = given.admitted.place.hold  # nano-dollars
        self._may_extend = True
        self._number = number
        self._feed = StepFeed(runtime.feed, question.run, question.step.id)
        self._begun = question.begun if candidate.provider.continues(candidate.model) else ""
        self._unsent = self._begun[len(self._begun.rstrip()) :]
        self._asked = question.input_tokens + estimate(self._begun)  # tokens, as estimated for anybody
        self._spoken = Spoken(candidate.price, candidate.counting(self._asked))
        self._control = Control()
        self._limits = self._patience()
        self._began = time.monotonic()
        self._ttft: float | None = None
        self._duration = 0.0
        self.error: GoblinError | None = None  # how it ended, once it has
        self.lessons: tuple[Verb, ...] = ()  # what the fleet may learn from it, once it has

    def make(self) -> Ending:
        """Ask, stream, and say how it ended. Every end is data; only a worker that stops raises LeaseLost."""
        try:
            self._stream()
            error = self._complaint()
        except GoblinError as fault:
            if self._runtime.leases.is_stopped and isinstance(fault, LeaseLost):
                raise
            error = self._blame(fault)
        except Exception as fault:  # noqa: BLE001
            # a fault of our own must not leave a lease behind that brings the same fault again and again
            _log.error("attempt.crashed", run=str(self._question.run), step=self._question.step.id, **crash(fault))
            error = GoblinError("an internal error; the worker's log has it")
        self._duration = time.monotonic() - self._began
        self.error = error
        self.lessons = (self._lesson(error),)
        return self._ending(error)

    @property
    def told(self) -> Told:
        """What the vendor said of its limits."""
        return told(self._control.limits, time.monotonic() - self._control.limits_at)

    def report(self, ending: Ending, closed: Closed, alerts: Iterable[str] = ()) -> None:
        """Tell the listeners what the ledger now holds, and the budgets that have just passed 80 %."""
        spoken = self._spoken
        report(
            self._feed,
            self._question.run,
            ending,
            closed,
            spoken.usage,
            is_measured=spoken.is_measured,
            alerts=alerts,
        )
        self._log(ending)

    def _announce(self) -> None:
        candidate, begun = self._candidate, self._question.begun
        if begun and not self._begun:
            self._feed.say("step.reset", reason=f"{candidate.provider.name} begins anew")
        going_on = {"continues": len(begun)} if self._begun else {}
        self._feed.say(
            "step.started",
            goblin=self._question.step.goblin,
            provider=candidate.provider.id,
            model=candidate.model.id,
            attempt=self._number,
            **going_on,
        )
        self._feed.flush()

    def _stream(self) -> None:
        chat = Chat(
            model=self._candidate.model.id,
            messages=self._messages(),
            max_output_tokens=self._output_limit(),
            reasoning=self._reasons(),
            idempotency_key=f"{self._question.run.hex}-{self._question.step.idx}-{self._number}",
            tools=self._question.tools,
            sampling=self._question.sampling,
        )
        provider = replace(self._candidate.provider, deadlines=self._limits)
        if self._question.ends_at is not None:
            self._control.end_at(self._question.ends_at, DeadlinePassed("the step's time was over before its answer"))
        with self._runtime.leases.hold(self._attempt, self._control, self._spoken.cost) as held:
            self._announce()
            self._began = time.monotonic()
            for event in self._runtime.caller.stream(provider, chat, self._control):
                self._hear(event)
                held.spent = self._spoken.cost
                if held.spent > self._held and not self._may_cost(held.spent):
                    self._spoken.cut(self._held)
                    return

    def _may_cost(self, spent: int) -> bool:
        """Whether more than was held may be spent: once as much again, where every budget above has room for it.

        Estimates may be twice the real count, so an honest answer is never cut unless money is short.
        """
        if self._spoken.finish is not None:
            return True  # all of it is there
        wanted = 2 * self._held
        if not self._may_extend or spent > wanted or not extend(self._runtime, self._attempt, self._held, wanted):
            return False
        self._held, self._may_extend = wanted, False
        return True

    def _messages(self) -> tuple[Message, ...]:
        """What is asked, and what was answered already. White space at its end is refused by some, and may be said
        again."""
        asked = self._question.messages
        return (*asked, Message("assistant", self._begun.rstrip())) if self._begun.strip() else asked

    def _reasons(self) -> bool:
        """Whoever goes on with an answer does not think about it anew."""
        return self._question.goblin.reasoning and self._candidate.model.reasoning and not self._begun

    def _patience(self) -> Deadlines:
        return deadlines(
            self._candidate.provider.deadlines,
            self._runtime.health.snapshot().habit(self._candidate),
            input_tokens=self._spoken.input_tokens,
            output_tokens=self._output_limit(),
            has_other=self._question.has_other,
            reasons=self._reasons(),
        )

    def _hear(self, event: Event) -> None:
        spoken = self._spoken
        match event:
            case Text(text):
                self._first_token()
                before, tokens = spoken.cost, spoken.hear(text)
                text, self._unsent = go_on(text, self._unsent)
                if text:
                    self._say(text, tokens, before)
            case Thought(text):
                self._first_token()
                spoken.overhear(text)
            case ToolCall():
                self._first_token()
                spoken.call(event)
                self._bound()
            case Reasoned():
                spoken.recall(event)
                self._bound()
            case Report(usage, _):
                spoken.report(usage)
            case Finish():
                self._end(event)

    def _end(self, finish: Finish) -> None:
        """Who says that it calls tools, and has called none, has just stopped."""
        spoken = self._spoken
        if finish.reason == "tool" and not spoken.calls:
            finish = replace(finish, reason="stop")
        spoken.finish = finish
        if finish.reason == "tool":
            self._tell_calls()

    def _say(self, text: str, tokens: int, before: int) -> None:
        spoken = self._spoken
        spoken.text.append(text)
        spoken.size += len(text)
        self._bound()
        self._feed.delta(text, tokens, spoken.cost - before)

    def _tell_calls(self) -> None:
        """Calls are the output; words before them stand in it."""
        spoken = self._spoken
        if self._text():
            self._feed.say("step.reset", reason="it calls tools")
        message = as_output(self._text(), spoken.calls, self._attempt, spoken.reasoned)
        self._begun, spoken.text = "", [message]
        self._feed.delta(message, spoken.called_tokens, cost(spoken.price, Usage(output=spoken.called_tokens)))

    def _bound(self) -> None:
        if self._is_too_long():
            raise Malformed(f"the answer passed {self._runtime.settings.limits.output_bytes} characters")

    def _is_too_long(self) -> bool:
        return len(self._begun) + self._spoken.size > self._runtime.settings.limits.output_bytes

    def _first_token(self) -> None:
        if self._ttft is None:
            self._ttft = time.monotonic() - self._began

    def _complaint(self) -> GoblinError | None:
        """What is wrong with an answer that came whole."""
        finish = self._spoken.finish
        if finish is not None and finish.reason == "filtered":
            return ContentFiltered(f"the provider filtered its answer ({finish.detail or 'no reason given'})")
        return None

    def _blame(self, fault: GoblinError) -> GoblinError:
        if self._begun and not self._spoken.has_streamed and isinstance(fault, BadRequest):
            return PrefillRefused(fault.message)
        return fault

    def _ending(self, error: GoblinError | None) -> Ending:
        spoken = self._spoken
        has_come = spoken.has_streamed or spoken.reported is not None or spoken.finish is not None
        charge = spoken.charge() if has_come or self._control.may_be_billed(error) else None
        common: dict[str, Any] = {
            "charge": charge,
            "ttft_ms": None if self._ttft is None else round(self._ttft * 1000),
            "duration_ms": round(self._duration * 1000),
            "finish": spoken.finish.reason if spoken.finish else None,
        }
        if error is not None:
            step = _ENDS.get(type(error), StepStatus.PENDING)
            kept = self._kept(error) if step is StepStatus.PENDING else None
            return Ending(AttemptStatus.FAILED, step, kept, self._as_value(error), **common)
        text = self._text().strip()
        if self._question.is_gate and self._question.goblin.verdict and has_failed_verdict(text):
            return Ending(AttemptStatus.SUCCEEDED, StepStatus.FAILED, text, _FAILED_VERDICT, **common)
        return Ending(AttemptStatus.SUCCEEDED, StepStatus.SUCCEEDED, text, **common)

    def _text(self) -> str:
        return self._begun + "".join(self._spoken.text)

    def _kept(self, error: GoblinError) -> str | None:
        """What another candidate may go on with."""
        is_usable = error.other_candidate is not Retry.NEVER and not isinstance(error, PrefillRefused)
        is_text = not self._spoken.calls and not self._is_too_long()
        return (self._text() or None) if is_usable and is_text else None

    def _as_value(self, error: GoblinError) -> Mapping[str, Any]:
        value = error.as_value()
        if self._spoken.has_streamed:
            value["details"] = {**value.get("details", {}), "streamed": True}
        return value

    def _lesson(self, error: GoblinError | None) -> Verb:
        if error is not None:
            return failure(self._candidate, error, self._waited(error))
        reported = self._spoken.reported
        counted = share_counted(reported.input, self._asked) if reported is not None and reported.input else None
        talked = None if self._ttft is None else speed(self._spoken.usage.output, self._duration - self._ttft)
        return success(self._candidate, self._ttft, talked, self._taken(), counted)

    def _taken(self) -> Habit:
        """How long a call that ended well has taken."""
        connect = self._control.connect_s
        if self._ttft is None:
            return Habit(connect_s=connect)
        talking, tokens = self._duration - self._ttft, self._spoken.usage.output
        return Habit(self._ttft, self._control.silence_s, connect, talking / tokens if tokens else None)

    def _waited(self, error: GoblinError) -> Habit:
        """What was waited for in vain."""
        limits, phase = self._limits, error.details.get("phase") if error is self._control.error else None
        return Habit(
            limits.first_token if phase == "first_token" else None,
            limits.stall if phase == "stall" else None,
            limits.connect if phase == "connect" else None,
            limits.total / self._output_limit() if phase == "total" else None,
        )

    def _output_limit(self) -> int:
        wanted, possible = self._question.goblin.max_output_tokens, self._candidate.model.max_output
        limit = min(wanted, possible) if possible else wanted
        return max(1, limit - estimate(self._begun))

    def _log(self, ending: Ending) -> None:
        _log.info(
            f"attempt.{ending.attempt}",
            run=str(self._question.run),
            step=self._question.step.id,
            candidate=self._candidate.name,
            number=self._number,
            ttft_ms=ending.ttft_ms,
            duration_ms=ending.duration_ms,
            output_tokens=self._spoken.usage.output,
            cost_usd=to_usd(ending.charge.amount if ending.charge else 0),
            outcome=ending.step,
            error=(ending.error or {}).get("type"),
        )
