"""A simulator in a process of its own, and clients that reach it over real HTTP."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.asks import Both

ROOT = Path(__file__).parents[2]
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True)
class Simulator:
    url: str
    control: httpx.Client

    def post(self, path: str, **order: Any) -> Any:
        answer = self.control.post(f"/_sim/{path}", json=order)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        return self.control.get(f"/_sim/{path}").json()

    def last_call(self) -> dict[str, Any]:
        return self.get("calls")[-1]


@pytest.fixture(scope="session", autouse=True)
def _no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in PROXIES:
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


@contextmanager
def _running() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process of the simulator and its address."""
    command = [sys.executable, "-m", "providers.simulator", "--seed", "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield process, f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.terminate()


@pytest.fixture
def own_process() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A simulator that a test may end."""
    with _running() as started:
        yield started


@pytest.fixture(scope="session")
def _simulator(_no_proxy: None) -> Iterator[Simulator]:
    with _running() as (_, url), httpx.Client(base_url=url, trust_env=False, timeout=10) as control:
        yield Simulator(url, control)


@pytest.fixture
def simulator(_simulator: Simulator) -> Simulator:
    _simulator.post("reset")
    return _simulator


@pytest.fixture
def both(redis_url: str) -> Iterator[Both]:
    """The scripts of admission and their twin."""
    both = Both(redis_url)
    yield both
    both.client.close()
