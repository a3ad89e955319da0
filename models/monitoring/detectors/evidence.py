"""What faults are named from: the last day beside the day before, and both beside the days of training patients."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from features.derived import MEASUREMENT_ERROR
from models.monitoring.detectors.step_changes import DAY, SLOTS, Steps, steps
from models.monitoring.signal_profile import series
from models.monitoring.signal_reference import LEAST_HOURS, present_hours

BEFORE, NOW = 0, 1  # windows


@dataclass(frozen=True)
class Evidence:
    """What is there to judge; what is None is not judged.

    Attributes:
        rows: what came in the last two days (:mod:`models.monitoring.received`).
        until: the end of the last day.
        reference: series of training patients' days (:mod:`models.monitoring.signal_reference`).
        log: predictions of the last day: ``subject_id, index_time, probability, model_version, feature_service`` and features.
        champion: its model version and feature service.
        population: training patients' days (:func:`models.monitoring.reference.patient_days`, those drawn as days).
        judged: patients whose outcome is known (:func:`models.monitoring.reference.highest_risks`).
        judged_reference: the same of training patients.
    """

    rows: pd.DataFrame
    until: pd.Timestamp
    reference: pd.DataFrame
    log: pd.DataFrame | None = None
    champion: tuple[str, str] | None = None
    population: pd.DataFrame | None = None
    judged: pd.DataFrame | None = None
    judged_reference: pd.DataFrame | None = None

    @cached_property
    def all_series(self) -> pd.DataFrame:
        """Of both days."""
        age = (self.until - self.rows["recorded_at"]).to_numpy()
        known = (self.rows["subject_id"] != "") & (self.rows["signal"] != "")  # others are counted, and belong to no series
        inside = (age >= np.timedelta64(0)) & (age < 2 * DAY) & known.to_numpy()
        window = np.where(age < DAY, NOW, BEFORE)
        found = series(self.rows.assign(window=window)[inside])
        return found.assign(hours=present_hours(found).to_numpy())

    @cached_property
    def now(self) -> pd.DataFrame:
        """Series of the last day."""
        return self.all_series[self.all_series["window"] == NOW].reset_index(drop=True)

    @cached_property
    def whole(self) -> pd.DataFrame:
        """Of them, those of patients of whom something came for long enough to be compared with a day."""
        return self.now[self.now["hours"] >= LEAST_HOURS].reset_index(drop=True)

    @cached_property
    def last_day(self) -> pd.DataFrame:
        """What came in it."""
        return self.rows[(self.rows["recorded_at"] > self.until - DAY).to_numpy()]

    def of(self, signal: str) -> pd.DataFrame:
        """The reference of a signal."""
        return self._of[signal] if signal in self._of else self.reference.iloc[:0]

    @cached_property
    def _of(self) -> dict[str, pd.DataFrame]:
        return {str(signal): rows for signal, rows in self.reference.groupby("signal", observed=True)}

    @cached_property
    def behind(self) -> dict[str, str]:
        """Of each device, the gateway that it is behind."""
        known = self.now[["device_id", "source"]].astype(str).drop_duplicates("device_id")
        return dict(zip(known["device_id"], known["source"], strict=True))

    @cached_property
    def vitals(self) -> list[str]:
        """Vital signs of which something came in the last day."""
        return [signal for signal in MEASUREMENT_ERROR if (self.now["signal"] == signal).any()]

    def steps(self, signal: str, slots: int = SLOTS) -> Steps:
        """Steps of a vital sign (:func:`models.monitoring.detectors.step_changes.steps`)."""
        if signal not in self._steps:
            self._steps[signal] = steps(self.rows, signal, self.until)
        return self._steps[signal][slots]

    @cached_property
    def _steps(self) -> dict[str, dict[int, Steps]]:
        return {}

    def first(self, mask: "pd.Series[bool]") -> pd.Timestamp:
        """When the first of some of the last day's rows was recorded."""
        return pd.Timestamp(self.last_day.loc[mask, "recorded_at"].min())
