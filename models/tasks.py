"""Tasks: the questions that models answer, each with outcome, horizon, labels and feature service."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

Rule = Literal["positive", "negative", "left_out"]
Index = Literal["hourly", "end"]


@dataclass(frozen=True, slots=True)
class AlarmTarget:
    """The alarm guarantee that a task aims for.

    Attributes:
        alarms_per_patient_day: alarms sound at most so often.
        precision: at least this share of them is followed by the outcome within the horizon.
    """

    alarms_per_patient_day: float
    precision: float


@dataclass(frozen=True, slots=True)
class Population:
    """Which patients a question is about, and from when on it is asked.

    Attributes:
        first: after the start of a stay, in which nothing is asked yet.
        age_from, age_below: years; None: no limit. Who is of unknown age is asked about.
    """

    first: timedelta = timedelta(0)
    age_from: float | None = None
    age_below: float | None = None


@dataclass(frozen=True, slots=True)
class RiskTask:
    """A question that a model answers at index times t: does the outcome begin in (t, t + horizon]?

    Attributes:
        name: name of the task and of its registered model.
        outcome: in words, for reports.
        horizon: how far ahead the risk looks.
        feature_service: the Feast service that the models read.
        after_onset: label of index times at or after the onset.
        cut_off: label of index times at which the horizon ends after the stay, if no onset was seen.
        index: the index times: ``hourly`` from the start of the stay, or its ``end`` alone.
        alarm_target: the alarm guarantee that an hourly task aims for.
        population: of whom it is asked, in training and evaluation. Patients unlike them are outside a model's domain of use.
    """

    name: str
    outcome: str
    horizon: timedelta
    feature_service: str
    after_onset: Rule
    cut_off: Rule
    index: Index = "hourly"
    alarm_target: AlarmTarget = AlarmTarget(alarms_per_patient_day=0.5, precision=0.05)
    population: Population = Population()


_TABLE = (
    # On a ward, what happened after the end of a record is unknown. So an unseen horizon is left out.
    RiskTask(
        name="deterioration",
        outcome="deterioration of any kind",
        horizon=timedelta(hours=12),
        feature_service="vital_signs_v3",
        after_onset="left_out",
        cut_off="left_out",
    ),
    # The official label of the 2019 challenge: positive from six hours before the onset to the end of the record.
    # The guarantee is for model and safety net together. NEWS2 is a score for wards; in intensive care 7 is usual. On 2,386
    # training patients of the challenge (set A) the net alone sounds 0.83 alarms per patient-day, 4.6 % of them right. So 0.5
    # cannot be kept. 1.25 leaves the model 0.4 of its own. Together 5 % are right, so 4 % can be guaranteed.
    RiskTask(
        name="sepsis",
        outcome="sepsis (Sepsis-3)",
        horizon=timedelta(hours=6),
        feature_service="deterioration_v3",
        after_onset="positive",
        cut_off="negative",
        alarm_target=AlarmTarget(alarms_per_patient_day=1.25, precision=0.04),
    ),
    # Labels of the same form, as in YAIB (van de Water R, et al. Yet another ICU benchmark. ICLR 2024). On training patients
    # of the eICU demo (1,592 stays) the net alone sounds 0.57 alarms per patient-day, 13 % of them right. 1.0 leaves the model
    # 0.4.
    RiskTask(
        name="aki",
        outcome="acute kidney injury (KDIGO)",
        horizon=timedelta(hours=6),
        feature_service="deterioration_v3",
        after_onset="positive",
        cut_off="negative",
        alarm_target=AlarmTarget(alarms_per_patient_day=1.0, precision=0.05),
    ),
    # The question of the 2012 challenge, asked once per stay, after two days in the unit. Any death before discharge counts.
    RiskTask(
        name="mortality",
        outcome="death in hospital",
        horizon=timedelta(days=10_000),
        feature_service="mortality_v3",
        after_onset="positive",
        cut_off="negative",
        index="end",
    ),
    # The question of the 2009 challenge, asked once per stay.
    RiskTask(
        name="hypotension",
        outcome="acute hypotensive episode",
        horizon=timedelta(hours=1),
        feature_service="pressure_v2",
        after_onset="left_out",
        cut_off="negative",
        index="end",
    ),
)

TASKS: Final[dict[str, RiskTask]] = {task.name: task for task in _TABLE}


def describe_outcome(outcome: str, horizon: timedelta) -> str:
    """Return an outcome and how far ahead it is predicted.

    >>> describe_outcome("sepsis", timedelta(hours=6)), describe_outcome("death in hospital", timedelta(days=10_000))
    ('sepsis within 6 h', 'death in hospital')
    """
    return f"{outcome} within {horizon / timedelta(hours=1):g} h" if is_limited(horizon) else outcome


def is_limited(horizon: timedelta) -> bool:
    """Return whether a horizon ends before the stay may; one of a year or more means the rest of the stay."""
    return horizon < timedelta(days=365)


def describe_task(task: RiskTask) -> dict[str, Any]:
    """Return what ``evaluation.json`` says of a task."""
    return {
        "name": task.name,
        "outcome": task.outcome,
        "horizon_hours": task.horizon.total_seconds() / 3600,
        "after_onset": task.after_onset,
        "cut_off": task.cut_off,
    }


def is_asked_once(metadata: Mapping[str, Any]) -> bool:
    """Return whether the task of a model is asked once a stay, by what its training stored of it."""
    index = metadata.get("index")  # models of earlier versions lack it, and their tasks are built in
    return bool((TASKS[str(metadata["task"])].index if index is None else index) == "end")
