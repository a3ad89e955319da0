"""Index times, labels, and splits and folds by patient: what training and evaluation need before any feature."""

import hashlib
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vigil.features.catalogue import INDEX_STEP
from vigil.models.tasks import Index, Population, RiskTask

Split = Literal["train", "held_out"]

HELD_OUT_SHARE: Final = 0.2
LABEL_COLUMNS: Final = [
    "subject_id",
    "index_time",
    "onset",
    "onset_known",
    "label",
]  # columns of an index time that evaluation needs


def index_times(stays: pd.DataFrame, which: Index = "hourly") -> pd.DataFrame:
    """Return the index times of every stay: its start and each index step up to and including its end; or its end alone.

    Args:
        stays: columns ``subject_id, start, end`` and any others, one row per subject.
        which: index times of a stay.

    Returns:
        The stays' rows repeated, with a column ``index_time``; ordered by subject and time.

    >>> start = pd.Timestamp("2026-01-01T10:00Z").as_unit("us")
    >>> stays = pd.DataFrame({"subject_id": ["a"], "start": [start], "end": [start + pd.Timedelta(hours=2.5)]})
    >>> index_times(stays)["index_time"].dt.hour.tolist()
    [10, 11, 12]
    """
    stays = stays.sort_values("subject_id", kind="stable")
    if which == "end":
        return stays.assign(index_time=stays["end"]).reset_index(drop=True)
    length = (stays["end"] - stays["start"]).to_numpy("timedelta64[us]")
    steps = length // np.timedelta64(INDEX_STEP) + 1
    index = stays.take(np.repeat(np.arange(len(stays)), steps)).reset_index(drop=True)
    step = np.arange(len(index)) - np.repeat(np.cumsum(steps) - steps, steps)
    index["index_time"] = index["start"] + step * pd.Timedelta(INDEX_STEP).as_unit("us")
    return index


def label_index_times(index: pd.DataFrame, outcomes: pd.DataFrame, task: RiskTask) -> pd.DataFrame:
    """Label index times.

    Args:
        index: columns ``subject_id, index_time, end``. With ``start, age`` the task's population is asked alone.
        outcomes: columns ``subject_id, onset, kind, onset_known``, at most one row per subject.
        task: what counts as positive.

    Returns:
        The index with three more columns. ``onset`` is NaT without an event. ``onset_known`` is False if the event began before
        the record. ``label`` is 1 if the onset lies in (t, t + horizon], else 0. Times after the onset, and horizons cut off by
        the end of the stay, have the label that the task states; it is NaN if the task leaves the time out, or the patient.
    """
    labelled = index.merge(outcomes[["subject_id", "onset", "onset_known"]], on="subject_id", how="left", validate="m:1")
    onset, t = labelled["onset"], labelled["index_time"]
    has_event = onset.notna()
    labelled["onset_known"] = labelled["onset_known"].ne(False)  # no event: nothing unknown
    known = labelled["onset_known"]
    # If the event began before the record, every time counts as after the onset.
    after = has_event & ((t >= onset) | ~known)
    ahead = has_event & ~after & (onset <= t + task.horizon)
    cut_off = ~has_event & (t + task.horizon > labelled["end"])
    value = {"positive": 1.0, "negative": 0.0, "left_out": np.nan}
    label = np.select([after, ahead, cut_off], [value[task.after_onset], 1.0, value[task.cut_off]], default=0.0)
    limited = task.population != Population() and "start" in labelled
    labelled["label"] = np.where(_is_asked(labelled, task.population), label, np.nan) if limited else label
    return labelled


def _is_asked(index: pd.DataFrame, population: Population) -> NDArray[np.bool_]:
    """Return at which index times a population is asked about."""
    asked = (index["index_time"] - index["start"] >= population.first).to_numpy()
    age = index["age"].to_numpy(np.float64)
    if population.age_from is not None:
        asked &= ~(age < population.age_from)
    if population.age_below is not None:
        asked &= ~(age >= population.age_below)
    return asked


def patient_of(subject_id: str) -> str:
    """Return the patient of a subject. In cohorts with several stays per patient, a subject is named ``<patient>~<stay>``.

    >>> patient_of("p12~2"), patient_of("p12")
    ('p12', 'p12')
    """
    return subject_id.partition("~")[0]


def number_patients(subject_ids: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Return the number of each row's patient, shape (n_rows,), and the patients' names in order of number.

    >>> numbers, names = number_patients(["p1~1", "p2~1", "p1~2"])
    >>> numbers.tolist(), names.tolist()
    ([0, 1, 0], ['p1', 'p2'])
    """
    row, subjects = pd.factorize(np.asarray(subject_ids))
    patient, patients = pd.factorize(np.array([patient_of(str(subject)) for subject in subjects], dtype=object))
    return patient[row].astype(np.int64), patients


def split_of(subject_id: str) -> Split:
    """Return the split of a subject, by a fixed function of the patient's name (in an ingested cohort the subject key).

    So no patient is ever in two splits, a patient who returns stays in theirs, and no list of patients needs to be stored.
    """
    return "held_out" if _position(subject_id, b"vigil-split") < HELD_OUT_SHARE else "train"


def assign_splits(subject_ids: "pd.Series[str]") -> "pd.Series[str]":
    """Return the split of each row (:func:`split_of`)."""
    codes, uniques = pd.factorize(subject_ids)
    return pd.Series(np.array([split_of(str(subject)) for subject in uniques], dtype=object)[codes], index=subject_ids.index)


def assign_folds(subject_ids: "pd.Series[str]", event: NDArray[np.bool_], number: int, *, seed: int) -> NDArray[np.int64]:
    """Return the fold of each row: all rows of a patient are in one, and patients with an event are spread evenly.

    Args:
        subject_ids: subject of each row.
        event: whether the row holds an event, shape (n_rows,). A patient has an event if any of their rows holds one.
        number: of folds.
        seed: another seed divides differently. The order of rows does not matter.

    Returns:
        0 to number - 1, shape (n_rows,).
    """
    codes, uniques = number_patients(subject_ids)
    has_event = np.bincount(codes, weights=event, minlength=len(uniques)) > 0
    position = np.array([_position(name, b"vigil-folds", seed) for name in uniques])
    order = np.lexsort((position, has_event))
    fold = np.empty(len(uniques), dtype=np.int64)
    fold[order] = np.arange(len(uniques)) % number
    return fold[codes]


def _position(subject_id: str, purpose: bytes, seed: int = 0) -> float:
    """Return a number in [0, 1) that depends on the patient, the purpose and the seed alone."""
    digest = hashlib.blake2b(
        patient_of(subject_id).encode(), digest_size=8, person=purpose, salt=seed.to_bytes(8, "big")
    ).digest()
    return int.from_bytes(digest, "big") / 2**64
