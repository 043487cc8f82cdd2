"""The surroundings of a scheduler that recovers, on real servers; the queue is read, and no worker takes from it."""

import base64
import json
import uuid
from dataclasses import dataclass, replace
from typing import Any

import redis

from goblin import kv
from goblin.settings import load
from ledger import marks, runs
from ledger.session import Ledger
from routing.waiting import WaitingRooms
from scheduler.absent import Absent, Silent
from scheduler.recover import Recovery
from tests.fakes.runs import accept, one
from workers.app import STEPS, create, provider_queue
from workers.canvas import STEP, publish
from workers.stream import Feed
from workflow.plan import Plan

NONE, NEVER = 0.0, 3_600.0  # patience that has run out when it begins, and patience that does not
CHAIN = "chat: one THEN chat: two"


@dataclass(frozen=True)
class Place:
    """A scheduler's surroundings. `impatient` waits for nobody; `patient` waits for everybody."""

    ledger: Ledger
    client: redis.Redis
    patient: Recovery

    @property
    def impatient(self) -> Recovery:
        names = ("unpublished_after", "unfinished_after", "handed_after", "stalled_after")
        return replace(self.patient, **dict.fromkeys(names, NONE))

    def sent(self) -> list[tuple[uuid.UUID, int, int]]:
        """The step messages in the queue, oldest first: run, step, epoch."""
        messages: Any = self.client.lrange(STEPS, 0, -1)
        found = [(one["headers"], one["body"]) for one in map(json.loads, reversed(messages))]
        return [_args(body) for headers, body in found if headers["task"] == STEP]

    def lose_messages(self) -> None:
        self.client.delete(STEPS)

    def publish(self, workflow: str = CHAIN) -> uuid.UUID:
        """A run whose first messages were sent, and noted as sent."""
        run = accept(self.ledger, workflow)
        rest = runs.remainder(self.ledger, run)
        publish(self.patient.app, Plan.from_value(rest.plan), run, 1)
        runs.mark_published(self.ledger, run, 1)
        return run

    def drain(self, provider: str | None = None) -> None:
        """A worker has taken all that was sent so far to this queue, and a sounding behind it."""
        self.client.delete(STEPS if provider is None else provider_queue(provider))
        marks.drained(self.ledger, one(self.ledger, "select clock_timestamp()::text as now").now, provider)


def _args(body: str) -> tuple[uuid.UUID, int, int]:
    run, idx, epoch = json.loads(base64.b64decode(body))[0]
    return uuid.UUID(run), idx, epoch


def make(database: str, redis_url: str) -> Place:
    settings = load(environ={"REDIS_URL": redis_url, "DATABASE_URL": database})
    ledger, client = Ledger(database, connections=8), kv.connect(redis_url)
    return Place(
        ledger,
        client,
        Recovery(
            create(settings),
            ledger,
            client,
            Feed(client, settings.limits),
            Absent(ledger, WaitingRooms(client), page=2),
            Silent(ledger, page=2),
            lease=0,
            unpublished_after=NEVER,
            unfinished_after=NEVER,
            handed_after=NEVER,
            stalled_after=NEVER,
        ),
    )
