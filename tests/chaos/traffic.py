"""The load: workflows of known fates, submitted over HTTP by somebody who asks again until they are accepted."""

import itertools
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
from sqlalchemy.exc import SQLAlchemyError

from goblin.clock import now
from goblin.errors import GoblinError
from tests.chaos.order import Menu, Order, Wish
from tests.chaos.regret import Regrets
from tests.chaos.town import Town
from workflow.text import text

TICK_S = 0.2


class Traffic:
    """Keeps so many runs open until it is stopped, or until `limit` of them were accepted.

    Some with `wishes`: they are submitted twice at once, cancelled, or have a deadline.
    """

    def __init__(
        self,
        place: Town,
        seed: int,
        *,
        opened: int,
        limit: int | None = None,
        max_steps: int = 14,
        wishes: bool = False,
    ) -> None:
        self._place = place
        self._seed = seed
        self._opened = opened
        self._numbers = itertools.count() if limit is None else iter(range(limit))
        self._menu = Menu(seed, max_steps)
        self._wishes = wishes
        self._url = f"http://127.0.0.1:{place.api_port}"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._twins = ThreadPoolExecutor(2, thread_name_prefix="twin")
        self.regrets = Regrets(self._url)
        self.orders: list[Order] = []
        self.fault: Exception | None = None  # what ended it before its time

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No order and no cancel is under way afterwards: what was sent is accepted."""
        self._stopped.set()
        self._thread.join(120)
        self._twins.shutdown(cancel_futures=True)
        self.regrets.close()
        if self.fault is not None:
            raise self.fault

    @property
    def is_done(self) -> bool:
        """Whether all that were wanted are accepted."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=5, trust_env=False) as client:
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
        order = self._menu.order(number, wishes=self._wishes)
        options: dict[str, Any] = {"fail_fast": order.fail_fast}
        if order.wish is Wish.DEADLINE:
            order = replace(order, deadline=now() + timedelta(seconds=order.after_s))
            options["deadline"] = str(order.deadline)
        body, key = {"workflow": text(order.plan), "options": options}, f"{self._seed}-{number}"
        twins = range(2 if order.wish is Wish.TWICE else 1)
        made = set(self._twins.map(lambda _: self._submit(client, body, key), twins))
        if len(made) > 1:
            raise ValueError(f"one key, and these runs: {made}")
        order = order.accepted(made.pop())
        self.orders.append(order)
        self.regrets.expect(order)

    def _submit(self, client: httpx.Client, body: dict[str, Any], key: str) -> uuid.UUID:
        while True:
            try:
                answer = client.post("/v1/runs", json=body, headers={"Idempotency-Key": key})
            except httpx.HTTPError:
                self._stopped.wait(TICK_S)
                continue
            if answer.status_code == 202:
                return uuid.UUID(answer.json()["id"])
            if answer.status_code < 500:
                raise ValueError(f"refused with {answer.status_code}: {answer.text}")
            self._stopped.wait(TICK_S)
