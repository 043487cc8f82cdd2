"""What `goblin keys` refuses before it looks for a database."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Goblin = Callable[..., Result]


@pytest.mark.parametrize("name", ["", " ", "a\nb", " a", "a" * 101, "a\udcff"])
def test_a_name_that_a_table_cannot_show_is_refused(goblin: Goblin, name: str) -> None:
    result = goblin("keys", "create", name, DATABASE_URL="postgresql://127.0.0.1:9/none")
    assert result.exit_code == 2
    assert "printable characters" in result.stderr


@pytest.mark.parametrize("budget", ["much", "nan", "-5", "9000001", "1e30"])
def test_a_budget_that_cannot_be_counted_is_refused(goblin: Goblin, budget: str) -> None:
    result = goblin("keys", "create", "mine", "--budget", budget, DATABASE_URL="postgresql://127.0.0.1:9/none")
    assert result.exit_code == 2
    assert "--budget takes" in result.stderr
    assert not Path("home").exists()
