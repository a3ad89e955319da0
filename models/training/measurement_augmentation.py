"""Other ways in which the same patients might have been known, to learn from too: changed habits of measuring, cut records.

How often staff measure, and what, says much about a patient where a model is trained, and misleads it where nurses,
laboratories and devices keep other hours. So every training patient is learned from as measured, and as under *changed habits*:
those of a hospital that measures less or never, whose results come later and whose devices have offsets, drawn for each patient
at random. And a record has nearly always run for a while before a patient is ill, so a model may learn that a change is what
matters and a level alone says little. So every patient is also learned from by *cut records*: as if monitoring had begun late,
and by the last set of observations alone. What a model learns from all of them holds whatever is known (domain randomisation:
Tobin J, et al. Domain randomization for transferring deep neural networks from simulation to the real world. IROS 2017:23-30).

No observation is added. An amount that is summed up is never left out under changed habits, since less of it would be another
patient; a cut record lacks what was collected before it begins, as a real one does. Age and the times of admission stay what
they are: the clock is what the record says, and a late monitor does not change when a patient came. Labels are those of the
same index times.

*Other habits* are the milder ones that models learned from before; ``vigil benchmark travel2019`` compares both.

What is drawn depends on the observation, the index time and its patient alone, not on other patients of the frame, so parts of
a cohort give what the whole does; and on no outcome, but that rows are made for index times that have a label.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from features.batch import KEYS, build_features
from features.catalogue import views_of
from features.derived import LABORATORY_CARRY_HOURS, SCORE_CARRY_HOURS
from features.signals import SIGNALS, Kind

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Way = Literal["other_habits", "changed_habits", "late_start", "last_set"]

CUT_RECORDS: Final[tuple[Way, ...]] = ("late_start", "last_set")
LEARNED: Final[tuple[Way, ...]] = ("changed_habits", *CUT_RECORDS)  # that models learn from

# The least share of readings that another hospital takes. Ours: monitors are much alike, blood is drawn up to three times as
# often in one unit as in another, and oxygen is charted by some for every breath, by others never.
LEAST_SHARE: Final[Mapping[Kind, float]] = {"vital": 0.4, "support": 0.0, "bedside": 0.3, "laboratory": 0.3}

# Blood that is drawn and analysed together. Ours, after the order sets of most hospitals.
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
# Share of patients who never get a vital sign, a support signal or a panel measured under changed habits. Ours: wards do not
# order every panel, and some records hold no oxygen or end-tidal CO2.
NEVER_SHARE: Final[Mapping[Kind, float]] = {"vital": 0.04, "support": 0.2, "bedside": 0.0, "laboratory": 0.2}
LATEST_RESULT: Final = 2.0  # hours by which changed habits record results of blood later, at most
# Standard deviation of a device's constant offset, as a share of :data:`SPREAD`. Ours: half of what the standards of devices
# allow, 5 mmHg for a cuff (ISO 81060-2) or 15 % for a glucose meter (ISO 15197).
OFFSET_SHARE: Final = 0.12
# Standard deviation over the readings of Challenge 2019, training set A.
SPREAD: Final[Mapping[str, float]] = {
    "heart_rate": 16.9, "respiratory_rate": 5.4, "spo2": 2.9, "systolic_bp": 21.5, "diastolic_bp": 12.5, "mean_bp": 15.0,
    "body_temperature": 0.78, "glucose": 51.6,
}  # fmt: skip

SUMMED: Final = ("urine_output",)  # each reading is an amount collected, and only their sum says something

# Draws of changed habits: those that models learn from, and the one that they are compared on.
TRAINING_DRAWS: Final = (1, 2)
JUDGING_DRAW: Final = 0
MOST_QUIET: Final = 100_000  # rows without an event that a way of whole records holds; ours, for memory: members draw fewer

# Index times of a late start that are learned from. Ours: the windows that hold trends are of six hours, and after twelve a
# record says nearly what the whole one does.
LATE_HOURS: Final = 12
# Index times of a stay that are learned from by their last set alone. Ours: hours of a stay repeat each other; three keep the
# frame small (a tenth of the rows of a cohort of intensive care) and hold an hour with an event for most patients with one.
LAST_SETS: Final = 3
# How old a reading of the last set may be: as long as a score carries it forward. What nurses chart once a shift or less, such
# as weight, stands as long as blood.
CARRY_HOURS: Final[Mapping[Kind, int]] = {
    "vital": SCORE_CARRY_HOURS,
    "support": SCORE_CARRY_HOURS,
    "bedside": LABORATORY_CARRY_HOURS,
    "laboratory": LABORATORY_CARRY_HOURS,
}

_HOUR: Final = 3_600_000_000  # microseconds

# What one decision governs: each vital sign has its own habit, but blood is drawn for all its values at once, and what is
# charted at the bedside is charted together.
_HABIT: Final = {name: name if signal.kind == "vital" else signal.kind for name, signal in SIGNALS.items()}
# In changed habits each panel of blood and each support signal has its own too.
_PANEL_OF: Final = {name: panel for panel, members in PANELS.items() for name in members}
_CHANGED_HABIT: Final = {
    name: "bedside" if signal.kind == "bedside" else _PANEL_OF.get(name, name) for name, signal in SIGNALS.items()
}


@dataclass(frozen=True)
class Augmented:
    """Rows of a training frame as they might have been known in another way; labels and patients are those of that frame.

    Attributes:
        rows: positions in the frame, shape (n,), in any order; a position may occur twice.
        features: one row for each of ``rows``.
        hours: labelled rows of the frame that each of ``rows`` stands for, shape (n,).
        way: how the record was changed.
    """

    rows: Int64
    features: pd.DataFrame
    hours: Float64
    way: Way

    def among(self, kept: NDArray[np.bool_]) -> "Augmented":
        """Return the same for a frame of which only some rows are kept; ``kept``: shape (rows of the frame,)."""
        here = kept[self.rows]
        return Augmented((np.cumsum(kept) - 1)[self.rows[here]], self.features[here], self.hours[here], self.way)


def augment(
    observations: pd.DataFrame,
    index: pd.DataFrame,
    features: Sequence[str],
    *,
    quiet_share: float = 1.0,
    ways: Sequence[Way] = LEARNED,
) -> tuple[Augmented, ...]:
    """Make the rows of patients known in other ways.

    Args:
        observations: checked observations (:func:`features.observations.check`) of subjects of the index.
        index: an index as :func:`features.batch.build_features` takes, with the stay's ``start``, ``label`` (NaN: the row is
            left out) and ``row``, the position in the frame that is learned from.
        features: names of those that are made.
        quiet_share: of rows without an event, those that other and changed habits hold (:func:`share_of_quiet_rows`). Rows with
            an event are all held.
        ways: to make.

    Returns:
        Those ways in their order, one for each of the draws of changed habits; features float32.
    """
    index = _labelled(index)
    whole = _thinned(index, quiet_share)
    stay = pd.Series(pd.factorize(index["subject_id"])[0], pd.Index(index["row"]))
    return tuple(
        Augmented(
            rows["row"].to_numpy(np.int64),
            _features(readings, rows, features),
            _hours_of_stay(rows, stay) if way in CUT_RECORDS else _hours_of_whole(rows, quiet_share),
            way,
        )
        for way in ways
        for readings, rows in _known(way, observations, index, whole)
    )


def judged_by_changed_habits(
    observations: pd.DataFrame, index: pd.DataFrame, features: Sequence[str], *, quiet_share: float = 1.0
) -> Augmented:
    """Make the rows of patients known by changed habits of a draw that no model learns from, to compare models on.

    Args:
        observations, index, features, quiet_share: as :func:`augment` takes them.
    """
    rows = _thinned(_labelled(index), quiet_share)
    found = _features(changed_habits(observations, JUDGING_DRAW), rows, features)
    return Augmented(rows["row"].to_numpy(np.int64), found, _hours_of_whole(rows, quiet_share), "changed_habits")


def share_of_quiet_rows(quiet_rows: float) -> float:
    """Return the share of rows without an event that other and changed habits hold: of large cohorts not all.

    Args:
        quiet_rows: rows without an event in the cohort.
    """
    return min(1.0, MOST_QUIET / max(quiet_rows, 1.0))


def _labelled(index: pd.DataFrame) -> pd.DataFrame:
    """The rows with a label, in order of subject and time."""
    return index[index["label"].notna()].sort_values(KEYS, kind="stable", ignore_index=True)


def _thinned(index: pd.DataFrame, quiet_share: float) -> pd.DataFrame:
    """All rows with an event and so many of the others."""
    times = index[KEYS].assign(subject_id=index["subject_id"].astype("category").array)
    return index[(index["label"] == 1) | (_drawn(times, "row.is.learned..") < quiet_share)].reset_index(drop=True)


def _known(
    way: Way, observations: pd.DataFrame, index: pd.DataFrame, whole: pd.DataFrame
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The observations of a way and its index rows, of ``index`` or of ``whole`` records."""
    if way == "other_habits":
        yield remeasured(observations), whole
    elif way == "changed_habits":
        for draw in TRAINING_DRAWS:
            yield changed_habits(observations, draw), whole
    else:
        yield late_start(observations, index) if way == "late_start" else last_sets(observations, index)


def _features(observations: pd.DataFrame, index: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    known = observations[observations["subject_id"].isin(index["subject_id"])]
    return build_features(known, index, views_of(features))[list(features)]


def _hours_of_whole(index: pd.DataFrame, quiet_share: float) -> Float64:
    """Hours that each row of a whole record stands for, of which only a share of those without an event is held."""
    return np.where(index["label"] == 1, 1.0, 1 / quiet_share)


def _hours_of_stay(index: pd.DataFrame, stay: "pd.Series[int]") -> Float64:
    """Hours that each row of a cut record stands for: a few rows of every stay stand for all of its hours.

    Args:
        index: rows of a way, with ``row``, the position in the frame.
        stay: number of the stay of each row of the frame, by position.
    """
    of_row = stay.loc[index["row"]].to_numpy()
    return np.asarray(np.bincount(stay)[of_row] / np.bincount(of_row)[of_row])


def joined(parts: Iterable[Sequence[Augmented]]) -> tuple[Augmented, ...]:
    """Join what :func:`augment` made of the parts of a cohort."""
    by_way = [list(of_way) for of_way in zip(*parts, strict=True)]
    found = []
    while by_way:  # each released as soon as it is joined: a whole cohort takes gigabytes
        of_way = by_way.pop(0)
        features = pd.concat([part.features for part in of_way], ignore_index=True)
        rows, hours = (np.concatenate([getattr(part, name) for part in of_way]) for name in ("rows", "hours"))
        found.append(Augmented(rows, features, hours, of_way[0].way))
    return tuple(found)


def remeasured(observations: pd.DataFrame) -> pd.DataFrame:
    """Return the readings that are left under other habits, drawn for each patient.

    Args:
        observations: checked observations (:func:`features.observations.check`).

    Returns:
        Some of their rows, in the same order.
    """
    signal, names, patient = _decided(observations, _HABIT)
    return observations[_taken(observations, signal, names, patient, "habits.of.wards.", "readings.of.them")]


def changed_habits(observations: pd.DataFrame, draw: int) -> pd.DataFrame:
    """Return the observations that a hospital of very different habits would have of the same patients.

    For each patient: a panel of blood, a support signal or a vital sign has a share of its observations of its own, or is never
    measured (:data:`NEVER_SHARE`); results of a panel come up to :data:`LATEST_RESULT` later; and each device that measures a
    vital sign has a constant offset (:data:`OFFSET_SHARE`), rounded to the resolution of the signal and kept within its
    plausible range.

    Args:
        observations: checked observations (:func:`features.observations.check`).
        draw: number of the draw; other draws are independent.

    Returns:
        Some of their rows, in the same order, with changed values and times of recording.
    """
    signal, names, patient = _decided(observations, _CHANGED_HABIT)
    never = np.array([NEVER_SHARE[SIGNALS[name].kind] for name in names])[signal]
    taken = _taken(observations, signal, names, patient, f"share.of.panel{draw:02}", f"reading.taken.{draw:02}")
    taken &= _drawn(patient, f"never.measured{draw:02}") >= never
    patient, signal, changed = patient[taken], signal[taken], observations[taken]
    laboratory = np.array([SIGNALS[name].kind == "laboratory" for name in names])[signal]
    hours_late = np.where(laboratory, _drawn(patient, f"results.late..{draw:02}") * LATEST_RESULT, 0.0)
    return changed.assign(
        value=_with_offset(changed["value"].to_numpy(np.float64), signal, names, _drawn(patient, f"device.offset.{draw:02}")),
        recorded_at=changed["recorded_at"] + (hours_late * _HOUR).astype("timedelta64[us]"),
    )


def _decided(observations: pd.DataFrame, habits: Mapping[str, str]) -> tuple[Int64, list[str], pd.DataFrame]:
    """The signal of each observation, as a position among names; those names; and the patient and the habit it depends on."""
    signal, signals = pd.factorize(observations["signal"])
    names = [str(name) for name in signals]
    habit = pd.Categorical([habits[name] for name in names]).take(signal)
    patient = pd.DataFrame({"subject_id": observations["subject_id"].astype("category").array, "habit": habit})
    return signal.astype(np.int64), names, patient


def _taken(
    observations: pd.DataFrame, signal: Int64, names: Sequence[str], patient: pd.DataFrame, of_share: str, of_reading: str
) -> NDArray[np.bool_]:
    """Whether each observation is made, by a share of the patient's and the habit's own (:data:`LEAST_SHARE` or more).

    Args:
        signal, names, patient: as :func:`_decided` returns them.
        of_share, of_reading: purposes of the draws.
    """
    least = np.array([1.0 if name in SUMMED else LEAST_SHARE[SIGNALS[name].kind] for name in names])[signal]
    share = least + (1 - least) * _drawn(patient, of_share)
    return np.asarray(_drawn(patient.assign(observed_at=observations["observed_at"].array), of_reading) < share)


def _with_offset(value: Float64, signal: Int64, names: Sequence[str], level: Float64) -> Float64:
    """Values with the offset of their device, whose quantile among devices is ``level``; signals without spread stay."""
    offset = OFFSET_SHARE * np.array([SPREAD.get(name, 0.0) for name in names])[signal] * ndtri(np.clip(level, 1e-9, 1 - 1e-9))
    step, low, high = (
        np.array([getattr(SIGNALS[name], what) for name in names], dtype=np.float64)[signal]
        for what in ("steps_per_unit", "low", "high")
    )
    return np.asarray(np.clip(value + np.round(offset * step) / step, low, high))


def late_start(observations: pd.DataFrame, index: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Begin each stay's record at a random moment between its start and the last of its index times.

    Args:
        observations: checked observations.
        index: ``subject_id, index_time, start`` and any others, in order of subject and time.

    Returns:
        The readings observed from that moment on, and the first :data:`LATE_HOURS` index rows from it on. Subjects that are
        not in the index are in neither.
    """
    subject, subjects = pd.factorize(index["subject_id"])
    last = index.drop_duplicates("subject_id", keep="last")
    share = _drawn(pd.DataFrame({"subject_id": pd.Categorical(last["subject_id"])}), "record.begins.at")
    start = _microseconds(last["start"])
    begin = start + (share * (_microseconds(last["index_time"]) - start)).astype(np.int64)
    later = np.flatnonzero(_microseconds(index["index_time"]) >= begin[subject])
    rows = index.iloc[later[_rank(subject[later]) < LATE_HOURS]]
    begins = np.append(begin, np.iinfo(np.int64).max)[_positions(observations["subject_id"], subjects)]
    return observations[_microseconds(observations["observed_at"]) >= begins], rows


def last_sets(observations: pd.DataFrame, index: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave the latest reading of each signal alone, for :data:`LAST_SETS` random index times of each stay.

    Args:
        observations: checked observations.
        index: ``subject_id, index_time`` and any others, in order of subject and time.

    Returns:
        The readings and the index rows. Both name a number in place of the subject: each stay and time has its own. A reading
        was observed and recorded by that time, and is at most as old as :data:`CARRY_HOURS` says.
    """
    subject, subjects = pd.factorize(index["subject_id"])
    times = index[KEYS].assign(subject_id=index["subject_id"].astype("category").array)
    order = np.lexsort((_drawn(times, "last.set.is.at.."), subject))
    turn = np.empty(len(index), dtype=np.int64)
    turn[order] = _rank(subject[order])
    chosen = np.flatnonzero(turn < LAST_SETS)
    rows = index.iloc[chosen].assign(subject_id=np.arange(len(chosen)))
    row_of = np.full((LAST_SETS, len(subjects) + 1), -1)  # the last column: of subjects that are not in the index
    row_of[turn[chosen], subject[chosen]] = rows["subject_id"]
    at = np.append(_microseconds(rows["index_time"]), np.iinfo(np.int64).min)  # the last one: before any reading
    signal, signals = pd.factorize(observations["signal"])
    carried = np.array([CARRY_HOURS[SIGNALS[str(name)].kind] * _HOUR for name in signals], dtype=np.int64)[signal]
    observed, recorded = _microseconds(observations["observed_at"]), _microseconds(observations["recorded_at"])
    value, owner = observations["value"].to_numpy(np.float64), _positions(observations["subject_id"], subjects)
    sets = []
    for row in row_of[:, owner]:
        time = at[row]
        known = np.flatnonzero((observed <= time) & (recorded <= time) & (observed > time - carried))
        series = row[known] * len(signals) + signal[known]
        order = np.lexsort((value[known], recorded[known], observed[known], series))
        latest = known[order[np.diff(series[order], append=-1) != 0]]
        sets.append(observations.iloc[latest].assign(subject_id=row[latest]))
    return pd.concat(sets), rows


def _rank(groups: Int64) -> Int64:
    """The number of each row within its group, from 0; groups stand together."""
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(first, np.diff(first, append=len(groups)))


def _positions(names: "pd.Series[str]", among: "pd.Index[str]") -> Int64:
    """Position of each name, -1 where it is none of them."""
    codes, found = pd.factorize(names)
    return pd.Index(among).astype(object).get_indexer(pd.Index(found).astype(object))[codes].astype(np.int64)


def _microseconds(times: "pd.Series[pd.Timestamp]") -> Int64:
    return times.to_numpy("datetime64[us]").astype(np.int64)


def _drawn(rows: pd.DataFrame, purpose: str) -> NDArray[np.float64]:
    """A number in [0, 1) that is each row's own, for a purpose (16 letters), shape (n_rows,)."""
    hashed = pd.util.hash_pandas_object(rows, index=False, hash_key=purpose)
    return np.asarray(hashed.to_numpy() / 2.0**64)
