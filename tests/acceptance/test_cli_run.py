"""`goblin run` with nothing running, and `goblin demo`: a stack of their own, and nothing left of it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli import simulated

GOBLIN = [sys.executable, "-P", "-m", "cli.main"]
PATIENCE_S = 60
USUAL_PORTS = (3001, 5432, 6379)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    sheet = tmp_path_factory.mktemp("simulator") / "sheet.toml"
    sheet.write_text(simulated.sheet_toml())
    command = [sys.executable, "-m", "providers.simulator", "--sheet", str(sheet)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        process.terminate()


@pytest.fixture(scope="module")
def settings(simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("settings") / "goblin.toml"
    file.write_text(simulated.settings_toml(simulator))
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data outlive a run, so the runs of this module share them."""
    return tmp_path_factory.mktemp("home")


def environment(**more: str) -> dict[str, str]:
    """This one, without what is meant for the goblin of whoever runs the tests."""
    own = ("GOBLIN_", "DATABASE_URL", "REDIS_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**kept, "GOBLIN_PORT": "0", **more}


def run(settings: Path, home: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*GOBLIN, "run", *arguments],
        env=environment(GOBLIN_HOME=str(home), GOBLIN_CONFIG=str(settings)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_at_rest(home: Path) -> bool:
    """Whether no process holds this home."""
    return not [one for one in psutil.process_iter() if any(str(home) in word for word in command_of(one))]


def command_of(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []


def test_with_nothing_running_it_brings_its_own_stack_and_takes_it_away(settings: Path, home: Path) -> None:
    with run(settings, home, "docs-writer: document it", "--file", __file__) as process:
        out, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, told
    assert "ollama/sim-llama" in out
    assert "succeeded, $0.000000000 in all" in out
    assert is_at_rest(home)


def test_a_server_that_is_only_named_by_its_address_streams_and_is_paid_by_the_configured_price(
    simulator: str, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "goblin.toml"
    file.write_text(f"""
        [providers.mine]
        base_url = "{simulator}/at/mine/openai/v1"
        api_key = "mine"
        models = ["sim-gpt"]
        input_usd_mtok = "2"
        output_usd_mtok = "8"
    """)
    with run(file, home, "chat@mine: hello", "--json") as process:
        out, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, told
    *events, ended = [json.loads(line) for line in out.splitlines()]
    pieces = [event["data"]["text"] for event in events if event["event"] == "delta"]
    assert len(pieces) > 1
    assert "".join(pieces).strip() == ended["output"]
    usage = ended["steps"][0]["usage"]
    assert usage["measured"]
    assert Decimal(ended["cost_usd"]) == (2 * Decimal(usage["input"]) + 8 * Decimal(usage["output"])) / 10**6 > 0


def test_ctrl_c_cancels_a_run_whose_stack_ends_with_it(settings: Path, home: Path) -> None:
    with run(settings, home, "chat: a THEN chat: b THEN chat: c") as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "was cancelled" in told
    assert is_at_rest(home)


def test_with_nobody_to_ask_nothing_is_started(tmp_path: Path) -> None:
    nobody = tmp_path / "goblin.toml"
    nobody.write_text(simulated.settings_toml("http://127.0.0.1:9").replace("enabled = true", "enabled = false"))
    with run(nobody, tmp_path / "home", "chat: hi") as process:
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "goblin demo" in told
    assert not (tmp_path / "home").exists()


def test_the_demo_works_where_nothing_helps_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """An empty home, somebody else's settings and keys, and the usual ports taken."""
    empty, temporary, here = (tmp_path / name for name in ("empty", "temporary", "here"))
    for folder in (empty, temporary, here):
        folder.mkdir()
    (here / "api").mkdir()
    (here / "api/__init__.py").write_text("raise RuntimeError('the wrong api')")
    misleading = {
        "HOME": str(empty),
        "TMPDIR": str(temporary),
        "OPENAI_API_KEY": "real",
        "GROQ_API_KEY": "real",
        "GOBLIN_API_KEY": "somebody-elses-key",
        "OLLAMA_BASE_URL": "http://127.0.0.1:9",
        "LOG_LEVEL": "ERROR",
        "DATABASE_URL": "postgresql://127.0.0.1:9/none",
        "REDIS_URL": "redis://127.0.0.1:9",
    }
    with ExitStack() as taken:
        for port in USUAL_PORTS:
            with suppress(OSError):  # somebody else has it: as good
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
        done: Any = subprocess.run(
            [*GOBLIN, "demo"],
            env=environment(**misleading),
            cwd=here,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
        )
    assert done.returncode == 0, done.stderr
    assert "equal to the nano-dollar" in done.stdout
    assert "withdrawn: openai/sim-gpt" in done.stdout
    assert all(f"{name}/sim-" in done.stdout for name in simulated.CAST)
    assert not list(temporary.iterdir())
    assert not list(empty.iterdir())
    assert is_at_rest(temporary)
