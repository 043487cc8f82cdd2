"""The simulator's openai dialect, judged by Together's client, which cannot be installed beside ours: it wants an older
rich. GOBLIN_TOGETHER_PYTHON names a Python of its own that has the package; without it these tests are skipped.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

PYTHON = os.environ.get("GOBLIN_TOGETHER_PYTHON", "")
CLIENT = Path(__file__).parents[1] / "fakes" / "together_client.py"
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="set GOBLIN_TOGETHER_PYTHON to a Python with the package together, which needs rich < 15"
)


@pytest.fixture(scope="module")
def _asked():
    return {}


@pytest.fixture
def told(simulator, _asked):
    if not _asked:
        environment = {"PATH": os.environ["PATH"]}
        run = subprocess.run(
            [PYTHON, str(CLIENT), f"{simulator.url}/openai"],
            capture_output=True, text=True, timeout=90, env=environment, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-2000:]
        _asked.update(json.loads(run.stdout), calls=simulator.get("calls"))
    return _asked


def test_an_answer_is_about_the_code_and_is_counted(told):
    assert "`Basket`" in told["text"]
    assert told["usage"] == [told["calls"][0]["input_tokens"], told["calls"][0]["output_tokens"]]


def test_a_stream_says_the_same_as_a_whole_answer(told):
    assert (told["streamed"], told["finish"]) == (told["text"], "stop")


def test_a_call_of_a_tool_arrives(told):
    assert told["call"] == ["look", "tool_calls"]


def test_a_refusal_is_the_clients_own_error(told):
    assert list(told["refused"].values()) == [401, 404, 429, 400, 503]


def test_an_error_in_mid_stream_reaches_the_client(told):
    assert isinstance(told["broken"], str)


def test_a_cut_stream_is_no_whole_one(told):
    assert isinstance(told["cut"], str)


def test_reasoning_is_a_field_of_its_own(told):
    assert told["thought"].startswith("The task is")


def test_texts_become_vectors(told):
    assert told["dimensions"] == [64, 64]
