"""The API process is killed in the middle of streams and started again: no listener loses or hears twice a word."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from cli.embedded import Stack
from cli.servers import free_port
from tests.listener import Told, events, text_of
from tests.processes import PATIENCE_S, ProcessContainer, Processes
from tests.world import Sim, World, world

ENOUGH = 3  # events after which the API is killed
TALKER = "sim-instant+speed=50+tokens=100"


@dataclass(frozen=True, slots=True)
class Installation:
    place: World
    api: ProcessContainer
    client: httpx.Client

    @property
    def address(self) -> str:
        return self.client.base_url.netloc.decode()

    def start_task(self) -> dict[str, Any]:
        body = {"task_type": "chat", "payload": {"prompt": "tell me a story"}}
        answer = self.client.post("/api/route_task_stream_start", json=body)
        return dict(answer.raise_for_status().json())

    @contextmanager
    def held(self, run: str) -> Iterator[None]:
        """In the middle of the run's first answer the provider stands still, as long as the block lasts."""
        self.place.until(lambda: len(self.place.events(uuid.UUID(run))) >= ENOUGH)
        self.place.simulator.kill("SIGSTOP")
        try:
            yield
        finally:
            self.place.simulator.kill("SIGCONT")

    def kill_api(self) -> None:
        self.api.kill("SIGKILL")

    def start_api(self) -> None:
        self.api.start()
        self.api.ready()


@pytest.fixture(scope="module")
def installation(
    stack: Stack, processes: Processes, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder: Path = tmp_path_factory.mktemp("restart")
    with world(processes, folder, database_url, stack.redis_url, Sim("talker", (TALKER,))) as place:
        place.start_worker()
        port = free_port()
        api = place.start_api(port)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:
            yield Installation(place, api, client)


def heard_until_cut(installation: Installation, run: str) -> list[Told]:
    """What a listener got of a run whose API is killed as soon as he has heard a little."""
    heard: list[Told] = []
    try:
        for event in events(installation.client, run):
            heard.append(event)
            if len(heard) == ENOUGH:
                installation.kill_api()
    except httpx.TransportError:
        return heard
    raise AssertionError("the stream ended as if it were whole")


def messages_until_cut(installation: Installation, url: str) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    with connect(url, proxy=None) as socket:
        try:
            while True:
                heard.append(json.loads(socket.recv()))
                if len(heard) == ENOUGH - 1:  # the beginning of the step is no message
                    installation.kill_api()
        except ConnectionClosedError:
            return heard


def test_events_go_on_after_the_last_one_that_was_heard(installation: Installation) -> None:
    answer = installation.client.post("/v1/runs", json={"workflow": "chat: tell me a story THEN chat: go on"})
    run = answer.json()["id"]
    with installation.held(run):
        before = heard_until_cut(installation, run)
        installation.start_api()
    after = list(events(installation.client, run, before[-1][0]))
    assert before + after == list(events(installation.client, run))
    shown = installation.client.get(f"/v1/runs/{run}").json()
    assert [text_of(before + after, step["id"]) for step in shown["steps"]] == [
        step["output"] for step in shown["steps"]
    ]
    assert shown["outcome"] == "succeeded"
    assert [len(step["attempts"]) for step in shown["steps"]] == [1, 1]


def test_a_socket_goes_on_after_its_last_message(installation: Installation) -> None:
    started = installation.start_task()
    url = f"ws://{installation.address}/ws/stream/{started['stream_id']}"
    with installation.held(started["run_id"]):
        before = messages_until_cut(installation, url)
        installation.start_api()
    with connect(f"{url}?after={before[-1]['id']}", proxy=None) as socket:
        after = [json.loads(message) for message in socket]
    *chunks, end = before + after
    assert {message["type"] for message in chunks} == {"chunk"}
    assert len({message["id"] for message in chunks}) == len(chunks)
    assert (end["type"], end["result"]) == ("complete", "".join(message["chunk"] for message in chunks).strip())


def test_polls_hand_out_the_rest(installation: Installation) -> None:
    started = installation.start_task()
    path = f"/api/route_task_stream_poll/{started['stream_id']}"
    with installation.held(started["run_id"]):
        said = "".join(chunk["chunk"] for chunk in installation.client.get(path).json()["chunks"])
        installation.kill_api()
        installation.start_api()
    assert said
    poll = {"status": "running"}
    while poll["status"] == "running":
        poll = installation.client.get(path).raise_for_status().json()
        assert not any(chunk["reset"] for chunk in poll["chunks"])
        said += "".join(chunk["chunk"] for chunk in poll["chunks"])
    assert (poll["status"], poll["result"]) == ("completed", said.strip())
