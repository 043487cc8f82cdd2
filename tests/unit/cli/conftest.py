"""Commands as their users call them, and a small API for those that ask one."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.commands import app

OWN = ("GOBLIN_URL", "GOBLIN_API_KEY", "GOBLIN_CONFIG", "GOBLIN_PORT", "DATABASE_URL", "REDIS_URL", "GOBLIN_DEBUG")


@dataclass(slots=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: str


Answer = tuple[int, str] | tuple[int, str, dict[str, str]]


@dataclass(slots=True)
class FakeApi:
    """Answers what the test says, in the order of the requests for a path; the last answer stays."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)

    def answer(self, method: str, path: str, *answers: Answer) -> None:
        self.answers[method, path] = list(answers)

    def take(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        known = self.answers.get((asked.method, asked.path.partition("?")[0]))
        if not known:
            return 404, json.dumps({"type": "/problems/not_found", "status": 404, "detail": "nothing here"})
        return known.pop(0) if len(known) > 1 else known[0]


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, self.rfile.read(size).decode())
            status, body, *more = fake.take(asked)
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 - its name there

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield fake
        server.shutdown()


@pytest.fixture
def goblin(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `goblin …` in an empty folder, with an environment that says nothing of goblin but what is given."""
    monkeypatch.chdir(tmp_path)
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOBLIN_HOME", str(tmp_path / "home"))

    def run(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env=environment)

    return run
