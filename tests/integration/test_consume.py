"""What a worker's taking of messages and telling of them leaves behind, on real processes."""

import threading
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from cli.embedded import Stack
from tests.processes import Processes
from tests.world import Sim, World, world


@pytest.fixture
def place(stack: Stack, processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    with world(processes, tmp_path, database, redis_url, Sim("sim", ("sim-instant+ttft=0.5",))) as made:
        made.start_worker()
        yield made


def test_a_message_that_was_taken_is_noted_nowhere(place: World) -> None:
    with place.redis.monitor() as monitor:
        run = place.submit(place.plan("chat: one THEN chat: two"))
        assert place.finished(run).status == "succeeded"
        place.redis.echo("the end")
        commands = (entry["command"] for entry in monitor.listen())
        seen = list(takewhile(lambda command: not command.startswith("ECHO"), commands))
    assert any(command.startswith("BRPOP") for command in seen)
    assert not [command for command in seen if command.startswith(("HSET unacked", "ZADD unacked"))]


def test_every_event_of_a_task_is_told_although_they_travel_together(place: World) -> None:
    told: list[tuple[str, str]] = []
    is_listening = threading.Event()

    def listen() -> None:
        with place.app.connection_for_read() as connection:
            receiver = place.app.events.Receiver(connection, handlers={"*": hear})
            with receiver.consumer_context(wakeup=False):
                is_listening.set()
                for _ in receiver.consume(limit=None, timeout=30, wakeup=False):
                    if sum(kind == "task-succeeded" for kind, _ in told) == 3:
                        return

    def hear(event: dict[str, Any]) -> None:
        if event["type"].startswith("task-"):
            told.append((event["type"], event["uuid"]))

    listener = threading.Thread(target=listen)
    listener.start()
    is_listening.wait()
    place.submit(place.plan("chat: one THEN chat: two AND chat: three"))
    listener.join()
    kinds = ["task-received", "task-started", "task-succeeded"]
    assert sorted(kind for kind, _ in told) == sorted(kinds * 3)
    for task in {task for _, task in told}:
        assert [kind for kind, one in told if one == task] == kinds
