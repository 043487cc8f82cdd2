"""Structured logs: events named noun.participle, ids bound in context, never a secret or a prompt."""

import logging
import sys
import traceback
from typing import Any

import structlog


def configure(level: str = "INFO") -> None:
    """Once per process, by its entry point. JSON lines off a terminal, readable ones on it; everything to stderr."""
    renderer: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("httpx", "httpcore"):  # at DEBUG they log what vendors answer, headers included
        logging.getLogger(name).setLevel(logging.WARNING)


def crash(error: Exception) -> dict[str, str]:
    """What may be logged of a fault of our own: where it happened. Its words may hold what somebody said."""
    frames = traceback.format_tb(error.__traceback__, limit=-8)
    return {"error": type(error).__name__, "frames": "".join(frames)}
