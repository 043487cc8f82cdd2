"""Flower in this process, as its own command would start it, but for one thing: it looks at the workers repeatedly.

By itself it asks them once which queues they consume, so that the queues of whoever comes later have no length.
"""

import logging
import signal
from typing import Any

LOOK_EVERY_MS = 15_000


def serve(app: Any, *, address: str, port: int, basic_auth: str, max_tasks: int) -> None:
    """Until SIGTERM or Ctrl-C. What else is in the environment as FLOWER_…, or in ./flowerconfig.py, counts, too."""
    from flower.app import Flower
    from flower.command import apply_env_options, apply_options, extract_settings, print_banner, setup_logging
    from flower.options import default_options as options
    from flower.urls import settings
    from tornado.ioloop import PeriodicCallback

    apply_env_options()
    apply_options("goblin flower", ["--logging=none"])
    options.address, options.port, options.max_tasks = address, port, max_tasks
    options.basic_auth = basic_auth.split(",")
    extract_settings()
    setup_logging()
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)  # that nobody is there yet is not worth a line

    flower = Flower(capp=app, options=options, **settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print_banner(app, "ssl_options" in settings, flower.start_http_server())
    PeriodicCallback(flower.update_workers, LOOK_EVERY_MS).start()
    try:
        flower.start()
    except KeyboardInterrupt:
        flower.stop()
