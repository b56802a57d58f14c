"""The logger that the package's functions take."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """
    What the loggers of :mod:`logging` and those of Airflow's tasks and triggers have in common.

    On Airflow 3.1 and later, ``self.log`` is a structlog logger, which is not a :class:`logging.Logger`.
    """

    def debug(self, message: Any, /, *arguments: Any) -> Any:
        """Log a message at the level of that name."""

    def info(self, message: Any, /, *arguments: Any) -> Any:
        """Log a message at the level of that name."""

    def warning(self, message: Any, /, *arguments: Any) -> Any:
        """Log a message at the level of that name."""

    def error(self, message: Any, /, *arguments: Any) -> Any:
        """Log a message at the level of that name."""
