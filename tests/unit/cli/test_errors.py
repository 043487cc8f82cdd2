"""How commands fail: one line on stderr with the cure, and the exit code of its kind."""

from collections.abc import Callable

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
