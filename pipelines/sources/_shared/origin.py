"""What all formats of exported cohorts share: ``vigil.json``, by which a cohort says what it is, outcomes and attributes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pydantic import ValidationError

from vigil.models.own_tasks import TaskSettings, find_task
from vigil.models.tasks import RiskTask
from vigil.pipelines.sources import STAYS, Source, SourceError

ORIGIN: Final = "vigil.json"  # in the folder of an export
OUTCOME: Final = {True: "OUTCOME//", False: "OUTCOME_BY//"}  # codes: before the kind, by whether the onset is known
_FORMAT: Final = 1  # of the exported tables; a change that an older version would misread raises it


def attributes_of(stays: pd.DataFrame) -> dict[str, "pd.Series[Any]"]:
    """Return the attributes of stays, without those that are missing: numbers as floats, all else as texts."""
    attributes = {}
    for name in stays.columns.difference(list(STAYS)):
        known = stays[name].dropna()
        is_number = pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known)
        attributes[str(name)] = known.astype("float64" if is_number else "string")
    return attributes


@dataclass(frozen=True)
class Origin:
    """Where an exported cohort is from.

    Attributes:
        source: name of the cohort, as reports show it.
        simulated: whether its patients are simulated.
        deidentified: whether its pseudonyms are made with the published key, since its patients need no secret one.
        task: name of its question.
        own_task: settings of a question that is not built in.
        format: of the export.
    """

    source: str
    simulated: bool
    deidentified: bool
    task: str
    own_task: dict[str, Any] | None = None
    format: int = _FORMAT

    def write(self, path: Path) -> None:
        """Write it; an export writes it last, so that an unfinished one has none."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def question(self, folder: Path) -> tuple[RiskTask, TaskSettings | None]:
        """Return the task, and its settings if it is not built in.

        Raises:
            TaskError: no such task is known here.
        """
        if self.own_task is None:
            return find_task(self.task, folder), None
        settings = TaskSettings.model_validate(self.own_task)
        return settings.task(), settings


def read_origin(path: Path) -> Origin:
    """Read the origin of an export.

    Raises:
        SourceError: it cannot be used, or a newer version of Vigil wrote it.
    """
    try:
        origin = Origin(**json.loads(path.read_text(encoding="utf-8")))
        if origin.own_task is not None:
            TaskSettings.model_validate(origin.own_task)
    except (OSError, TypeError, ValueError, ValidationError) as error:
        raise SourceError(f"{path}: cannot be used ({type(error).__name__}); export the cohort again") from None
    if origin.format != _FORMAT:
        raise SourceError(f"{path}: format {origin.format}; expected {_FORMAT}; read it with the version that wrote it")
    return origin


class ExportedCohort(Source):
    """The base of cohorts that ``vigil cohort export`` wrote: what they are is in their :data:`ORIGIN`."""

    shifted_dates = True  # times were judged when they were first ingested
    is_export = True

    def __init__(self, data: Path) -> None:
        """Read what the cohort in a folder is.

        Raises:
            SourceError: the folder says nothing that can be used.
        """
        origin = read_origin(data / ORIGIN)
        self.name, self.simulated, self.deidentified = origin.source, origin.simulated, origin.deidentified
        self.task, self.own_task = origin.question(data)
        self.data = data
