"""What a step that may run has to say and to whom it may go, gathered from the ledger and the settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from goblin.clock import now
from goblin.errors import Abandoned, ConfigError
from goblin.settings import GoblinSettings
from ledger import looks
from ledger.looks import Look
from providers.message import Message
from providers.sampling import UNSAID, Sampling
from providers.tokens import estimate, estimate_question
from routing.candidate import Need, looking_up
from routing.failover import Failure, GoOn
from workers.cached import Flight
from workers.conversation import bounded, messages_of
from workers.errand import Errand
from workers.prompt import Before, asked, compose
from workers.runtime import Runtime
from workers.tool import offered
from workers.untaken import is_untaken
from workflow.outcome import Outcome, Settled
from workflow.plan import Plan, Step


@dataclass(slots=True)
class Work:
    """A step that may run, with what it needs to be asked of a model."""

    errand: Errand
    look: Look
    plan: Plan
    step: Step
    goblin: GoblinSettings
    messages: tuple[Message, ...]
    input_tokens: int
    failures: list[Failure] = field(default_factory=list)
    begun: str = ""  # what calls that were cut have said, until it is taken back
    run_deadline: datetime | None = None
    started_at: datetime | None = None  # of the step's first call
    flight: Flight | None = None  # while identical requests wait for this one
    tools: tuple[Mapping[str, Any], ...] = ()  # that are offered to the model
    sampling: Sampling = UNSAID

    @property
    def asked_tokens(self) -> int:
        """Estimated, with what may be handed on."""
        return self.input_tokens + estimate(self.begun)

    @property
    def deadline(self) -> datetime | None:
        """The run's, or the step's own, which counts from its first call on: before that no time has passed."""
        ends = [] if self.run_deadline is None else [self.run_deadline]
        if self.goblin.timeout is not None and self.started_at is not None:
            ends.append(self.started_at + timedelta(seconds=self.goblin.timeout))
        return min(ends, default=None)

    def start(self) -> None:
        """A call is made now."""
        self.started_at = self.started_at or now()


def gather(runtime: Runtime, errand: Errand, look: Look, plan: Plan, context: tuple[int, ...]) -> Work:
    step = plan.steps[errand.idx]
    goblin = runtime.settings.goblins.get(step.goblin)
    if goblin is None:
        raise ConfigError(f"the goblin {step.goblin!r} of this run is not configured any more")
    near = {one.idx: one for one in look.settled}
    missing = [idx for idx in context if near[idx].output is None and idx not in plan.dependencies(errand.idx)]
    texts = looks.outputs(runtime.ledger, errand.run, missing) if missing else {}
    before = [Before(plan.steps[idx], near[idx].output or texts.get(idx), near[idx].error) for idx in context]
    goblin = bounded(goblin, look.input)
    messages = messages_of(look.input) or compose(goblin, step, look.input, before, is_gate=errand.idx in plan.gates)
    tools, sampling = offered(look.options, step), Sampling.of(look.input)
    failures = [
        Failure(one.provider, one.model, one.error, runtime.context(one.provider, one.model))
        for one in look.tried
        if one.error is not None
    ]
    deadline = look.options.get("deadline")
    return Work(
        errand,
        look,
        plan,
        step,
        goblin,
        messages,
        estimate_question(messages, tools, sampling),
        failures,
        begun=_begun(look, failures),
        run_deadline=datetime.fromisoformat(deadline) if deadline else None,
        started_at=look.started_at,
        tools=tools,
        sampling=sampling,
    )


def _begun(look: Look, failures: Sequence[Failure]) -> str:
    """What listeners hold of calls that were cut; nothing once a worker died in one: who knows what they have heard?"""
    made = [one for one in failures if not is_untaken(one)]
    return "" if made and made[-1].error["type"] == Abandoned.slug else look.output or ""


def settled_around(runtime: Runtime, errand: Errand, look: Look, plan: Plan) -> dict[int, Settled]:
    """What the other steps became, with their texts only when a condition may look into them."""
    texts: Mapping[int, str] = {}
    if plan.needs_outputs:
        texts = looks.outputs(runtime.ledger, errand.run, [one.idx for one in look.settled])
    return {one.idx: Settled(Outcome(one.status), texts.get(one.idx, "")) for one in look.settled}


def need_of(runtime: Runtime, work: Work, way: GoOn) -> Need:
    options, retrieve = work.look.options, work.goblin.retrieve
    if retrieve is not None:
        pins = (work.step.provider, work.step.model)
        return looking_up(
            runtime.offers.registry, retrieve, estimate(asked(work.messages)), *pins, excluded=way.excluded
        )
    return Need(
        task_class=work.goblin.task_class,
        input_tokens=work.asked_tokens,
        output_tokens=work.goblin.max_output_tokens,
        provider=work.step.provider,
        model=work.step.model,
        providers=options.get("providers"),
        models=options.get("models"),
        preferred=work.goblin.providers,
        prefer_local=options.get("prefer_local", runtime.settings.routing.prefer_local),
        excluded=way.excluded,
        context_above=way.context_above,
        tools=bool(work.tools),
        wishes=work.sampling.wishes,
        reasons=work.goblin.reasoning,
    )
