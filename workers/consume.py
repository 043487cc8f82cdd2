"""How a worker takes messages and tells of them, where Celery's own way would cost more than a step does."""

from typing import Any

from celery.app import amqp
from celery.bootsteps import StartStopStep
from celery.worker.request import Request
from kombu.connection import Connection
from kombu.messaging import Consumer

AGAIN = 1  # seconds until a broker that went away is looked for again
GATHER = 0.1  # seconds that events of tasks wait for others to share their message


class TakingConsumer(Consumer):
    """What is taken is not noted in Redis: recovery sends again what a dying worker took along, from the ledger.

    Celery acknowledges a message early in any case; this spares the two round trips of noting and forgetting it.
    """

    no_ack = True


class SteadyConnection(Connection):
    """Looks for a lost broker every second: Celery's pauses grow to half a minute, while it may be back since long."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        pauses = {"interval_start": AGAIN, "interval_step": 0, "interval_max": AGAIN}
        return super().ensure_connection(*args, **{**pauses, **options})  # type: ignore[no-untyped-call]


class AMQP(amqp.AMQP):
    Connection = SteadyConnection
    Consumer = TakingConsumer


class TakenRequest(Request):
    def acknowledge(self) -> None:
        """Nothing was noted that could be forgotten."""
        self.acknowledged = True


class Gather(StartStopStep):
    """Sends the events of tasks ten times a second, not with every turn of the loop: Flower need not hurry."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def include_if(self, consumer: Any) -> bool:
        """Without an event loop (gevent) no event waits."""
        return consumer.hub is not None

    def start(self, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        dispatcher.on_send_buffered = None
        self._timer = consumer.timer.call_repeatedly(GATHER, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        """No timer runs any more; what ends from now on is told at once."""
        if self._timer is not None:
            self._timer.cancel()
            dispatcher = consumer.event_dispatcher
            dispatcher.on_send_buffered = dispatcher.flush
            dispatcher.flush()
