"""Providers that fail before, in or instead of their stream: the run ends whole on another one, and all is recorded."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.embedded import Stack
from cli.servers import free_port
from goblin.money import to_usd
from tests.listener import Told, events, text_of
from tests.processes import PATIENCE_S, Processes
from tests.world import Sim, World, saying, world

ANSWER = "this is whole"
QUIET = {"first_token_timeout": 1, "stall_timeout": 1}
ONCE: dict[str, Any] = {"retry_count": 0}
SIMS = (
    Sim("good", (saying(ANSWER),)),
    Sim("down", ("sim-instant+fail=500",), options=ONCE),
    Sim("flaky", (f"{saying(ANSWER)}+flaky=1",)),
    Sim("cutting", ("sim-instant+tokens=40+cut=20",)),
    Sim("failing", ("sim-instant+tokens=40+midfail=20",), "anthropic"),
    Sim("babbling", ("sim-instant+tokens=40+malformed=20",), "gemini"),
    Sim("mute", ("sim-instant+silent",), "ollama", {"local": True, **QUIET}),
    Sim("stuck", ("sim-instant+tokens=40+stall=20:600",), "ollama", {"local": True, **QUIET}),
    Sim("refusing", ("sim-instant+filtered=400",), options=ONCE),
    Sim("locked", ("sim-instant+auth",)),
    Sim("east", (saying(ANSWER),)),
    Sim("west", (saying(ANSWER),)),
)
# Each goblin here has a favourite that fails.
FAVOURITES = {
    "docs-writer": "down",
    "code-writer": "cutting",
    "analyze": "failing",
    "plan": "babbling",
    "translate": "mute",
    "summarize": "stuck",
    "optimize": "flaky",
    "deploy": "refusing",
    "chat": "locked",
}


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that has ended, as listeners, the API and the ledger have it."""

    told: list[Told]
    shown: dict[str, Any]
    entries: list[Any]

    @property
    def step(self) -> dict[str, Any]:
        [step] = self.shown["steps"]
        return dict(step)

    @property
    def tries(self) -> list[tuple[str, str, str | None]]:
        return [(one["provider"], one["status"], (one["error"] or {}).get("type")) for one in self.step["attempts"]]

    @property
    def kinds(self) -> list[str]:
        """The kinds of its events, deltas in a row as one."""
        kinds = [kind for _, kind, _ in self.told]
        return [kinds[0], *(new for old, new in pairwise(kinds) if old != new or new != "delta")]


@dataclass(frozen=True, slots=True)
class Installation:
    place: World
    client: httpx.Client

    def run(self, goblin: str) -> Ran:
        """A step of the goblin, which only its favourite and the good one may serve."""
        return self.serve(f"{goblin}: do it", [FAVOURITES[goblin], "good"])

    def serve(self, workflow: str, providers: list[str]) -> Ran:
        body = {"workflow": workflow, "options": {"providers": providers}}
        run = self.client.post("/v1/runs", json=body).json()["id"]
        told = list(events(self.client, run))
        entries = self.place.all("select * from entries where run_id = %s order by id", uuid.UUID(run))
        return Ran(told, self.client.get(f"/v1/runs/{run}").json(), entries)

    def not_ready(self, provider: str) -> dict[str, Any] | None:
        shown = self.client.get("/providers").json()["providers"]
        return next((one for one in shown if one["id"] == provider and not one["ready"]), None)


IMPATIENT = "[routing]\noutage_patience = 0"


@pytest.fixture(scope="module")
def installation(
    stack: Stack, processes: Processes, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder: Path = tmp_path_factory.mktemp("failover")
    tastes = "\n".join(f'[goblins.{goblin}]\nproviders = ["{name}"]' for goblin, name in FAVOURITES.items())
    with world(processes, folder, database_url, stack.redis_url, *SIMS, extra=f"{IMPATIENT}\n{tastes}") as place:
        place.start_worker()
        port = free_port()
        place.start_api(port)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:
            yield Installation(place, client)


def test_one_that_fails_before_its_stream_is_left_for_another(installation: Installation) -> None:
    ran = installation.run("docs-writer")
    assert ran.tries == [("down", "failed", "server_error"), ("good", "succeeded", None)]
    assert ran.kinds == ["step.started", "step.reset", "step.started", "delta", "step.finished", "run.finished"]
    assert ran.step["output"] == text_of(ran.told, "step1") == ANSWER
    assert [(entry.provider, entry.is_measured) for entry in ran.entries] == [("good", True)]


def test_one_that_fails_once_is_asked_again(installation: Installation) -> None:
    ran = installation.run("optimize")
    assert ran.tries == [("flaky", "failed", "server_error"), ("flaky", "succeeded", None)]
    assert ran.step["output"] == text_of(ran.told, "step1") == ANSWER


@pytest.mark.parametrize(
    ("goblin", "error"),
    [("code-writer", "broken_stream"), ("analyze", "overloaded"), ("plan", "malformed"), ("summarize", "timed_out")],
)
def test_half_an_answer_is_withdrawn_charged_and_made_good_by_another(
    installation: Installation, goblin: str, error: str
) -> None:
    ran = installation.run(goblin)
    assert ran.tries == [(FAVOURITES[goblin], "failed", error), ("good", "succeeded", None)]
    assert ran.kinds == [
        "step.started",
        "delta",
        "step.reset",
        "step.started",
        "delta",
        "step.finished",
        "run.finished",
    ]
    assert [data["provider"] for _, kind, data in ran.told if kind == "step.started"] == [FAVOURITES[goblin], "good"]
    assert ran.step["output"] == text_of(ran.told, "step1") == ANSWER
    assert [(entry.provider, entry.is_measured) for entry in ran.entries] == [
        (FAVOURITES[goblin], False),
        ("good", True),
    ]
    assert [one["cost_usd"] for one in ran.step["attempts"]] == [to_usd(entry.amount_nanousd) for entry in ran.entries]
    assert Decimal(ran.shown["cost_usd"]) == sum(Decimal(one["cost_usd"]) for one in ran.step["attempts"])
    assert all(entry.amount_nanousd > 0 for entry in ran.entries)


def test_a_local_one_that_says_nothing_is_left_for_another(installation: Installation) -> None:
    ran = installation.run("translate")
    assert ran.tries == [("mute", "failed", "timed_out"), ("good", "succeeded", None)]
    assert ran.step["attempts"][0]["error"]["details"]["phase"] == "first_token"
    assert ran.step["output"] == ANSWER


def test_a_refusal_of_the_content_is_returned_and_not_routed_around(installation: Installation) -> None:
    ran = installation.run("deploy")
    assert ran.tries == [("refusing", "failed", "content_filtered")]
    assert (ran.shown["outcome"], ran.step["error"]["type"]) == ("failed", "content_filtered")


def test_a_wrong_key_lets_its_provider_rest_at_once_and_others_serve(installation: Installation) -> None:
    ran = installation.run("chat")
    assert ran.tries == [("locked", "failed", "bad_credentials"), ("good", "succeeded", None)]
    assert installation.run("chat").tries == [("good", "succeeded", None)]
    shown = installation.place.until(lambda: installation.not_ready("locked"))
    assert "key" in shown["reason"]


def test_with_all_providers_down_a_run_fails_with_every_reason_and_the_next_one_is_served(
    installation: Installation,
) -> None:
    for name in ("east", "west"):
        installation.place.sim_post("faults", {"name": name, "directives": "+fail=503"})
    ran = installation.serve("review: it", ["east", "west"])
    assert (ran.shown["outcome"], ran.step["error"]["type"]) == ("failed", "no_candidate")
    assert {name.partition("/")[0] for name in ran.step["error"]["details"]["reasons"]} >= {"east", "west"}
    assert sorted(ran.tries) == [(name, "failed", "overloaded") for name in ("east", "east", "west", "west")]
    assert ran.entries == []
    for name in ("east", "west"):
        installation.place.sim_post("faults", {"name": name, "directives": ""})
    assert installation.serve("review: it", ["east", "west"]).step["output"] == ANSWER
