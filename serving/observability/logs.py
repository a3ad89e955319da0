"""The server's log. Each line has time, level, logger, the model in use and a message. It never names a patient."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:  # it takes seconds to import, and not every process has a model
    from vigil.models.registry import RegisteredModel

LogFormat = Literal["text", "json"]

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s [%(model)s] %(message)s"
_DATE: Final = "%Y-%m-%dT%H:%M:%S%z"


class ModelHolder(Protocol):
    """Holds the model in use."""

    @property
    def model(self) -> "RegisteredModel | None":
        """The model in use; None: there is none."""
        ...


class _ModelFilter(logging.Filter):
    """Filter that adds the model in use to every record, and whether it was withdrawn."""

    def __init__(self, champion: ModelHolder) -> None:
        super().__init__()
        self._champion = champion

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the model to a record. No record is dropped."""
        model = self._champion.model
        withdrawn = " withdrawn" if model and model.withdrawn else ""
        record.model = f"{model.name} {model.version} {model.feature_service}{withdrawn}" if model else "no model"
        return True


class _JsonFormatter(logging.Formatter):
    """Formatter that writes one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON."""
        return json.dumps(
            {
                "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": record.levelname,
                "logger": record.name,
                "model": getattr(record, "model", None),
                "message": record.getMessage(),
            }
        )


def configure_logging(champion: ModelHolder, log_format: LogFormat = "text") -> None:
    """Send Vigil's log to standard output. Called once in each process.

    Args:
        champion: the holder of the model that every line names.
        log_format: ``text`` for people, or ``json`` for programs; with ``json`` BentoML's own lines are JSON, too.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else logging.Formatter(_FORMAT, _DATE))
    handler.addFilter(_ModelFilter(champion))
    if log_format == "json":
        for name in ("bentoml", "circus", "uvicorn"):
            logging.getLogger(name).handlers = [handler]
            logging.getLogger(name).propagate = False
    logger = logging.getLogger("vigil")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def error_location(error: BaseException) -> str:
    """Return file and line where an error was raised. Unlike its message, they hold no patient's data and can be logged."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "nowhere"
