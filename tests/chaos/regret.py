"""Who ordered something and wants it no more: runs and steps are cancelled at their moments, over HTTP."""

import heapq
import itertools
import threading
import time
from dataclasses import dataclass

import httpx

from tests.chaos.order import Order, Wish

TICK_S = 0.05


@dataclass(frozen=True)
class Cancel:
    """A cancel that was answered: when it was first sent, when its answer came (Unix seconds), and what that was."""

    order: Order
    begun: float
    answered: float
    is_accepted: bool
    status: str | None  # of the run or step, as the answer shows it


class Regrets:
    """Cancels until it is closed; what was not due by then is not cancelled."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._due: list[tuple[float, int, Order]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="regrets", daemon=True)
        self._thread.start()
        self.cancels: list[Cancel] = []
        self.fault: Exception | None = None  # what ended it before its time

    def expect(self, order: Order) -> None:
        """An accepted order, which may be one to cancel."""
        if order.wish in (Wish.CANCEL, Wish.CANCEL_STEP):
            with self._lock:
                heapq.heappush(self._due, (time.monotonic() + order.after_s, next(self._numbers), order))

    def close(self) -> None:
        """No cancel is under way afterwards."""
        self._stopped.set()
        self._thread.join(120)
        if self.fault is not None:
            raise self.fault

    def _run(self) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=5, trust_env=False) as client:
                while not self._stopped.wait(TICK_S):
                    while (order := self._next()) is not None:
                        self.cancels.append(_cancel(client, order))
        except Exception as fault:  # noqa: BLE001 - told to whoever closes this
            self.fault = fault

    def _next(self) -> Order | None:
        with self._lock:
            if self._stopped.is_set() or not self._due or self._due[0][0] > time.monotonic():
                return None
            return heapq.heappop(self._due)[2]


def _cancel(client: httpx.Client, order: Order) -> Cancel:
    """Asks again until there is an answer: once sent, a cancel may have been heard."""
    step = f"/steps/step{order.step + 1}" if order.wish is Wish.CANCEL_STEP else ""
    begun = time.time()
    while True:
        try:
            answer = client.post(f"/v1/runs/{order.run}{step}/cancel")
        except httpx.HTTPError:
            time.sleep(TICK_S)
            continue
        if answer.status_code in (202, 409):
            shown = answer.json()["status"] if answer.status_code == 202 else None
            return Cancel(order, begun, time.time(), answer.status_code == 202, shown)
        if answer.status_code < 500:
            raise ValueError(f"refused with {answer.status_code}: {answer.text}")
        time.sleep(TICK_S)
