"""Configures logging: structlog to standard error, as text or JSON, with the ids of the request.

Secrets are not logged. URLs are logged as paths without their query, because a query may contain keys and tokens.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from app.api.request_context import add_request_fields
from app.config import LogFormat, LogLevel
from app.jobs.connection_failures import connection_failed

_LEVELS = {
    LogLevel.VERBOSE: logging.DEBUG,
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.LOG: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
    LogLevel.FATAL: logging.CRITICAL,
}
_QUIETED_LOGGERS = (
    *("aiobotocore", "botocore", "aiosqlite", "asyncio", "urllib3", "alembic", "procrastinate"),
    "python_multipart",
)


def configure_logging(level: LogLevel, log_format: LogFormat) -> None:
    """Send the records of structlog and of the standard library through one formatter to standard error."""
    shared: list[structlog.types.Processor] = [
        add_request_fields,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor
    if log_format is LogFormat.JSON:
        renderer = structlog.processors.JSONRenderer()
        shared.append(structlog.processors.format_exc_info)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _StandardErrorHandler()
    handler.addFilter(_is_no_lost_connection)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _QUIETED_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # psycopg warns of connections that failed or were lost. The code that needed the connection gets an exception.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").addFilter(_is_not_logged_elsewhere)


class _StandardErrorHandler(logging.StreamHandler[TextIO]):
    """Looks up `sys.stderr` for each record: a temporary replacement (as in tests) may be closed when the next record comes."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # pyright: ignore[reportIncompatibleVariableOverride]
        return sys.stderr


# An aborted transfer has its own log line already. A failed start prints one line, and should print nothing else.
_LOGGED_ELSEWHERE = frozenset(
    {
        "ASGI callable returned without completing response.",
        "Started server process [%d]",
        "Waiting for application startup.",
        "Application startup failed. Exiting.",
    }
)


def _is_not_logged_elsewhere(record: logging.LogRecord) -> bool:
    return record.msg not in _LOGGED_ELSEWHERE


def _is_no_lost_connection(record: logging.LogRecord) -> bool:
    """False for procrastinate's tracebacks about a lost connection: each task of a worker logs one, and `app.jobs.postgres_broker` logs
    the reason when the worker ends."""
    lost = record.exc_info is not None and connection_failed(record.exc_info[1])
    return not (lost and record.name.startswith("procrastinate"))
