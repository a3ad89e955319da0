"""Features from observations: the same function for a whole cohort, a part of it, or one patient."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features import scores
from features.catalogue import SCORE_CARRY_HOURS, VIEWS, VITALS, WINDOWS
from features.kernel import window_statistics
from features.observations import TIME, ObservationError
from features.signals import SIGNALS
from features.windows import STATISTICS

KEYS: Final = ["subject_id", "index_time"]
PATIENT_COLUMNS: Final = ("age", "sex", "unit_admitted_at", "hospital_admitted_at")

Columns = dict[str, NDArray[np.float64]]


def build_features(observations: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Every feature of every view, as known at each index time.

    Args:
        observations: checked observations (:func:`features.observations.check`), in any order.
        index: one row an index time: ``subject_id``, ``index_time`` and the patient's ``age``, ``sex``,
            ``unit_admitted_at``, ``hospital_admitted_at``.

    Returns:
        One row an index row, ordered by subject and time: ``subject_id``, ``index_time`` and float32 features, NaN where
        unknown. A row depends only on its own subject's readings that were observed and recorded at or before it.

    Raises:
        ObservationError: an observation's subject has no index row, or two index rows are the same.
    """
    index = index.sort_values(KEYS, kind="stable").reset_index(drop=True)
    if index.duplicated(KEYS).any():
        raise ObservationError("index: the same subject_id and index_time twice; expected each index time of a subject once")
    subjects = index["subject_id"].drop_duplicates()
    columns = _window_columns(observations, index, pd.Index(subjects))
    columns |= _score_columns(columns)
    columns |= _patient_columns(index)
    wanted = [feature.name for view in VIEWS.values() for feature in view]
    features = pd.DataFrame({name: columns[name].astype(np.float32) for name in wanted})
    return pd.concat([index[KEYS], features], axis=1)


def _window_columns(observations: pd.DataFrame, index: pd.DataFrame, subjects: "pd.Index[str]") -> Columns:
    subject = subjects.get_indexer(pd.Index(observations["subject_id"].astype(object)))
    if (subject < 0).any():
        raise ObservationError(
            f"observations: {(subject < 0).sum()} rows of subjects without an index row; expected only subjects of the index"
        )
    every_subject = np.arange(len(subjects) + 1)
    index_times = _microseconds(index["index_time"])
    index_bounds = np.searchsorted(subjects.get_indexer(pd.Index(index["subject_id"])), every_subject)
    observed, recorded = _microseconds(observations["observed_at"]), _microseconds(observations["recorded_at"])
    values = observations["value"].to_numpy(np.float64)
    signal = observations["signal"].to_numpy()

    columns: Columns = {}
    declared = [feature for view in WINDOWS.values() for feature in view]
    for name in dict.fromkeys(feature.signal for feature in declared):
        steps_per_unit = SIGNALS[name].steps_per_unit
        rows = np.flatnonzero(signal == name)
        steps = np.rint(values[rows] * steps_per_unit).astype(np.int64)
        order = np.lexsort((steps, recorded[rows], observed[rows], subject[rows]))
        rows = rows[order]
        readings = (observed[rows], recorded[rows], steps[order])
        reading_bounds = np.searchsorted(subject[rows], every_subject)
        for hours in dict.fromkeys(feature.hours for feature in declared if feature.signal == name):
            table = window_statistics(
                readings=readings,
                reading_bounds=reading_bounds,
                index_times=index_times,
                index_bounds=index_bounds,
                hours=hours,
                steps_per_unit=steps_per_unit,
            )
            for feature in declared:
                if (feature.signal, feature.hours) == (name, hours):
                    columns[feature.name] = table[:, STATISTICS.index(feature.statistic)].copy()
    return columns


def _score_columns(columns: Mapping[str, NDArray[np.float64]]) -> Columns:
    last = {vital: columns[f"{vital}_last_{SCORE_CARRY_HOURS}h"] for vital in (*VITALS, "on_oxygen", "consciousness")}
    ages = np.stack([columns[f"{vital}_age_{SCORE_CARRY_HOURS}h"] for vital in VITALS])
    return {
        **scores.news2({vital: last[vital] for vital in scores.NEWS2_BANDS}),
        "shock_index": scores.shock_index(last["heart_rate"], last["systolic_bp"]),
        "vitals_known": (~np.isnan(ages)).sum(axis=0).astype(np.float64),
        "hours_since_reading": np.fmin.reduce(ages, axis=0),
    }


def _patient_columns(index: pd.DataFrame) -> Columns:
    return {
        "age": index["age"].to_numpy(np.float64),
        "sex": index["sex"].to_numpy(np.float64),
        "hours_in_unit": _hours(index["index_time"] - index["unit_admitted_at"]),
        "hours_in_hospital_before": _hours(index["unit_admitted_at"] - index["hospital_admitted_at"]),
    }


def _hours(durations: "pd.Series[pd.Timedelta]") -> NDArray[np.float64]:
    return np.asarray(durations.dt.total_seconds() / 3600, dtype=np.float64)


def _microseconds(times: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    return times.astype(TIME).to_numpy("datetime64[us]").astype(np.int64)
