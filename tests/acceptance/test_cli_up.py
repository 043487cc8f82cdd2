"""`goblin up` with its simulator, as a user has it: real processes, used through the command line, and ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ROOT = Path(__file__).parents[2]
GOBLIN = [sys.executable, "-P", "-m", "cli.main"]
PATIENCE_S = 60


def environment(home: Path, **more: str) -> dict[str, str]:
    """This one, without what is meant for the goblin of whoever runs the tests."""
    own = ("GOBLIN_", "DATABASE_URL", "REDIS_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**kept, "GOBLIN_HOME": str(home), "GOBLIN_PORT": "0", **more}


@dataclass(frozen=True, slots=True)
class Up:
    """A running `goblin up`."""

    process: subprocess.Popen[str]
    home: Path
    url: str

    def goblin(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*GOBLIN, *arguments],
            env=environment(self.home, GOBLIN_URL=self.url),
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def json(self, *arguments: str) -> Any:
        done = self.goblin(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@contextmanager
def up(home: Path, *arguments: str) -> Iterator[Up]:
    process = subprocess.Popen(
        [*GOBLIN, "up", "--port", "0", "--with-simulator", *arguments],
        env=environment(home),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Up(process, home, said(process, "  API").split()[1])
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def said(process: subprocess.Popen[str], what: str) -> str:
    """The next line that a process prints which holds this."""
    assert process.stdout
    heard = []
    for line in process.stdout:
        heard.append(line)
        if what in line:
            return line
    raise AssertionError(f"it never said {what!r}:\n{''.join(heard)}")


def processes_over(home: Path) -> list[psutil.Process]:
    """Those that have this home on their command line or in their environment."""
    return [process for process in psutil.process_iter() if _is_over(process, str(home))]


def _is_over(process: psutil.Process, home: str) -> bool:
    try:
        words = process.cmdline()
        return any(home in word for word in words) or (
            "cli.main" in words and process.environ().get("GOBLIN_HOME") == home
        )
    except psutil.Error:
        return False


def wait_for_nobody(home: Path) -> None:
    gone_by = time.monotonic() + PATIENCE_S
    while rest := processes_over(home):
        assert time.monotonic() < gone_by, [process.cmdline() for process in rest]
        psutil.wait_procs(rest, timeout=1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One for all; at the end it is asked to stop, and does."""
    home = tmp_path_factory.mktemp("up")
    with up(home) as it:
        yield it
    assert it.process.returncode == 0
    assert not (home / "up.json").exists()
    wait_for_nobody(home)


def test_a_parallel_workflow_streams_lines_under_the_names_of_its_steps(running: Up) -> None:
    done = running.goblin("run", "chat: hello AND summarize: this THEN chat: bye", "--text", "some text")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(any(line.startswith(f"{step} | ") for line in lines) for step in ("step1", "step2", "step3"))
    assert lines[-1].startswith("run ")
    assert "succeeded" in lines[-1]


def test_json_ends_with_the_run_and_its_output(running: Up) -> None:
    done = running.goblin("run", "chat: echo", "--json", stdin="from a pipe")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines if line.get("event", "").startswith("step.")] == [
        "step.started",
        "step.finished",
    ]
    text = "".join(line["data"]["text"] for line in lines if line.get("event") == "delta")
    assert lines[-1]["output"] == text.strip()


def test_a_run_can_be_left_watched_explained_and_paid(running: Up) -> None:
    run = running.goblin("run", "chat: hello", "--detach").stdout.strip()
    watched = running.goblin("watch", run)
    assert watched.returncode == 0
    assert "== step1 chat: succeeded" in watched.stdout
    assert running.json("runs", "--limit", "1")[0]["id"] == run
    explained = running.goblin("explain", run).stdout
    assert all(f"{name}/sim-" in explained for name in ("openai", "anthropic", "gemini", "ollama"))
    assert ": disabled" in explained  # the obstacles, which all decisions share
    assert running.json("costs", "--by", "goblin")["data"]


def test_a_run_can_be_cancelled(running: Up) -> None:
    long = " THEN ".join(["chat: hello"] * 150)  # it must not be over before the next command has started
    run = running.goblin("run", long, "--detach").stdout.strip()
    assert running.goblin("cancel", run).returncode == 0
    watched = running.goblin("watch", run)
    assert watched.returncode == 1
    assert f"run {run} cancelled" in watched.stdout


def test_one_step_of_a_run_can_be_cancelled(running: Up) -> None:
    long = " THEN ".join(["chat: hello"] * 150)
    run = running.goblin("run", long, "--detach").stdout.strip()
    assert running.goblin("cancel", run, "step150").stdout == f"step150 of run {run} is cancelled\n"
    assert running.goblin("cancel", run, "step151").returncode != 0
    assert running.goblin("cancel", run).returncode == 0
    assert f"run {run} cancelled" in running.goblin("watch", run).stdout


def test_ctrl_c_leaves_the_run_to_the_api(running: Up) -> None:
    with subprocess.Popen(
        [*GOBLIN, "run", "chat: hello THEN chat: again"],
        env=environment(running.home, GOBLIN_URL=running.url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        said(watching, "step1")
        watching.send_signal(signal.SIGINT)
        _, told = watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 130
    assert "goes on" in told
    run = told.split()[1]
    assert running.goblin("watch", run).returncode == 0


def test_its_simulator_makes_vectors_too(running: Up) -> None:
    asked = {"model": "text-embedding-3-small", "input": ["red fox", "blue sky"]}
    made = httpx.post(f"{running.url}/v1/embeddings", json=asked, timeout=PATIENCE_S, trust_env=False).json()
    assert [len(one["embedding"]) for one in made["data"]] == [8, 8]
    assert made["cost_usd"] == "0.000000080"


def test_providers_show_what_was_measured(running: Up) -> None:
    shown = running.json("providers")
    assert any(one["health"] for one in shown)


def test_commands_find_an_api_on_an_unusual_port_by_its_home(running: Up) -> None:
    done = subprocess.run(
        [*GOBLIN, "runs"], env=environment(running.home), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr


def test_a_batch_script_submits_nothing_twice(running: Up, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    command = [sys.executable, str(ROOT / "examples/enqueue.py"), str(rows)]

    def enqueue(*more: str) -> str:
        environ = environment(running.home, GOBLIN_URL=running.url)
        return subprocess.run([*command, *more], env=environ, capture_output=True, text=True, timeout=60).stdout

    enqueue("--make", "30")
    assert enqueue().splitlines()[-1] == "30 new, 0 known, 0 skipped, 0 refused"
    assert enqueue().splitlines()[-1] == "0 new, 0 known, 30 skipped, 0 refused"
    (tmp_path / "rows.jsonl.done").unlink()
    with rows.open("a") as file:
        file.write('{"workflow": "THEN"}\n')
    told = enqueue().splitlines()
    assert told[-1] == "0 new, 30 known, 0 skipped, 1 refused"
    assert told[0].startswith("line 31: 422")


def test_a_worker_that_is_killed_comes_back(running: Up) -> None:
    workers = [one for one in processes_over(running.home) if "worker" in one.cmdline()]
    for worker in workers:
        worker.kill()
    said(running.process, "worker ended with -9: starting it again")
    said(running.process, "worker is started again")
    assert running.goblin("run", "chat: still there?").returncode == 0


def test_a_second_one_over_the_same_data_is_refused_with_the_cure(running: Up) -> None:
    done = subprocess.run(
        [*GOBLIN, "up"], env=environment(running.home), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert "GOBLIN_HOME" in done.stderr


def test_a_port_that_is_taken_is_named_with_the_cure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*GOBLIN, "up", "--port", str(port)], env=environment(tmp_path), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port 0" in done.stderr
    assert not (tmp_path / "postgres").exists()


def test_other_machines_are_not_served_without_a_key(tmp_path: Path) -> None:
    done = subprocess.run(
        [*GOBLIN, "up", "--host", "0.0.0.0", "--port", "0"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert "goblin keys create" in done.stderr
    wait_for_nobody(tmp_path)


def test_one_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    with up(tmp_path) as it:
        assert len(processes_over(tmp_path)) > 5
        it.process.kill()
        it.process.communicate(timeout=PATIENCE_S)
    wait_for_nobody(tmp_path)
