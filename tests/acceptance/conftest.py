"""One installation for all tests that only use it: embedded servers, API, worker, scheduler, simulated providers.

It ends with the last of these tests, not with the session: processes that wait take time from those that work.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.launch import Launch, Order
from tests.processes import PATIENCE_S


@pytest.fixture(scope="package")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    home: Path = tmp_path_factory.mktemp("goblin")
    order = Order(home, is_fast=True, is_simulated=True, environment={"GOBLIN_API_KEY": ""})
    with Launch.start(order) as launch:
        yield launch


@pytest.fixture(scope="package")
def client(launch: Launch) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=launch.url, timeout=2 * PATIENCE_S, trust_env=False) as client:
        yield client
