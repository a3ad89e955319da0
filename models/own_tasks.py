"""Tasks that a home brings: a question of its own, beside the built-in ones. ``HOME/tasks.json`` holds them."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vigil.features.catalogue import SERVICES
from vigil.features.errors import VigilError
from vigil.features.installed import find_entry_points, load
from vigil.models.tasks import TASKS, AlarmTarget, Population, RiskTask

FILE: Final = "tasks.json"


class TaskError(VigilError):
    """There is no such task, or it cannot be used."""


def _require_service(name: str) -> str:
    if name not in SERVICES:
        raise ValueError(f"{name} is no feature service; expected one of {', '.join(SERVICES)}")
    return name


def _require_new(name: str) -> str:
    if name in TASKS:
        raise ValueError(f'{name} is built in; name yours otherwise, or write task = "{name}"')
    return name


class TaskSettings(BaseModel):
    """A task as people write it.

    Attributes:
        name: of the task and of its registered model.
        outcome: in words, for reports.
        horizon_hours: how far ahead the risk looks.
        feature_service: what the models read.
        index: ``hourly``: the question is asked at each full hour of a stay; ``end``: once, at its end.
        after_onset: label of times at or after the onset.
        cut_off: label of times at which the horizon ends after the stay, if no onset was seen.
        alarms_per_patient_day, precision: the promise that is aimed for.
        first_hours: after the start of a stay, in which nothing is asked yet.
        age_from, age_below: of the patients who are asked about, years.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$"), AfterValidator(_require_new)]
    outcome: Annotated[str, Field(min_length=3, max_length=80)]
    horizon_hours: Annotated[float, Field(ge=0.5, le=24 * 10_000)]
    feature_service: Annotated[str, AfterValidator(_require_service)] = "vital_signs_v3"
    index: Literal["hourly", "end"] = "hourly"
    after_onset: Literal["positive", "left_out"] = "left_out"
    cut_off: Literal["negative", "left_out"] = "left_out"
    alarms_per_patient_day: Annotated[float, Field(gt=0, le=24)] = 0.5
    precision: Annotated[float, Field(gt=0, lt=1)] = 0.05
    first_hours: Annotated[float, Field(ge=0, le=24 * 30)] = 0
    age_from: Annotated[float, Field(ge=0, le=130)] | None = None
    age_below: Annotated[float, Field(ge=0, le=130)] | None = None

    def task(self) -> RiskTask:
        """Return the task."""
        return RiskTask(
            name=self.name,
            outcome=self.outcome,
            horizon=timedelta(hours=self.horizon_hours),
            feature_service=self.feature_service,
            after_onset=self.after_onset,
            cut_off=self.cut_off,
            index=self.index,
            alarm_target=AlarmTarget(self.alarms_per_patient_day, self.precision),
            population=Population(timedelta(hours=self.first_hours), self.age_from, self.age_below),
        )


def find_task(name: str, home: Path) -> RiskTask:
    """Return a task by its name: a built-in one, one of an installed package, or one of the home.

    Raises:
        TaskError: there is none.
        PackageError: a package adds one that cannot be used.
    """
    installed = find_entry_points("vigil.tasks", taken=TASKS)
    if name in TASKS:
        return TASKS[name]
    if name in installed:
        return load(installed[name], RiskTask)
    own = _read(home)
    if name not in own:
        known = ", ".join([*TASKS, *installed, *own])
        raise TaskError(f"{name}: no such task in {home}; expected one of {known}; a cohort brings its own: docs/cohorts.md")
    return own[name].task()


def own_settings(name: str, home: Path) -> TaskSettings | None:
    """Return the settings of a task of a home; None: it is built in, or an installed package's."""
    return _read(home).get(name)


def store_task(settings: TaskSettings, home: Path) -> None:
    """Store a task of a home; one of the same name is replaced."""
    tasks = _read(home) | {settings.name: settings}
    unfinished = (home / FILE).with_suffix(".unfinished")
    unfinished.write_text(json.dumps({name: own.model_dump() for name, own in tasks.items()}, indent=1))
    unfinished.replace(home / FILE)


def _read(home: Path) -> dict[str, TaskSettings]:
    path = home / FILE
    if not path.exists():
        return {}
    try:
        return {name: TaskSettings.model_validate(own) for name, own in json.loads(path.read_text()).items()}
    except (OSError, ValueError, ValidationError) as error:
        raise TaskError(f"{path}: cannot be used ({type(error).__name__}); restore it from a backup, or ingest again") from None
