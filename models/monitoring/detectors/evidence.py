"""Evidence for faults: the last day, the day before it, and days of training patients to compare them with."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from vigil.features.derived import MEASUREMENT_ERROR
from vigil.models.monitoring.detectors.step_changes import DAY, SLOTS, StepChanges, measure_step_changes
from vigil.models.monitoring.signal_profile import profile_signals
from vigil.models.monitoring.signal_reference import LEAST_HOURS, covered_hours

BEFORE, NOW = 0, 1  # windows: the day before, the last day


@dataclass(frozen=True)
class Evidence:
    """The data that detectors examine. What is None is not examined.

    Attributes:
        rows: readings of the last two days (:mod:`vigil.models.monitoring.received`).
        until: the end of the last day.
        reference: profiles of training patients' days (:mod:`vigil.models.monitoring.signal_reference`).
        log: predictions of the last day: ``subject_id, index_time, probability, model_version, feature_service`` and features.
        champion: its model version and feature service.
        population: training patients' days (:func:`vigil.models.monitoring.reference.sample_patient_days`, those drawn as
            days).
        judged: patients with a known outcome (:func:`vigil.models.monitoring.reference.summarise_highest_risks`).
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
    def profiles(self) -> pd.DataFrame:
        """Signal profiles of both days, with ``hours`` covered by the patient's readings."""
        age = (self.until - self.rows["recorded_at"]).to_numpy()
        known = (self.rows["subject_id"] != "") & (self.rows["signal"] != "")  # other readings belong to no profile
        inside = (age >= np.timedelta64(0)) & (age < 2 * DAY) & known.to_numpy()
        window = np.where(age < DAY, NOW, BEFORE)
        profiles = profile_signals(self.rows.assign(window=window)[inside])
        return profiles.assign(hours=covered_hours(profiles).to_numpy())

    @cached_property
    def now(self) -> pd.DataFrame:
        """Profiles of the last day."""
        return self.profiles[self.profiles["window"] == NOW].reset_index(drop=True)

    @cached_property
    def full_days(self) -> pd.DataFrame:
        """Profiles of the last day that cover enough hours to be compared with a day."""
        return self.now[self.now["hours"] >= LEAST_HOURS].reset_index(drop=True)

    @cached_property
    def last_day(self) -> pd.DataFrame:
        """Readings of the last day."""
        return self.rows[(self.rows["recorded_at"] > self.until - DAY).to_numpy()]

    def reference_of(self, signal: str) -> pd.DataFrame:
        """Return the reference profiles of a signal."""
        return self._references[signal] if signal in self._references else self.reference.iloc[:0]

    @cached_property
    def _references(self) -> dict[str, pd.DataFrame]:
        return {str(signal): rows for signal, rows in self.reference.groupby("signal", observed=True)}

    @cached_property
    def gateways(self) -> dict[str, str]:
        """The gateway of each device."""
        pairs = self.now[["device_id", "source"]].astype(str).drop_duplicates("device_id")
        return dict(zip(pairs["device_id"], pairs["source"], strict=True))

    @cached_property
    def vitals(self) -> list[str]:
        """Vital signs with readings on the last day."""
        return [signal for signal in MEASUREMENT_ERROR if (self.now["signal"] == signal).any()]

    def step_changes(self, signal: str, slots: int = SLOTS) -> StepChanges:
        """Return the step changes of a vital sign (:mod:`vigil.models.monitoring.detectors.step_changes`)."""
        if signal not in self._step_changes:
            self._step_changes[signal] = measure_step_changes(self.rows, signal, self.until)
        return self._step_changes[signal][slots]

    @cached_property
    def _step_changes(self) -> dict[str, dict[int, StepChanges]]:
        return {}

    def first_recorded(self, mask: "pd.Series[bool]") -> pd.Timestamp:
        """Return when the first of the masked readings of the last day was recorded."""
        return pd.Timestamp(self.last_day.loc[mask, "recorded_at"].min())
