"""A worker whose calls are answered inside the process: `python -m bench.null_worker worker …`, as `goblin worker …`.

All that `goblin worker` does is done, but for the network: what remains is what we cost.
"""

import httpx

from cli.main import main
from goblin.settings import environment, load
from providers import registry
from providers.call import Caller
from workers.app import app, queues
from workers.runtime import build
from workers.tasks import process

_ANSWER = (
    b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"ok"},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}\n\n'
    b"data: [DONE]\n\n"
)


class NullTransport(httpx.BaseTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=_ANSWER)


if __name__ == "__main__":
    settings = load()
    consumed = queues(registry.load(settings, environment()).providers.values())
    process.adopt(build(settings, consumed, process.send(app), Caller(transport=NullTransport)))
    main()
