"""How a worker looks for a broker that went away."""

import pytest

from cli.servers import free_port
from goblin.settings import load
from workers.app import create


class Enough(Exception):
    """Seen as often as needed."""


def test_a_lost_broker_is_looked_for_every_second_and_without_end() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    app = create(load(environ={"REDIS_URL": url, "DATABASE_URL": "postgresql://nowhere/none"}))
    pauses: list[float] = []

    def note(_: Exception, pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 3:
            raise Enough

    with app.connection_for_read() as connection, pytest.raises(Enough):
        connection.ensure_connection(note, app.conf.broker_connection_max_retries)
    assert pauses == [1, 1, 1]
    assert app.conf.broker_connection_max_retries is None
