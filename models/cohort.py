"""Index times, labels and patient-grouped splits: what a model is trained and judged on, before any feature."""

import hashlib
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from features.catalogue import INDEX_STEP
from models.tasks import Index, RiskTask

Split = Literal["train", "held_out"]

HELD_OUT_SHARE: Final = 0.2
LABELLED: Final = ["subject_id", "index_time", "onset", "onset_known", "label"]  # what judging a model needs of an index time


def index_times(stays: pd.DataFrame, which: Index = "hourly") -> pd.DataFrame:
    """The index grid: for every stay its start and each index step after it, up to and including its end; or its end alone.

    Args:
        stays: columns ``subject_id, start, end`` and any others, one row a subject.
        which: times of a stay.

    Returns:
        The stays' rows repeated, with a column ``index_time``; ordered by subject and time.
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


def label(index: pd.DataFrame, outcomes: pd.DataFrame, task: RiskTask) -> pd.DataFrame:
    """Labels of index times.

    Args:
        index: columns ``subject_id, index_time, end``.
        outcomes: columns ``subject_id, onset, kind, onset_known``, at most one row a subject.

    Returns:
        The index with ``onset`` (NaT: no event), ``onset_known`` and ``label``: 1 if the onset lies in
        (t, t + horizon], else 0, or what the task says of times after the onset and of horizons cut off by the end of the
        stay; missing where the task leaves the time out.
    """
    labelled = index.merge(outcomes[["subject_id", "onset", "onset_known"]], on="subject_id", how="left", validate="m:1")
    onset, t = labelled["onset"], labelled["index_time"]
    has_event = onset.notna()
    labelled["onset_known"] = labelled["onset_known"].ne(False)  # no event: nothing unknown
    known = labelled["onset_known"]
    # Where the event was under way when the record began, every time counts as after the onset.
    after = has_event & ((t >= onset) | ~known)
    ahead = has_event & ~after & (onset <= t + task.horizon)
    cut_off = ~has_event & (t + task.horizon > labelled["end"])
    value = {"positive": 1.0, "negative": 0.0, "left_out": np.nan}
    labelled["label"] = np.select([after, ahead, cut_off], [value[task.after_onset], 1.0, value[task.cut_off]], default=0.0)
    return labelled


def patient_of(subject_id: str) -> str:
    """Whose stay it is. Where a cohort holds several stays of a patient its source names each ``<patient>~<stay>``."""
    return subject_id.partition("~")[0]


def by_patient(subject_ids: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """The number of each row's patient, shape (n_rows,), and the patients' identifiers in order of number."""
    row, subjects = pd.factorize(np.asarray(subject_ids))
    patient, patients = pd.factorize(np.array([patient_of(str(subject)) for subject in subjects], dtype=object))
    return patient[row].astype(np.int64), patients


def split_of(subject_id: str) -> Split:
    """The split a subject belongs to: a fixed function of the patient's identifier (his pseudonym, in what was ingested).

    So no patient is ever in two splits, one seen again stays where he was, and no list of patients has to be kept.
    """
    return "held_out" if _position(subject_id, b"vigil-split") < HELD_OUT_SHARE else "train"


def splits(subject_ids: "pd.Series[str]") -> "pd.Series[str]":
    """:func:`split_of` for each row."""
    codes, uniques = pd.factorize(subject_ids)
    return pd.Series(np.array([split_of(str(subject)) for subject in uniques], dtype=object)[codes], index=subject_ids.index)


def folds(subject_ids: "pd.Series[str]", event: NDArray[np.bool_], number: int, *, seed: int) -> NDArray[np.int64]:
    """Which fold each row is in: a patient in one, the patients with an event spread evenly.

    Args:
        subject_ids: whose row it is.
        event: rows that hold an event, shape (n_rows,); a patient with one such row has one.
        number: of folds.
        seed: another one divides otherwise. The order of rows does not matter.

    Returns:
        0 to number - 1, shape (n_rows,).
    """
    codes, uniques = by_patient(subject_ids)
    has_event = np.bincount(codes, weights=event, minlength=len(uniques)) > 0
    position = np.array([_position(name, b"vigil-folds", seed) for name in uniques])
    order = np.lexsort((position, has_event))
    fold = np.empty(len(uniques), dtype=np.int64)
    fold[order] = np.arange(len(uniques)) % number
    return fold[codes]


def _position(subject_id: str, purpose: bytes, seed: int = 0) -> float:
    """A number in [0, 1) that is the patient's own."""
    digest = hashlib.blake2b(
        patient_of(subject_id).encode(), digest_size=8, person=purpose, salt=seed.to_bytes(8, "big")
    ).digest()
    return int.from_bytes(digest, "big") / 2**64
