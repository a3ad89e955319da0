"""The server's log: lines that say when, where, which model was in use, and what happened. Never a patient."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal

from serving.scoring.champion import Champion

Form = Literal["text", "json"]

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s [%(model)s] %(message)s"
_DATE: Final = "%Y-%m-%dT%H:%M:%S%z"


class _NamesModel(logging.Filter):
    """Adds the model in use to every line, or that it was withdrawn."""

    def __init__(self, champion: Champion) -> None:
        super().__init__()
        self._champion = champion

    def filter(self, record: logging.LogRecord) -> bool:
        model = self._champion.model
        withdrawn = " withdrawn" if model and model.withdrawn else ""
        record.model = f"{model.name} {model.version} {model.feature_service}{withdrawn}" if model else "no model"
        return True


class _Json(logging.Formatter):
    """One JSON object an event, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": record.levelname,
                "logger": record.name,
                "model": getattr(record, "model", None),
                "message": record.getMessage(),
            }
        )


def write_logs(champion: Champion, form: Form = "text") -> None:
    """Write what Vigil has to say to the standard output, from now on; once a process.

    Args:
        champion: whose name is in every line.
        form: lines for people, or JSON for programs; then BentoML's own lines are JSON, too.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Json() if form == "json" else logging.Formatter(_FORMAT, _DATE))
    handler.addFilter(_NamesModel(champion))
    if form == "json":
        for name in ("bentoml", "circus", "uvicorn"):
            logging.getLogger(name).handlers = [handler]
            logging.getLogger(name).propagate = False
    logger = logging.getLogger("vigil")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def place_of(error: BaseException) -> str:
    """Where it was raised: what of it can be logged without its message, which may hold a patient's data."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "nowhere"
