"""Structured logs on stderr, the same from every process of an instance."""

import logging
import sys
from typing import Any

# structlog takes rich along if it is there, for coloured tracebacks. That is a third of the CPU time that a worker needs
# to start (0.36 s instead of 0.55 s without), so only a terminal gets them.
_without_rich = "rich" not in sys.modules and not sys.stderr.isatty()
if _without_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _without_rich:
        del sys.modules["rich"]


def configure_logs(level: str, form: str) -> None:
    """Set up structlog for this process. `form` is auto (console on a terminal), console or json."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(**fields: Any) -> Any:
    """A logger that adds `fields` to every line."""
    return structlog.get_logger(**fields)
