"""RiskTask: which outcome, how far ahead, what counts as positive, from which features."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

Rule = Literal["positive", "negative", "left_out"]


@dataclass(frozen=True, slots=True)
class RiskTask:
    """A question a model answers at every index time t: does the outcome begin in (t, t + horizon]?

    Attributes:
        name: the task's name; also that of the registered model.
        outcome: in words, for reports.
        horizon: how far ahead.
        feature_service: the Feast service the models read.
        after_onset: the label of index times at or after the onset.
        cut_off: the label of index times whose horizon reaches past the end of a stay in which no onset was seen.
    """

    name: str
    outcome: str
    horizon: timedelta
    feature_service: str
    after_onset: Rule
    cut_off: Rule


_TABLE = (
    # On a ward that goes on being watched, an unseen horizon is unknown: nobody looked. So it is left out.
    RiskTask(
        name="deterioration",
        outcome="deterioration of any kind",
        horizon=timedelta(hours=12),
        feature_service="vital_signs_v1",
        after_onset="left_out",
        cut_off="left_out",
    ),
    # The official label of the 2019 challenge: positive from six hours before the onset to the end of the record.
    RiskTask(
        name="sepsis",
        outcome="sepsis (Sepsis-3)",
        horizon=timedelta(hours=6),
        feature_service="deterioration_v1",
        after_onset="positive",
        cut_off="negative",
    ),
)

TASKS: Final[dict[str, RiskTask]] = {task.name: task for task in _TABLE}
