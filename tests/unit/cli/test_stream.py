"""The standard streams as a caller may leave them: closed, full, narrow, or without a letter for what is written."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GOBLIN = [sys.executable, "-P", "-m", "cli.main"]


def goblin(*arguments: str, redirected: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Runs it from a shell, which alone can close a stream."""
    line = f'"$@" {redirected}'
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("GOBLIN_", "PYTHONIO"))}
    return subprocess.run(
        ["bash", "-c", line, "bash", *GOBLIN, *arguments], env={**environ, **more}, capture_output=True, text=True
    )


@pytest.mark.parametrize("arguments", [("parse", "chat: hi"), ("parse", "chat: hi", "--json"), ("--help",)])
def test_with_its_output_closed_a_command_does_its_work(arguments: tuple[str, ...]) -> None:
    done = goblin(*arguments, redirected=">&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [("parse", "chat: hi"), ("parse", "chat: hi", "--json"), ("check",)])
@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no device that is full")
def test_a_full_disk_is_named_in_one_line(arguments: tuple[str, ...]) -> None:
    done = goblin(*arguments, redirected=">/dev/full")
    assert (done.returncode, done.stderr) == (1, "goblin: No space left on device\n")


def test_what_the_terminal_cannot_write_becomes_a_question_mark() -> None:
    done = goblin("parse", "chat: caf\xe9", redirected="", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "chat: caf?" in done.stdout


def test_what_is_piped_in_and_no_text_is_refused_as_such() -> None:
    done = goblin(
        *("run", "summarize: it"),
        redirected="< <(printf '\\xff\\xfe')",
        GOBLIN_URL="http://127.0.0.1:9",
        LC_ALL="C.UTF-8",
    )
    assert (done.returncode, done.stderr) == (2, "goblin: what was piped in is not text in UTF-8\n")


@pytest.mark.parametrize("columns", ["40", "80"])
def test_a_terminal_that_is_too_narrow_for_an_id_cuts_none(api: Any, columns: str) -> None:
    run = {"id": "01a22872-7c14-731e-a2b8-26d131908ae0", "status": "succeeded", "created_at": "2030-01-31T10:20:30Z",
           "cost_usd": "0.000000080", "workflow": "docs-writer: document this code THEN analyze: check it"}  # fmt: skip
    api.answer("GET", "/v1/runs", (200, json.dumps({"data": [run]})))
    ours, theirs = pty.openpty()
    environ = {**os.environ, "GOBLIN_URL": api.url, "COLUMNS": columns, "TERM": "xterm"}
    subprocess.run([*GOBLIN, "runs"], env=environ, stdout=theirs, check=True)
    os.close(theirs)
    row = os.read(ours, 65_536).decode().splitlines()[1]
    os.close(ours)
    for part in (run["id"], "2030-01-31T10:20:30", "$0.000000080"):
        assert part in row


def test_ctrl_c_while_it_is_still_being_loaded_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")  # as if it was pressed just here
    done = goblin("parse", "chat: hi", redirected="", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
