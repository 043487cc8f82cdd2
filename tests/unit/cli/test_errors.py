"""How commands fail: one line on stderr with the cure, and the exit code of its kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from cli.complain import report
from goblin.errors import ConfigError, NotFound, Unavailable

Goblin = Callable[..., Result]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("set a key"), 2),
        (NotFound("no run"), 2),
        (Unavailable("try again"), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("oops"), 1),
    ],
)
def test_the_exit_code_says_whose_turn_it_is(error: BaseException, code: int) -> None:
    assert report(error) == code


def test_nobody_sees_a_traceback_unless_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOBLIN_DEBUG", raising=False)
    report(ZeroDivisionError("oops"))
    assert "Traceback" not in (quiet := capsys.readouterr().err)
    assert len(quiet.splitlines()) == 1
    monkeypatch.setenv("GOBLIN_DEBUG", "1")
    report(ZeroDivisionError("oops"))
    assert "ZeroDivisionError" in capsys.readouterr().err.split("\n", 1)[1]


def test_a_command_that_needs_an_api_says_how_to_get_one(goblin: Goblin) -> None:
    result = goblin("runs", GOBLIN_PORT="0")
    assert result.exit_code == 1
    assert result.stderr == "goblin: no API is running here: start one with `goblin up`, or set GOBLIN_URL\n"


def test_an_api_that_does_not_answer_is_named(goblin: Goblin) -> None:
    result = goblin("runs", GOBLIN_URL="http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "no API answers at http://127.0.0.1:9" in result.stderr


def test_an_unknown_option_is_one_line(goblin: Goblin) -> None:
    result = goblin("run", "chat: a", "--nope")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "--nope" in result.stderr


def test_leaving_a_run_to_nobody_is_refused(goblin: Goblin) -> None:
    result = goblin("run", "chat: a", "--detach", GOBLIN_PORT="0", OPENAI_API_KEY="sk-1")
    assert result.exit_code == 2
    assert "goblin up" in result.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:3001", "http://", "http://[::1", "ftp://goblin"])
def test_an_address_that_is_none_is_refused_with_the_cure(goblin: Goblin, url: str) -> None:
    result = goblin("runs", GOBLIN_URL=url)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"goblin: GOBLIN_URL {url!r} is no address")


@pytest.mark.parametrize("key", ["gob_a\n", "gob_\xe9"])
def test_a_key_that_no_header_can_carry_is_named(goblin: Goblin, key: str) -> None:
    result = goblin("runs", GOBLIN_API_KEY=key, GOBLIN_URL="http://127.0.0.1:9")
    assert result.exit_code == 2
    assert result.stderr.startswith("goblin: GOBLIN_API_KEY holds what no key has")


def test_commands_read_the_file_of_the_environment_too(goblin: Goblin, api: Any) -> None:
    api.answer("GET", "/v1/runs", (200, '{"data": []}'))
    Path(".env").write_text(f"GOBLIN_URL={api.url}\nGOBLIN_API_KEY=gob_1\n")
    assert goblin("runs").exit_code == 0
    assert api.asked[0].headers["authorization"] == "Bearer gob_1"


@pytest.mark.parametrize("command", [("watch",), ("watch", "--json"), ("cancel",), ("explain",), ("batch", "status")])
def test_an_empty_id_is_told_from_one_that_nobody_has(goblin: Goblin, api: Any, command: tuple[str, ...]) -> None:
    result = goblin(*command, "", GOBLIN_URL=api.url)
    assert (result.exit_code, api.asked) == (2, [])
    assert "the id is empty" in result.stderr


def test_an_id_is_one_part_of_the_path_whatever_is_in_it(goblin: Goblin, api: Any) -> None:
    goblin("explain", "a?b#c/d", GOBLIN_URL=api.url)
    assert api.asked[0].path == "/v1/runs/a%3Fb%23c%2Fd/decisions"


def test_bytes_that_are_no_text_are_refused_as_such(goblin: Goblin, api: Any) -> None:
    result = goblin("run", "chat: a\udcff", GOBLIN_URL=api.url)
    assert result.exit_code == 2
    assert "not text in UTF-8" in result.stderr


@pytest.mark.parametrize("since", ["yesterday", "2030-01-31"])
def test_a_moment_without_its_offset_is_refused_with_an_example(goblin: Goblin, api: Any, since: str) -> None:
    result = goblin("costs", "--since", since, GOBLIN_URL=api.url)
    assert (result.exit_code, api.asked) == (2, [])
    assert "2030-01-31T00:00:00Z" in result.stderr


def test_help_tells_what_is_taken_when_nothing_is_given(goblin: Goblin) -> None:
    shown = " ".join(goblin("run", "--help", COLUMNS="200").stdout.split())
    assert "(default: stdin, if piped)" in shown
    assert "(default: by its suffix)" in shown
