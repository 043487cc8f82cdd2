"""A step that looks things up: its question becomes a vector, an index names what is near, and that is its output.

The call that is admitted and paid for is the one that makes the vector; the search rides on it. A fault of the index
fails the step: whoever else makes vectors would ask the same index.
"""

import json
from collections.abc import Iterable, Sequence

import structlog

from goblin.errors import GoblinError, LeaseLost, NotFound, Retry
from goblin.money import to_usd
from goblin.settings import RetrieveSettings
from ledger.attempts import Closed, Ending
from providers.call import Control
from providers.embed import Vector
from providers.errors import ProviderFault
from providers.price import search
from providers.tokens import estimate
from providers.vectorize import Index, Match, Query
from providers.wire.field import text as storable
from routing.breaker import Told
from routing.script import Verb
from workers.call import Question
from workers.embedding import Embedding, IndexFailed, Wish
from workers.prompt import asked
from workers.report import report
from workers.runtime import Runtime
from workers.stream import StepFeed
from workers.turnstile import Pass

_log = structlog.get_logger()


class Retrieval:
    """Stands where a call of a model stands (workers/call.py), with the same ends."""

    def __init__(
        self, runtime: Runtime, question: Question, given: Pass, number: int, wanted: RetrieveSettings
    ) -> None:
        self._runtime = runtime
        self._question = question
        self._candidate = given.candidate
        self._attempt = given.admitted.attempt
        self._number = number
        self._wanted = wanted
        self._feed = StepFeed(runtime.feed, question.run, question.step.id)
        text = asked(question.messages)
        wish = Wish((text,), estimate(text), "query", wanted.vector_size)
        self._embedding = Embedding(runtime.caller, given.candidate, wish, self._search)

    @property
    def lessons(self) -> tuple[Verb, ...]:
        return self._embedding.lessons

    @property
    def error(self) -> GoblinError | None:
        return self._embedding.error

    @property
    def told(self) -> Told:
        return self._embedding.told

    def make(self) -> Ending:
        """Every end is data; only a worker that stops raises LeaseLost."""
        embedding = self._embedding
        if self._question.ends_at is not None:
            embedding.end_at(self._question.ends_at)
        with self._runtime.leases.hold(self._attempt, embedding.control, embedding.bill.amount):
            self._announce()
            ending = embedding.make()
        if self._runtime.leases.is_stopped and isinstance(embedding.error, LeaseLost):
            raise embedding.error
        if ending.output:
            self._feed.delta(ending.output, estimate(ending.output), embedding.bill.amount)
        return ending

    def _announce(self) -> None:
        provider, model = self._candidate.provider.id, self._candidate.model.id
        started = {"goblin": self._question.step.goblin, "provider": provider, "model": model}
        self._feed.say("step.started", **started, attempt=self._number)
        self._feed.flush()

    def report(self, ending: Ending, closed: Closed, alerts: Iterable[str] = ()) -> None:
        bill = self._embedding.bill
        report(self._feed, self._question.run, ending, closed, bill.usage, is_measured=bill.is_measured, alerts=alerts)
        _log.info(
            f"attempt.{ending.attempt}",
            run=str(self._question.run),
            step=self._question.step.id,
            candidate=self._candidate.name,
            index=self._wanted.index,
            duration_ms=ending.duration_ms,
            cost_usd=to_usd(ending.charge.amount if ending.charge else 0),
            outcome=ending.step,
            error=(ending.error or {}).get("type"),
        )

    def _search(self, vectors: Sequence[Vector], control: Control) -> str:
        """Raises IndexFailed, or what the step was cut with."""
        wanted, (vector,) = self._wanted, vectors
        try:
            store = self._runtime.offers.registry.get(wanted.store)
        except NotFound as error:
            raise IndexFailed(error.message) from None
        if store.obstacle is not None:
            raise IndexFailed(f"{store.name}: {store.obstacle}")
        query = Query(vector, wanted.top_k, namespace=wanted.namespace)
        index = Index(self._runtime.caller, store, wanted.index)
        matches = _twice(index, query, control)
        self._embedding.fee = search(store.search_rate, len(vector))
        return storable(told(matches, wanted.text_field))[: self._runtime.settings.limits.output_bytes]


def told(matches: Iterable[Match], field: str) -> str:
    """Hits as text, best first, each with its id and score; without the text itself, what else is known of it."""
    found = [
        f"[{number}] {match.id} ({match.score:.3f})\n{_text(match, field)}" for number, match in enumerate(matches, 1)
    ]
    return "\n\n".join(found) or "Nothing was found."


def _text(match: Match, field: str) -> str:
    text = match.metadata.get(field)
    return text if isinstance(text, str) else json.dumps(dict(match.metadata), ensure_ascii=False)


def _twice(index: Index, query: Query, control: Control) -> tuple[Match, ...]:
    """Once more after a fault that may have been a moment's."""
    try:
        return index.query(query, control)
    except ProviderFault as fault:
        if fault.same_candidate is not Retry.ONCE:
            raise IndexFailed(f"the index cannot be searched: {fault.message}", cause=fault.slug) from None
    try:
        return index.query(query, control)
    except ProviderFault as fault:
        raise IndexFailed(f"the index cannot be searched: {fault.message}", cause=fault.slug) from None
