"""The load: workflows of known fates, submitted over HTTP by somebody who asks again until they are accepted."""

import itertools
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from sqlalchemy.exc import SQLAlchemyError

from goblin.errors import GoblinError
from tests.chaos.town import FATES, Town
from tests.fakes.fates import drawn, fated
from workflow.plan import Plan
from workflow.text import text

DRAWN = 300  # different workflows
TICK_S = 0.2


@dataclass(frozen=True)
class Order:
    """An accepted run, and what was asked for."""

    run: uuid.UUID
    plan: Plan
    fail_fast: bool


class Traffic:
    """Keeps so many runs open until it is stopped, or until `limit` of them were accepted."""

    def __init__(self, place: Town, seed: int, *, opened: int, limit: int | None = None, max_steps: int = 14) -> None:
        self._place = place
        self._seed = seed
        self._opened = opened
        self._numbers = itertools.count() if limit is None else iter(range(limit))
        self._plans: Sequence[Plan] = drawn(fated(FATES, max_steps), DRAWN, seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.orders: list[Order] = []
        self.fault: Exception | None = None  # what ended it before its time

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No order is under way afterwards: what was sent is accepted."""
        self._stopped.set()
        self._thread.join(120)
        if self.fault is not None:
            raise self.fault

    @property
    def is_done(self) -> bool:
        """Whether all that were wanted are accepted."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{self._place.api_port}", timeout=5, trust_env=False
            ) as client:
                self._keep(client)
        except Exception as fault:  # noqa: BLE001 - told to whoever stops this
            self.fault = fault

    def _keep(self, client: httpx.Client) -> None:
        while not self._stopped.is_set():
            for _ in range(self._missing()):
                number = next(self._numbers, None)
                if number is None or self._stopped.is_set():
                    return
                self._order(client, number)
            self._stopped.wait(TICK_S)

    def _missing(self) -> int:
        try:
            row = self._place.one("select count(*) as n from runs where finished_at is null")
        except (SQLAlchemyError, GoblinError):
            return 0  # Postgres is down
        return max(0, self._opened - (row.n if row else 0))

    def _order(self, client: httpx.Client, number: int) -> None:
        plan, fail_fast = self._plans[number % len(self._plans)], number % 3 > 0
        body = {"workflow": text(plan), "options": {"fail_fast": fail_fast}}
        headers = {"Idempotency-Key": f"{self._seed}-{number}"}
        while True:
            try:
                answer = client.post("/v1/runs", json=body, headers=headers)
            except httpx.HTTPError:
                self._stopped.wait(TICK_S)
                continue
            if answer.status_code == 202:
                self.orders.append(Order(uuid.UUID(answer.json()["id"]), plan, fail_fast))
                return
            if answer.status_code < 500:
                raise ValueError(f"refused with {answer.status_code}: {answer.text}")
            self._stopped.wait(TICK_S)
