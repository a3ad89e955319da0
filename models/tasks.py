"""RiskTask: which outcome, how far ahead, what counts as positive, from which features."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

Rule = Literal["positive", "negative", "left_out"]
Index = Literal["hourly", "end"]


@dataclass(frozen=True, slots=True)
class Promise:
    """What a ward is told to expect of alarms: at most so many a patient-day, and at least so precise."""

    alarms_per_patient_day: float
    precision: float


@dataclass(frozen=True, slots=True)
class RiskTask:
    """A question a model answers at index times t: does the outcome begin in (t, t + horizon]?

    Attributes:
        name: the task's name; also that of the registered model.
        outcome: in words, for reports.
        horizon: how far ahead.
        feature_service: the Feast service the models read.
        after_onset: the label of index times at or after the onset.
        cut_off: the label of index times whose horizon reaches past the end of a stay in which no onset was seen.
        index: which times: ``hourly`` from the start of the stay, or its ``end`` alone.
        promise: of the alarms of a risk that is asked hourly.
    """

    name: str
    outcome: str
    horizon: timedelta
    feature_service: str
    after_onset: Rule
    cut_off: Rule
    index: Index = "hourly"
    promise: Promise = Promise(alarms_per_patient_day=0.5, precision=0.05)


_TABLE = (
    # On a ward that goes on being watched, an unseen horizon is unknown: nobody looked. So it is left out.
    RiskTask(
        name="deterioration",
        outcome="deterioration of any kind",
        horizon=timedelta(hours=12),
        feature_service="vital_signs_v3",
        after_onset="left_out",
        cut_off="left_out",
    ),
    # The official label of the 2019 challenge: positive from six hours before the onset to the end of the record.
    # The promise is of model and safety net together. NEWS2 is a score of wards, and patients in intensive care live above 7:
    # on 2,386 training patients of the challenge (set A) the net alone sounds 0.83 alarms a patient-day, 4.6 % of them right.
    # So 0.5 cannot be kept. 1.25 leaves the model 0.4 of its own; together 5 % are right, so 4 % can be promised.
    RiskTask(
        name="sepsis",
        outcome="sepsis (Sepsis-3)",
        horizon=timedelta(hours=6),
        feature_service="deterioration_v3",
        after_onset="positive",
        cut_off="negative",
        promise=Promise(alarms_per_patient_day=1.25, precision=0.04),
    ),
    # Labels of the same form, of YAIB (van de Water R, et al. Yet another ICU benchmark. ICLR 2024). On training patients of
    # the eICU demo (1,592 stays) the net alone sounds 0.57 alarms a patient-day, 13 % of them right; 1.0 leaves the model 0.4.
    RiskTask(
        name="aki",
        outcome="acute kidney injury (KDIGO)",
        horizon=timedelta(hours=6),
        feature_service="deterioration_v3",
        after_onset="positive",
        cut_off="negative",
        promise=Promise(alarms_per_patient_day=1.0, precision=0.05),
    ),
    # The question of the 2012 challenge, asked once, after two days in the unit: any death before discharge counts.
    RiskTask(
        name="mortality",
        outcome="death in hospital",
        horizon=timedelta(days=10_000),
        feature_service="mortality_v3",
        after_onset="positive",
        cut_off="negative",
        index="end",
    ),
    # The question of the 2009 challenge, asked once.
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
