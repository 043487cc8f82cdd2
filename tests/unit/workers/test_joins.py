"""Publishing leaves no results behind that nobody will ask for."""

import gc
import uuid

from celery.result import AsyncResult

from goblin.settings import load
from workers.app import create
from workers.canvas import publish
from workflow.parse import parse


def test_a_published_join_is_not_remembered(redis_url: str) -> None:
    settings = load(environ={"REDIS_URL": redis_url})
    app = create(settings)
    plan = parse("chat: a AND chat: b THEN chat: c", goblins=settings.goblins, default_goblin="chat")
    for _ in range(3):
        publish(app, plan, uuid.uuid4(), 1)
    gc.collect()
    assert not [one for one in gc.get_objects() if issubclass(type(one), AsyncResult)]
    app.close()
