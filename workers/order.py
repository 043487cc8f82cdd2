"""An order: what somebody wants run, read and checked against what this installation has. Nothing is stored here.

Shared by requests, which are told at once, and by lines of a batch, which are told in its error file.
"""

import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from goblin.errors import NoCandidate, TooLarge, UsageError
from goblin.settings import Settings
from ledger.runs import NewRun, NewStep
from providers.name import nearest
from providers.provider import Provider
from providers.registry import Registry
from providers.sampling import Sampling
from providers.tokens import estimate, estimate_tools
from routing.candidate import Need, eligible, looking_up
from workers.conversation import bounded
from workers.tool import offered
from workflow.parse import Limits, parse
from workflow.plan import Plan, Step


class UnknownName(UsageError):
    """A provider, model or goblin that no catalog and no configuration knows."""

    slug = "unknown_name"


class Unservable(NoCandidate):
    """No passing of time will bring a candidate for a step: the order itself is at fault."""

    http_status = 422


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants run."""

    workflow: str
    default_goblin: str | None = None
    input: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    key_id: uuid.UUID | None = None
    rpm: int | None = None  # runs that the key may submit in any minute
    idempotency_key: str | None = None
    plan: Plan | None = None  # of a workflow that was never text

    def as_run(self, plan: Plan) -> NewRun:
        """What is stored of it, once it was checked."""
        return NewRun(
            workflow=self.workflow,
            plan=plan.as_value(),
            input=self.input,
            options=self.options,
            steps=[NewStep(step.goblin, step.task, plan.dependencies(step.idx)) for step in plan.steps],
            key_id=self.key_id,
            idempotency_key=self.idempotency_key,
        )


@dataclass(frozen=True, slots=True)
class Desk:
    """Where orders are read: the settings, and the providers as they are known now."""

    settings: Settings
    registry: Registry

    def read(self, text: str, default_goblin: str | None) -> Plan:
        """Raises WorkflowSyntaxError, and UnknownName for a pin to nobody or a default that is no goblin."""
        plan = self._parse(text, default_goblin)
        for step in plan.steps:
            if self.settings.goblins[step.goblin].retrieve is None:
                self._check_pin(step)
        return plan

    def plan(self, order: Order) -> Plan:
        """What an order says, whether or not somebody can serve it. Raises WorkflowSyntaxError, and UnknownName for a
        default that is no goblin."""
        return order.plan or self._parse(order.workflow, order.default_goblin)

    def _parse(self, text: str, default_goblin: str | None) -> Plan:
        limits, goblins = self.settings.limits, self.settings.goblins
        if default_goblin is not None and default_goblin not in goblins:
            raise _unknown("goblin", default_goblin, goblins, field="default_goblin")
        return parse(
            text,
            goblins=goblins.keys(),
            default_goblin=default_goblin,
            limits=Limits(limits.workflow_bytes, limits.workflow_steps, limits.workflow_depth),
        )

    def check(self, order: Order) -> Plan:
        """The plan of an order that can run.

        Raises a UsageError for what is wrong with it, Unservable when it is certain that nobody can serve a step.
        """
        self._check_size(order.input)
        plan = order.plan or self.read(order.workflow, order.default_goblin)
        self._check_options(order.options)
        _check_tools(plan, order.options)
        self._check_candidates(plan, order)
        return plan

    def need(self, step: Step, order: Order) -> Need:
        """What a step asks for as far as it is known before anything ran: at least these tokens."""
        goblin = bounded(self.settings.goblins[step.goblin], order.input)
        if goblin.retrieve is not None:
            return looking_up(self.registry, goblin.retrieve, estimate(step.task), step.provider, step.model)
        given = sum(estimate(str(value)) for value in order.input.values())
        return Need(
            task_class=goblin.task_class,
            input_tokens=given + estimate(step.task) + estimate_tools(offered(order.options, step)),
            output_tokens=goblin.max_output_tokens,
            provider=step.provider,
            model=step.model,
            providers=order.options.get("providers"),
            models=order.options.get("models"),
            preferred=goblin.providers,
            prefer_local=order.options.get("prefer_local", self.settings.routing.prefer_local),
            tools=bool(offered(order.options, step)),
            wishes=Sampling.of(order.input).wishes,
            reasons=goblin.reasoning,
        )

    def _check_size(self, given: Mapping[str, Any]) -> None:
        limit = self.settings.limits.input_bytes
        if len(json.dumps(given, ensure_ascii=False).encode()) > limit:
            raise TooLarge(f"the input is larger than {limit} bytes")

    def _check_pin(self, step: Step) -> None:
        if step.provider is None:
            return
        provider = self.registry.providers.get(step.provider)
        if provider is None:
            raise _unknown("provider", step.provider, self.registry.providers, step=step.id)
        if step.model is not None and provider.known(step.model) is None and not provider.discovers:
            raise _unknown(f"model of {provider.id}", step.model, [one.id for one in provider.models], step=step.id)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        providers = self.registry.providers
        for name in options.get("providers", ()):
            if name not in providers:
                raise _unknown("provider", name, providers, field="options.providers")
        known = {model.id for provider in providers.values() for model in provider.models}
        may_be_found = any(_may_find_models(provider) for provider in providers.values())
        for name in options.get("models", ()):
            if name not in known and not may_be_found:
                raise _unknown("model", name, known, field="options.models")

    def _check_candidates(self, plan: Plan, order: Order) -> None:
        """Refuse what no passing of time can cure; rests, budgets and capacity are left to the worker."""
        looked_at: set[tuple[str, str | None, str | None, bool]] = set()
        for step in plan.steps:
            kind = (step.goblin, step.provider, step.model, bool(offered(order.options, step)))
            if kind in looked_at:
                continue
            looked_at.add(kind)
            need = self.need(step, order)
            offers = self.registry.embedders() if need.vectors else self.registry.candidates()
            candidates, refusals = eligible(offers, need)
            self._check_index(step)
            if not candidates and not any(_may_find_models(one, need) for one in self.registry.providers.values()):
                raise Unservable(f"no provider can serve {step.id} ({step.goblin})", refusals)

    def _check_index(self, step: Step) -> None:
        retrieve = self.settings.goblins[step.goblin].retrieve
        if retrieve is None:
            return
        store = self.registry.providers.get(retrieve.store)
        if store is None or store.obstacle is not None:
            why = store.obstacle if store is not None else "nobody of that name is known"
            raise Unservable(
                f"{step.id} ({step.goblin}) cannot search: {retrieve.store}: {why}", {retrieve.store: str(why)}
            )


def _unknown(kind: str, name: str, known: Collection[str], **where: Any) -> UnknownName:
    return UnknownName(f"unknown {kind} {name[:100]!r}{nearest(name[:100], known)}", **where)


def _check_tools(plan: Plan, options: Mapping[str, Any]) -> None:
    """Tools are for steps of this run."""
    known = {name for step in plan.steps for name in (step.id, step.goblin)}
    for name in options.get("tools_for", ()):
        if name not in known:
            raise _unknown("step or goblin of this workflow", name, known, field="options.tools_for")


def _may_find_models(provider: Provider, need: Need | None = None) -> bool:
    """Whether a server of this machine or network may yet turn out to have what is needed."""
    if not provider.discovers or provider.obstacle is not None or (need is not None and need.vectors):
        return False
    if need is None:
        return True
    return need.provider in (None, provider.id) and (need.providers is None or provider.id in need.providers)
