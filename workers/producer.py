"""One producer for all that a thread publishes at a time, however its canvas is nested.

Celery takes a producer of its pool for a group, and another one for each chord in it, while the first is held. Threads
that hold one each and wait for a second wait for ever, and the process with them.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from kombu.messaging import Producer


class Share(threading.local):
    """The producer that this thread holds, while it does."""

    producer: Producer | None = None

    @contextmanager
    def hold(self, acquired: AbstractContextManager[Producer]) -> Iterator[Producer]:
        """The one that is held, else the acquired one, which goes back at the end."""
        if self.producer is not None:
            yield self.producer
            return
        with acquired as producer:
            self.producer = producer
            try:
                yield producer
            finally:
                self.producer = None
