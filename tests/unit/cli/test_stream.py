"""The standard streams as a caller may leave them: closed, full, or in an encoding that lacks what is written."""

import os
import subprocess
import sys
from pathlib import Path

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
