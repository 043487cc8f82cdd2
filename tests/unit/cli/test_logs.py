"""The logs of children: only what is new, only whole lines, and warnings in words."""

from pathlib import Path

from cli.logs import Tail, value_of, warning_in, words

WARNING = '{"event": "attempt.failed", "level": "warning", "timestamp": "now", "run": "r", "error": null}'


def test_a_tail_gives_whole_lines_that_came_after_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    tail = Tail(log)
    with log.open("a") as file:
        file.write("one\ntw")
    assert list(tail.read()) == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    assert list(tail.read()) == ["two"]


def test_a_tail_may_be_there_before_its_file(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "log")
    assert list(tail.read()) == []
    (tmp_path / "log").write_text("first\n")
    assert list(tail.read()) == ["first"]


def test_warnings_are_told_in_words_and_the_rest_is_not() -> None:
    assert warning_in(WARNING) == "attempt.failed run=r"
    assert warning_in(WARNING.replace("warning", "info")) is None
    assert warning_in("plain text") is None


def test_what_is_no_event_is_left_as_it_is() -> None:
    assert words("  Traceback: oops ") == "Traceback: oops"
    assert value_of("{broken") == {}
