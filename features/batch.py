"""Features from observations: the same function for a whole cohort, a part of it, or one patient."""

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import DECLARED, STANDARD, VIEWS, of
from features.derived import Derived
from features.kernel import Readings, window_statistics
from features.kernel.plan import HOUR_US, Int64, Plan, in_order, plan_of
from features.observations import TIME, ObservationError
from features.signals import SIGNALS
from features.windows import WindowFeature

KEYS: Final = ["subject_id", "index_time"]
PATIENT_COLUMNS: Final = ("age", "sex", "unit_admitted_at", "hospital_admitted_at")

_BLOCK_ROWS: Final = 2048  # index times that are computed together
_LARGEST: Final = 2.0**53  # beyond it float64 no longer holds every whole number

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class IndexTimes(NamedTuple):
    """When features are asked for, and what is known of the patient then.

    Attributes:
        times: microseconds UTC, subject after subject, ascending within a subject; shape (n_rows,).
        bounds: subject s owns rows [bounds[s], bounds[s + 1]); shape (n_subjects + 1,).
        age, sex: years; 0 female, 1 male; NaN where unknown; shape (n_rows,).
        unit_admitted, hospital_admitted: microseconds UTC, NaN where unknown; shape (n_rows,).
        pregnant: 0 or 1, NaN where unknown; shape (n_rows,).
    """

    times: Int64
    bounds: Int64
    age: Float64
    sex: Float64
    unit_admitted: Float64
    hospital_admitted: Float64
    pregnant: Float64

    def rows(self, subjects: slice) -> slice:
        """The rows of some of the subjects."""
        return slice(self.bounds[subjects.start], self.bounds[subjects.stop])

    def of(self, subjects: slice) -> "IndexTimes":
        """The index times of some of the subjects."""
        rows = self.rows(subjects)
        bounds = self.bounds[subjects.start : subjects.stop + 1] - rows.start
        patient = (self.age, self.sex, self.unit_admitted, self.hospital_admitted, self.pregnant)
        return IndexTimes(self.times[rows], bounds, *(known[rows] for known in patient))


class Computation(NamedTuple):
    """What is computed for any index time: window features by the kernel, then the derived ones in turn.

    Attributes:
        features: names of what comes out, in the order of the catalogue.
        signals: whose series the readings hold, in which order; the same whatever is computed of them.
        plan, width: what the kernel computes, in how many columns.
        inputs: the columns from which others are derived: name and place in the kernel's output.
        derived: what is made of it.
        places, columns: features[places] are the kernel's columns as they are.
        made: the other features: place and name.
    """

    features: tuple[str, ...]
    signals: tuple[str, ...]
    plan: Plan
    width: int
    inputs: tuple[tuple[str, int], ...]
    derived: tuple[Derived, ...]
    places: Int64
    columns: Int64
    made: tuple[tuple[int, str], ...]


@functools.cache
def computation(views: tuple[str, ...] = STANDARD) -> Computation:
    """All that views declare, and what they need of others."""
    views = tuple(sorted(set(views), key=list(VIEWS).index))
    features = of(*views)
    entries = list(dict.fromkeys(_with_needs(entry for view in views for entry in DECLARED[view])))
    derived = tuple(entry for entry in entries if isinstance(entry, Derived))
    ordered = in_order([entry for entry in entries if isinstance(entry, WindowFeature)])
    signals, plan = plan_of(ordered, tuple(sorted(SIGNALS)))  # as checked observations are: no need to sort them again
    column = {feature.name: number for number, feature in enumerate(ordered)}
    needed = dict.fromkeys(feature.name for entry in derived for feature in entry.needs if isinstance(feature, WindowFeature))
    direct = [(place, column[name]) for place, name in enumerate(features) if name in column]
    return Computation(
        features=features,
        signals=signals,
        plan=plan,
        width=len(ordered),
        inputs=tuple((name, column[name]) for name in needed),
        derived=derived,
        places=np.array([place for place, _ in direct], dtype=np.int64),
        columns=np.array([kernel_column for _, kernel_column in direct], dtype=np.int64),
        made=tuple((place, name) for place, name in enumerate(features) if name not in column),
    )


def _with_needs(entries: Iterable[WindowFeature | Derived]) -> Iterator[WindowFeature | Derived]:
    """Each entry after what it is made of."""
    for entry in entries:
        if isinstance(entry, Derived):
            yield from _with_needs(entry.needs)
        yield entry


@functools.cache
def definition() -> str:
    """A fingerprint of how features are made: it changes with any line of this room, and with numpy's and numba's versions."""
    hashed = hashlib.blake2b(f"{np.__version__} {numba.__version__}".encode(), digest_size=16)
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        hashed.update(source.read_bytes())
    return hashed.hexdigest()


def build_features(observations: pd.DataFrame, index: pd.DataFrame, views: Iterable[str] = STANDARD) -> pd.DataFrame:
    """Every feature of some views, as known at each index time.

    Args:
        observations: checked observations (:func:`features.observations.check`), in any order.
        index: one row an index time: ``subject_id``, ``index_time`` and the patient's ``age``, ``sex``,
            ``unit_admitted_at``, ``hospital_admitted_at``; ``pregnant`` where that is known of some.
        views: names of views, in any order.

    Returns:
        One row an index row, ordered by subject and time: ``subject_id``, ``index_time`` and float32 features, NaN where
        unknown, in the order of the catalogue. A row depends only on its own subject's readings that were observed and
        recorded at or before it.

    Raises:
        ObservationError: the index lacks something or says it twice, an observation's subject is not in it, or a reading was
            not checked.
        KernelOverflowError: more readings of one signal of one subject than can be summed exactly.
    """
    _check_index(index)
    views = tuple(views)
    index = index.sort_values(KEYS, kind="stable").reset_index(drop=True)
    codes, subjects = pd.factorize(index["subject_id"])
    at = IndexTimes(
        times=_microseconds(index["index_time"], "index_time"),
        bounds=np.searchsorted(codes, np.arange(len(subjects) + 1)).astype(np.int64),
        age=index["age"].to_numpy(np.float64),
        sex=index["sex"].to_numpy(np.float64),
        unit_admitted=_moments(index["unit_admitted_at"]),
        hospital_admitted=_moments(index["hospital_admitted_at"]),
        pregnant=index["pregnant"].to_numpy(np.float64) if "pregnant" in index else np.full(len(index), np.nan),
    )
    matrix = feature_matrix(readings_of(observations, pd.Index(subjects)), at, views)
    return pd.concat([index[KEYS], pd.DataFrame(matrix, columns=list(computation(views).features), copy=False)], axis=1)


def _check_index(index: pd.DataFrame) -> None:
    """An index that the computation could misread is refused, without quoting what is in it."""
    missing = [column for column in (*KEYS, *PATIENT_COLUMNS) if column not in index]
    if missing:
        raise ObservationError(f"index: missing column {', '.join(missing)}; expected {', '.join((*KEYS, *PATIENT_COLUMNS))}")
    if index["subject_id"].isna().any():
        raise ObservationError("index: a subject_id is missing; expected one in each row")
    for column in ("index_time", "unit_admitted_at", "hospital_admitted_at"):
        if not isinstance(index[column].dtype, pd.DatetimeTZDtype):
            raise ObservationError(f"index: {column} is not of instants; expected times with a zone, such as {TIME}")
    for column in ("age", "sex"):
        if not pd.api.types.is_numeric_dtype(index[column]) or np.isinf(index[column].to_numpy(np.float64)).any():
            raise ObservationError(f"index: {column} is not of finite numbers; expected a number, or NaN where it is unknown")
    if index.duplicated(KEYS).any():
        raise ObservationError("index: the same subject_id and index_time twice; expected each index time of a subject once")


def feature_matrix(readings: Readings, at: IndexTimes, views: tuple[str, ...] = STANDARD) -> Float32:
    """The same on arrays: what :func:`build_features` and the online update share.

    Computed on all cores, block after block of subjects: what a block needs stays in the processor's cache.

    Args:
        readings: series in the order of ``computation().signals``.
        at: index times of the same subjects.
        views: what is computed.

    Returns:
        Shape (n_rows, n_features), columns those of ``computation(views).features``.
    """
    todo = computation(views)
    matrix = np.empty((len(todo.features), len(at.times)), dtype=np.float32)
    cuts = np.unique(np.searchsorted(at.bounds, np.arange(0, len(at.times), _BLOCK_ROWS)))
    blocks = [slice(first, last) for first, last in pairwise([*cuts, len(at.bounds) - 1]) if first < last]
    if len(blocks) < 2:
        _fill(todo, readings, at, matrix)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda block: _fill(todo, readings.of(block), at.of(block), matrix[:, at.rows(block)]), blocks))
    return matrix.T


def _fill(todo: Computation, readings: Readings, at: IndexTimes, matrix: Float32) -> None:
    """Features of a block of subjects; shape of the matrix (n_features, n_rows)."""
    windows = np.empty((todo.width, len(at.times)))
    window_statistics(todo.plan, readings, at.times, at.bounds, windows)
    columns: dict[str, Float64] = {name: windows[column] for name, column in todo.inputs}
    columns |= {
        "age": at.age,
        "sex": at.sex,
        "hours_in_unit": (at.times - at.unit_admitted) / HOUR_US,
        "hours_in_hospital_before": (at.unit_admitted - at.hospital_admitted) / HOUR_US,
        "pregnant": at.pregnant,
    }
    for derived in todo.derived:
        columns.update(derived.compute(columns))
    matrix[todo.places] = windows[todo.columns]
    for place, name in todo.made:
        matrix[place] = columns[name]


def as_steps(observations: pd.DataFrame) -> tuple[Int64, Int64, Int64, Int64]:
    """Checked observations as whole numbers: place of the signal, observed_at, recorded_at, and value in steps.

    Raises:
        ObservationError: a reading was not checked.
    """
    signals = computation().signals
    signal = _codes(observations["signal"], pd.Index(signals))
    if (signal < 0).any():
        raise ObservationError(_UNCHECKED.format("signal", "a name of the signal table"))
    steps_per_unit = np.array([SIGNALS[name].steps_per_unit for name in signals], dtype=np.float64)
    scaled = np.rint(observations["value"].to_numpy(np.float64) * steps_per_unit[signal])
    if not (np.abs(scaled) < _LARGEST).all():  # neither is NaN
        raise ObservationError(_UNCHECKED.format("value", "a finite number in the signal's plausible range"))
    observed, recorded = (_microseconds(observations[column], column) for column in ("observed_at", "recorded_at"))
    return signal, observed, recorded, scaled.astype(np.int64)


def readings_of(observations: pd.DataFrame, subjects: "pd.Index[str]") -> Readings:
    """Observations as series, subject by subject, in each by signal and time."""
    signals = computation().signals
    subject = _codes(observations["subject_id"], subjects)
    if (subject < 0).any():
        raise ObservationError(
            f"observations: {(subject < 0).sum()} rows of subjects without an index row; expected only subjects of the index"
        )
    signal, *rest = as_steps(observations)
    columns = (subject * len(signals) + signal, *rest)
    if not _ascending(columns):
        order = np.lexsort(columns[::-1])
        columns = tuple(column[order] for column in columns)
    series, observed, recorded, steps = columns
    bounds = np.searchsorted(series, np.arange(len(subjects) * len(signals) + 1)).astype(np.int64)
    shape = (len(subjects), len(signals))
    return Readings(
        observed=observed,
        recorded=recorded,
        steps=steps,
        begin=np.ascontiguousarray(bounds[:-1].reshape(shape).T),
        end=np.ascontiguousarray(bounds[1:].reshape(shape).T),
        forgotten=np.zeros((0, 0, 3), dtype=np.int64),
    )


_UNCHECKED: Final = "observations: {}: expected {}; check the readings first: features.observations.check"


def _codes(names: "pd.Series[str]", among: "pd.Index[str]") -> Int64:
    """Position of each name, -1 where it is none of them."""
    codes, found = pd.factorize(names)
    positions = np.append(among.get_indexer(pd.Index(found).astype(object)), -1)
    return positions[codes].astype(np.int64)


def _ascending(columns: tuple[Int64, ...]) -> bool:
    """Whether rows are in lexicographic order, as checked observations are."""
    undecided = np.ones(max(len(columns[0]) - 1, 0), dtype=bool)
    for column in columns:
        before, after = column[:-1], column[1:]
        if (undecided & (before > after)).any():
            return False
        undecided &= before == after
    return True


def _moments(times: "pd.Series[pd.Timestamp]") -> Float64:
    """Microseconds as float64, which holds them exactly; NaN where missing."""
    return np.where(times.isna(), np.nan, times.astype(TIME).to_numpy("datetime64[us]").astype(np.int64))


def _microseconds(times: "pd.Series[pd.Timestamp]", column: str) -> Int64:
    if times.isna().any():
        raise ObservationError(f"{column}: a time is missing; expected an instant; check the readings first")
    return np.array(times.astype(TIME).to_numpy("datetime64[us]").astype(np.int64))  # a copy: the kernel wants it writable
