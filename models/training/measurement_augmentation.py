"""Measurement augmentation: training patients as a hospital of other measurement habits would have recorded them.

How often staff measure, and what, says much about a patient where a model is trained. It misleads the model where nurses,
laboratories and devices work differently. So a model learns from every training patient as measured, and under *changed
habits*: those of a hospital that measures less or never, gets results later and has devices with offsets. They are drawn at
random for each patient.

A record has nearly always run for a while before a patient is ill. So a model may learn that only a change matters, and a level
says little. Therefore it also learns from *truncated records* of every patient: as if monitoring had begun late, and from the
last set of observations alone (:mod:`vigil.models.training.truncated_records`).

What a model learns from all of them holds for all (domain randomisation: Tobin J, et al. Domain randomization for transferring
deep neural networks from simulation to the real world. IROS 2017:23-30).

No observation is added. Changed habits leave out no amount that is summed up, because less of it would be another patient. A
truncated record lacks what was collected before it begins, as a real one does. Age and times of admission stay: they come from
the record of the patient, and a late monitor does not change when the patient came. Labels are those of the same index times.

*Other habits* are milder ones that earlier models learned from; ``vigil benchmark travel2019`` compares both.

A draw depends on the observation, the index time and the patient alone, not on other patients of the frame. So the parts of a
cohort give the same rows as the whole. It depends on no outcome, except that rows are made only for index times with a label.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from vigil.features.batch import KEYS, build_features
from vigil.features.catalogue import group_by_view
from vigil.features.signal import Kind
from vigil.features.signals import STORED, measured_signal
from vigil.models.training.draws import draw_per_row
from vigil.models.training.truncated_records import last_sets, late_start

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Way = Literal["other_habits", "changed_habits", "late_start", "last_set"]

TRUNCATED_RECORDS: Final[tuple[Way, ...]] = ("late_start", "last_set")  # truncated records
TRAINING_WAYS: Final[tuple[Way, ...]] = ("changed_habits", *TRUNCATED_RECORDS)  # the ways that models learn from

# The least share of readings that another hospital takes. Our choice: monitors are much alike, blood is drawn up to three times
# as often in one unit as in another, and oxygen is charted by some for every breath, by others never.
LEAST_SHARE: Final[Mapping[Kind, float]] = {"vital": 0.4, "support": 0.0, "bedside": 0.3, "laboratory": 0.3}

# Results of one blood sample. Our choice, after the order sets of most hospitals.
PANELS: Final[Mapping[str, tuple[str, ...]]] = {
    "blood_gas": ("base_excess", "bicarbonate", "ph", "paco2", "pao2", "sao2"),
    "lactate": ("lactate",),
    "chemistry": ("bun", "calcium", "chloride", "creatinine", "magnesium", "phosphate", "potassium", "sodium"),
    "liver": ("albumin", "alkaline_phosphatase", "alt", "ast", "bilirubin_direct", "bilirubin_total"),
    "blood_count": ("hematocrit", "hemoglobin", "platelets", "wbc"),
    "coagulation": ("fibrinogen", "ptt"),
    "troponin": ("troponin_i", "troponin_t"),
    "cholesterol": ("cholesterol",),
}
# Share of patients for which changed habits never measure a vital sign, a support signal or a panel. Our choice: wards do not
# order every panel, and some records hold no oxygen or end-tidal CO2.
NEVER_SHARE: Final[Mapping[Kind, float]] = {"vital": 0.04, "support": 0.2, "bedside": 0.0, "laboratory": 0.2}
MAX_RESULT_DELAY: Final = 2.0  # hours by which changed habits record results of blood samples later, at most
# Standard deviation of a device's constant offset, as a share of :data:`SPREAD`. Our choice: half of what device standards
# allow, 5 mmHg for a cuff (ISO 81060-2) or 15 % for a glucose meter (ISO 15197).
OFFSET_SHARE: Final = 0.12
# Standard deviation of the readings of Challenge 2019, training set A.
SPREAD: Final[Mapping[str, float]] = {
    "heart_rate": 16.9, "respiratory_rate": 5.4, "spo2": 2.9, "systolic_bp": 21.5, "diastolic_bp": 12.5, "mean_bp": 15.0,
    "body_temperature": 0.78, "glucose": 51.6,
}  # fmt: skip

SUMMED: Final = ("urine_output",)  # each reading is an amount collected; only their sum has a meaning

# Draws of changed habits: those that models learn from, and the one on which models are compared.
TRAINING_DRAWS: Final = (1, 2)
EVALUATION_DRAW: Final = 0
# Most rows without an event of a way of whole records. Our choice, to save memory: members draw fewer.
MAX_NEGATIVES: Final = 100_000

_HOUR: Final = 3_600_000_000  # microseconds

# The habit of each signal. Each vital sign has one of its own. All results of blood share one, because they come from one
# sample, and so do the signals that are charted at the bedside. A bound has that of its signal.
_HABIT: Final = {name: measured_signal(name) if signal.kind == "vital" else signal.kind for name, signal in STORED.items()}
# With changed habits each panel of blood results and each support signal has a habit of its own too.
_PANEL_OF: Final = {name: panel for panel, members in PANELS.items() for name in members}
_CHANGED_HABIT: Final = {
    name: "bedside" if signal.kind == "bedside" else _PANEL_OF.get(measured_signal(name), measured_signal(name))
    for name, signal in STORED.items()
}


@dataclass(frozen=True)
class Augmented:
    """Rows of a training frame, recorded in another way; labels and patients are those of the frame.

    Attributes:
        rows: positions in the frame, shape (n,), in any order; a position may occur twice.
        features: one row for each of ``rows``.
        hours: how many labelled rows of the frame each of ``rows`` stands for, shape (n,).
        way: how the record was changed.
    """

    rows: Int64
    features: pd.DataFrame
    hours: Float64
    way: Way

    def select(self, selected: NDArray[np.bool_]) -> "Augmented":
        """Return the augmented rows for a selection of the frame's rows; ``selected`` has shape (rows of the frame,)."""
        included = selected[self.rows]
        rows = (np.cumsum(selected) - 1)[self.rows[included]]
        return Augmented(rows, self.features[included], self.hours[included], self.way)


def augment(
    observations: pd.DataFrame,
    index: pd.DataFrame,
    features: Sequence[str],
    *,
    negative_share: float = 1.0,
    ways: Sequence[Way] = TRAINING_WAYS,
) -> tuple[Augmented, ...]:
    """Make the augmented rows of patients.

    Args:
        observations: checked observations (:func:`vigil.features.observations.check`) of subjects of the index.
        index: an index as :func:`vigil.features.batch.build_features` takes. It also has the stay's ``start``, ``label`` (NaN:
            the row is left out) and ``row``, the position in the training frame.
        features: names of the features to make.
        negative_share: share of the rows without an event that other and changed habits keep (:func:`share_of_negatives`). Rows
            with an event all stay.
        ways: to make.

    Returns:
        One for each way, in their order, and one for each draw of changed habits; features are float32.
    """
    index = _labelled(index)
    whole = _thinned(index, negative_share)
    stay = pd.Series(pd.factorize(index["subject_id"])[0], pd.Index(index["row"]))
    return tuple(
        Augmented(
            rows["row"].to_numpy(np.int64),
            _features(readings, rows, features),
            _hours_of_stay(rows, stay) if way in TRUNCATED_RECORDS else _hours_of_whole(rows, negative_share),
            way,
        )
        for way in ways
        for readings, rows in _record(way, observations, index, whole)
    )


def evaluation_rows(
    observations: pd.DataFrame, index: pd.DataFrame, features: Sequence[str], *, negative_share: float = 1.0
) -> Augmented:
    """Make rows with changed habits on which to compare models, by a draw that no model learns from.

    Args:
        observations, index, features, negative_share: as :func:`augment` takes them.
    """
    rows = _thinned(_labelled(index), negative_share)
    changed = _features(changed_habits(observations, EVALUATION_DRAW), rows, features)
    return Augmented(rows["row"].to_numpy(np.int64), changed, _hours_of_whole(rows, negative_share), "changed_habits")


def share_of_negatives(quiet_rows: float) -> float:
    """Return the share of rows without an event that other and changed habits keep: all but in large cohorts.

    Args:
        quiet_rows: number of rows without an event in the cohort.

    >>> share_of_negatives(1_000), share_of_negatives(400_000)
    (1.0, 0.25)
    """
    return min(1.0, MAX_NEGATIVES / max(quiet_rows, 1.0))


def _labelled(index: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a label, in order of subject and time."""
    return index[index["label"].notna()].sort_values(KEYS, kind="stable", ignore_index=True)


def _thinned(index: pd.DataFrame, negative_share: float) -> pd.DataFrame:
    """Return all rows with an event and a share of the others."""
    times = index[KEYS].assign(subject_id=index["subject_id"].astype("category").array)
    return index[(index["label"] == 1) | (draw_per_row(times, "row.is.learned..") < negative_share)].reset_index(drop=True)


def _record(
    way: Way, observations: pd.DataFrame, index: pd.DataFrame, whole: pd.DataFrame
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield the observations of a way and its index rows: of ``index`` for truncated records, else of ``whole``."""
    if way == "other_habits":
        yield other_habits(observations), whole
    elif way == "changed_habits":
        for draw in TRAINING_DRAWS:
            yield changed_habits(observations, draw), whole
    else:
        yield late_start(observations, index) if way == "late_start" else last_sets(observations, index)


def _features(observations: pd.DataFrame, index: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    known = observations[observations["subject_id"].isin(index["subject_id"])]
    return build_features(known, index, group_by_view(features))[list(features)]


def _hours_of_whole(index: pd.DataFrame, negative_share: float) -> Float64:
    """Return the hours that each row of a whole record stands for; rows without an event stand for those left out."""
    return np.where(index["label"] == 1, 1.0, 1 / negative_share)


def _hours_of_stay(index: pd.DataFrame, stay: "pd.Series[int]") -> Float64:
    """Return the hours that each row of a truncated record stands for: a few rows of a stay stand for all its hours.

    Args:
        index: rows of a way, with ``row``, the position in the frame.
        stay: number of the stay of each row of the frame, by position.
    """
    of_row = stay.loc[index["row"]].to_numpy()
    return np.asarray(np.bincount(stay)[of_row] / np.bincount(of_row)[of_row])


def join_parts(parts: Iterable[Sequence[Augmented]]) -> tuple[Augmented, ...]:
    """Join the results of :func:`augment` for the parts of a cohort."""
    by_way = [list(parts_of_way) for parts_of_way in zip(*parts, strict=True)]
    whole = []
    while by_way:  # parts are released as soon as they are joined: a whole cohort takes gigabytes
        parts_of_way = by_way.pop(0)
        features = pd.concat([part.features for part in parts_of_way], ignore_index=True)
        rows, hours = (np.concatenate([getattr(part, name) for part in parts_of_way]) for name in ("rows", "hours"))
        whole.append(Augmented(rows, features, hours, parts_of_way[0].way))
    return tuple(whole)


def other_habits(observations: pd.DataFrame) -> pd.DataFrame:
    """Return the observations that other habits would have left, drawn for each patient.

    Args:
        observations: checked observations (:func:`vigil.features.observations.check`).

    Returns:
        Some of their rows, in the same order.
    """
    signal, names, patient = _assign_habits(observations, _HABIT)
    return observations[_is_taken(observations, signal, names, patient, "habits.of.wards.", "readings.of.them")]


def changed_habits(observations: pd.DataFrame, draw: int) -> pd.DataFrame:
    """Return the observations that a hospital of very different habits would have of the same patients.

    The draws for each patient are:

    - Each panel of blood results, support signal and vital sign keeps a share of its observations (:data:`LEAST_SHARE` or
      more), or is never measured (:data:`NEVER_SHARE`).
    - Results of a panel come up to :data:`MAX_RESULT_DELAY` hours later.
    - Each device that measures a vital sign has a constant offset (:data:`OFFSET_SHARE`). It is rounded to the resolution of
      the signal, and values stay within its plausible range.

    Args:
        observations: checked observations (:func:`vigil.features.observations.check`).
        draw: number of the draw; other draws are independent.

    Returns:
        Some of their rows, in the same order, with changed values and times of recording.
    """
    signal, names, patient = _assign_habits(observations, _CHANGED_HABIT)
    never = np.array([NEVER_SHARE[STORED[name].kind] for name in names])[signal]
    taken = _is_taken(observations, signal, names, patient, f"share.of.panel{draw:02}", f"reading.taken.{draw:02}")
    taken &= draw_per_row(patient, f"never.measured{draw:02}") >= never
    patient, signal, changed = patient[taken], signal[taken], observations[taken]
    laboratory = np.array([STORED[name].kind == "laboratory" for name in names])[signal]
    hours_late = np.where(laboratory, draw_per_row(patient, f"results.late..{draw:02}") * MAX_RESULT_DELAY, 0.0)
    return changed.assign(
        value=_with_offset(
            changed["value"].to_numpy(np.float64), signal, names, draw_per_row(patient, f"device.offset.{draw:02}")
        ),
        recorded_at=changed["recorded_at"] + (hours_late * _HOUR).astype("timedelta64[us]"),
    )


def _assign_habits(observations: pd.DataFrame, habits: Mapping[str, str]) -> tuple[Int64, list[str], pd.DataFrame]:
    """Return of each observation the signal (a position among names), these names, and its patient and habit."""
    signal, signals = pd.factorize(observations["signal"])
    names = [str(name) for name in signals]
    habit = pd.Categorical([habits[name] for name in names]).take(signal)
    patient = pd.DataFrame({"subject_id": observations["subject_id"].astype("category").array, "habit": habit})
    return signal.astype(np.int64), names, patient


def _is_taken(
    observations: pd.DataFrame,
    signal: Int64,
    names: Sequence[str],
    patient: pd.DataFrame,
    share_purpose: str,
    reading_purpose: str,
) -> NDArray[np.bool_]:
    """Return whether each observation is taken, by the share of its patient and habit (:data:`LEAST_SHARE` or more).

    Args:
        signal, names, patient: as :func:`_assign_habits` returns them.
        share_purpose, reading_purpose: purposes of the draws.
    """
    least = np.array([1.0 if name in SUMMED else LEAST_SHARE[STORED[name].kind] for name in names])[signal]
    share = least + (1 - least) * draw_per_row(patient, share_purpose)
    return np.asarray(draw_per_row(patient.assign(observed_at=observations["observed_at"].array), reading_purpose) < share)


def _with_offset(value: Float64, signal: Int64, names: Sequence[str], level: Float64) -> Float64:
    """Add to each value the offset of its device, which has the quantile ``level``; signals without a spread stay."""
    offset = OFFSET_SHARE * np.array([SPREAD.get(name, 0.0) for name in names])[signal] * ndtri(np.clip(level, 1e-9, 1 - 1e-9))
    step, low, high = (
        np.array([getattr(STORED[name], attribute) for name in names], dtype=np.float64)[signal]
        for attribute in ("steps_per_unit", "low", "high")
    )
    return np.asarray(np.clip(value + np.round(offset * step) / step, low, high))
