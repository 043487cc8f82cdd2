"""What the keeper promises, on stacks without servers: it stops everything, whatever happened to its owner."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli.embedded import Stack
from goblin.errors import ConfigError, Unavailable

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]
PARENT = [sys.executable, "-c", "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True); input()"]
OWNER = """
import json, sys, time
from pathlib import Path
from cli.embedded import Stack

home = Path(sys.argv[1])
stack = Stack.start(home, database_url="none", redis_url="none")
stack.sweep(home / "scratch")
pids = [stack.spawn(str(n), argv, log=home / f"{n}.log", grace_s=0.2) for n, argv in enumerate(json.loads(sys.argv[2]))]
print(json.dumps(pids), flush=True)
time.sleep(600)
"""


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Stack]:
    with Stack.start(tmp_path, database_url="none", redis_url="none") as stack:
        yield stack


def first_line(log: Path) -> str:
    """The first line of the output of something spawned, once it is there."""
    deadline = time.monotonic() + 30
    while not (text := log.read_text()).endswith("\n"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing in {log}")
    return text.splitlines()[0]


def wait_for_the_keeper(home: Path) -> None:
    with (home / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_an_owner_killed_outright_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, "-c", OWNER, str(tmp_path), json.dumps([SLEEP, STUBBORN])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        pids = json.loads(owner.stdout.readline())  # type: ignore[union-attr]
        assert first_line(tmp_path / "1.log") == "deaf"
        assert all(psutil.pid_exists(pid) for pid in pids)
        owner.kill()
    wait_for_the_keeper(tmp_path)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert not (tmp_path / "scratch").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_keeper_killed_outright_takes_everything_with_it(keeper: Stack, tmp_path: Path) -> None:
    spawned = psutil.Process(keeper.spawn("sleeper", SLEEP, log=tmp_path / "log"))
    spawned.parent().kill()
    spawned.wait(10)
    with pytest.raises(Unavailable, match="start again"):
        keeper.wait_exit(10)


def test_a_keyboard_interrupt_is_the_owners_to_answer(keeper: Stack, tmp_path: Path) -> None:
    spawned = psutil.Process(keeper.spawn("sleeper", SLEEP, log=tmp_path / "log"))
    spawned.parent().send_signal(signal.SIGINT)
    keeper.stop("sleeper")
    ended = keeper.wait_exit(10)
    assert ended
    assert (ended.name, ended.code) == ("sleeper", -signal.SIGTERM)


def test_a_keeper_that_is_terminated_stops_its_children(keeper: Stack, tmp_path: Path) -> None:
    spawned = psutil.Process(keeper.spawn("sleeper", SLEEP, log=tmp_path / "log"))
    spawned.parent().terminate()
    spawned.wait(10)


def test_what_ends_by_itself_is_reported_with_its_code(keeper: Stack, tmp_path: Path) -> None:
    keeper.spawn("seven", [sys.executable, "-c", "raise SystemExit(7)"], log=tmp_path / "log")
    ended = keeper.wait_exit(10)
    assert ended
    assert (ended.name, ended.code) == ("seven", 7)


def test_a_name_is_free_again_when_its_process_has_ended(keeper: Stack, tmp_path: Path) -> None:
    keeper.spawn("one", SLEEP, log=tmp_path / "log")
    with pytest.raises(ConfigError, match="running already"):
        keeper.spawn("one", SLEEP, log=tmp_path / "log")
    keeper.stop("one")
    keeper.wait_exit(10)
    keeper.spawn("one", SLEEP, log=tmp_path / "log")


def test_a_program_that_does_not_exist_is_named(keeper: Stack, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-such-program"):
        keeper.spawn("ghost", ["/no-such-program"], log=tmp_path / "log")


def test_what_does_not_stop_within_its_grace_is_killed(keeper: Stack, tmp_path: Path) -> None:
    keeper.spawn("deaf", STUBBORN, log=tmp_path / "log", grace_s=0.2)
    assert first_line(tmp_path / "log") == "deaf"
    keeper.stop("deaf")
    ended = keeper.wait_exit(10)
    assert ended
    assert ended.code == -signal.SIGKILL


def test_grandchildren_go_with_their_parent(keeper: Stack, tmp_path: Path) -> None:
    keeper.spawn("parent", PARENT, log=tmp_path / "log")
    grandchild = psutil.Process(int(first_line(tmp_path / "log")))
    keeper.wait_exit(10)  # its input is at its end, so the parent fails at once
    psutil.wait_procs([grandchild], timeout=10)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_a_process_gets_this_environment_and_its_own_additions(keeper: Stack, tmp_path: Path) -> None:
    show = "import os; print(os.environ['PATH'] + os.environ['GOBLIN_EXTRA'])"
    keeper.spawn("show", [sys.executable, "-c", show], log=tmp_path / "log", env={"GOBLIN_EXTRA": "!"})
    keeper.wait_exit(10)
    assert (tmp_path / "log").read_text() == os.environ["PATH"] + "!\n"


def test_nothing_can_be_started_on_a_closed_stack(tmp_path: Path) -> None:
    stack = Stack.start(tmp_path, database_url="none", redis_url="none")
    stack.close()
    stack.close()
    with pytest.raises(Unavailable, match="closed"):
        stack.spawn("late", SLEEP, log=tmp_path / "log")
