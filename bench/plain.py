"""What a user of plain Celery would write, for comparison: `celery -A bench.plain worker -P threads`.

`noop` and `join` make the flow; `ask` is one call through the provider's own client and one row of what came of it.
"""

import os
import threading
from functools import cache
from typing import Any

import psycopg
from celery import Celery, chain, group

app = Celery("plain", broker=os.environ["PLAIN_REDIS_URL"], backend=os.environ["PLAIN_REDIS_URL"])
app.conf.update(result_backend_thread_safe=True, broker_connection_retry_on_startup=True)
_own = threading.local()


@app.task
def noop(*_: Any) -> int:
    return 1


@app.task
def join(results: list[int]) -> int:
    return len(results)


def flow() -> Any:
    """1 → 2 side by side → 1."""
    return chain(noop.si(), group(noop.s(), noop.s()), join.s())


@app.task
def ask(model: str, prompt: str) -> str:
    stream = _client().chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        stream_options={"include_usage": True},
    )
    words, usage = [], None
    for chunk in stream:
        words += [choice.delta.content or "" for choice in chunk.choices]
        usage = chunk.usage or usage
    tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    _database().execute(
        "insert into answers (model, output, input_tokens, output_tokens) values (%s, %s, %s, %s)",
        (model, "".join(words), *tokens),
    )
    return "".join(words)


@cache
def _client() -> Any:
    import openai

    return openai.OpenAI(base_url=os.environ["PLAIN_BASE_URL"], api_key="none")


def _database() -> psycopg.Connection:
    found: psycopg.Connection | None = getattr(_own, "connection", None)
    if found is None:
        found = _own.connection = psycopg.connect(os.environ["PLAIN_DATABASE_URL"], autocommit=True)
    return found
