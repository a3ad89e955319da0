"""Compute features from observations, by the same function for a whole cohort, a part of it, or one patient."""

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.catalogue import DECLARED, STANDARD, VIEWS, list_features
from vigil.features.derived import DerivedFeatures
from vigil.features.kernel import ObservationArrays, compute_window_statistics
from vigil.features.kernel.plan import HOUR_US, Int64, Plan, order_by_signal, plan_kernel
from vigil.features.observations import TIME, ObservationError
from vigil.features.revisions import split_by_validity
from vigil.features.signals import STORED, STORED_NAMES
from vigil.features.ties import rank_severity
from vigil.features.windows import WindowFeature

KEYS: Final = ["subject_id", "index_time"]
PATIENT_COLUMNS: Final = ("age", "sex", "unit_admitted_at", "hospital_admitted_at")

_BLOCK_ROWS: Final = 2048  # index times that are computed as one block
_LARGEST: Final = 2.0**53  # above this, float64 cannot represent every integer

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class IndexTimes(NamedTuple):
    """Index times of some subjects, with the patient's characteristics at each of them.

    Attributes:
        times: Microseconds UTC, subject after subject, ascending within a subject; shape (n_rows,).
        bounds: Subject s has the rows [bounds[s], bounds[s + 1]); shape (n_subjects + 1,).
        age, sex: Years; 0 female, 1 male. NaN where unknown; shape (n_rows,).
        unit_admitted, hospital_admitted: Microseconds UTC, NaN where unknown; shape (n_rows,).
        pregnant: 0 or 1, NaN where unknown; shape (n_rows,).
    """

    times: Int64
    bounds: Int64
    age: Float64
    sex: Float64
    unit_admitted: Float64
    hospital_admitted: Float64
    pregnant: Float64

    def rows_of(self, subjects: slice) -> slice:
        """Return the rows of a slice of the subjects."""
        return slice(self.bounds[subjects.start], self.bounds[subjects.stop])

    def select(self, subjects: slice) -> "IndexTimes":
        """Return the index times of a slice of the subjects."""
        rows = self.rows_of(subjects)
        bounds = self.bounds[subjects.start : subjects.stop + 1] - rows.start
        characteristics = (self.age, self.sex, self.unit_admitted, self.hospital_admitted, self.pregnant)
        return IndexTimes(self.times[rows], bounds, *(values[rows] for values in characteristics))


class Computation(NamedTuple):
    """The computation of some views at any index time: first window features by the kernel, then derived features.

    Attributes:
        features: Names of the resulting features, in the order of the catalogue.
        signals: Signals of the observation series, in order. They are the same for all views.
        plan, width: Plan of the kernel, and the number of columns that it computes.
        inputs: Inputs of the derived features: name, and column in the kernel's output.
        derived: Derived features, each after those that it needs.
        copied_positions, copied_columns: The kernel's columns ``copied_columns`` become ``features[copied_positions]``.
        derived_positions: Position and name of every other feature.
    """

    features: tuple[str, ...]
    signals: tuple[str, ...]
    plan: Plan
    width: int
    inputs: tuple[tuple[str, int], ...]
    derived: tuple[DerivedFeatures, ...]
    copied_positions: Int64
    copied_columns: Int64
    derived_positions: tuple[tuple[int, str], ...]


@functools.cache
def plan_computation(views: tuple[str, ...] = STANDARD) -> Computation:
    """Plan the computation of the features of some views and of everything that they need from other views."""
    views = tuple(sorted(set(views), key=list(VIEWS).index))
    features = list_features(*views)
    declarations = list(dict.fromkeys(_with_needs(declaration for view in views for declaration in DECLARED[view])))
    derived = tuple(declaration for declaration in declarations if isinstance(declaration, DerivedFeatures))
    ordered = order_by_signal([declaration for declaration in declarations if isinstance(declaration, WindowFeature)])
    signals, plan = plan_kernel(ordered, STORED_NAMES)  # checked observations are in this order: no sorting is needed
    column = {feature.name: number for number, feature in enumerate(ordered)}
    needed = dict.fromkeys(need.name for group in derived for need in group.needs if isinstance(need, WindowFeature))
    copied = [(position, column[name]) for position, name in enumerate(features) if name in column]
    return Computation(
        features=features,
        signals=signals,
        plan=plan,
        width=len(ordered),
        inputs=tuple((name, column[name]) for name in needed),
        derived=derived,
        copied_positions=np.array([position for position, _ in copied], dtype=np.int64),
        copied_columns=np.array([kernel_column for _, kernel_column in copied], dtype=np.int64),
        derived_positions=tuple((position, name) for position, name in enumerate(features) if name not in column),
    )


def _with_needs(declarations: Iterable[WindowFeature | DerivedFeatures]) -> Iterator[WindowFeature | DerivedFeatures]:
    """Yield the needs of each declaration, then the declaration."""
    for declaration in declarations:
        if isinstance(declaration, DerivedFeatures):
            yield from _with_needs(declaration.needs)
        yield declaration


@functools.cache
def fingerprint_definition() -> str:
    """Return a fingerprint of the code that computes features.

    It changes with any line of the package ``features``, and with the versions of numpy and numba.
    """
    digest = hashlib.blake2b(f"{np.__version__} {numba.__version__}".encode(), digest_size=16)
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def build_features(observations: pd.DataFrame, index: pd.DataFrame, views: Iterable[str] = STANDARD) -> pd.DataFrame:
    """Compute the features of some views as known at each index time.

    Args:
        observations: Checked observations (:func:`vigil.features.observations.check`), in any order. One with ``superseded_at``
            counts before that time only.
        index: One row is one index time: ``subject_id``, ``index_time``, and the patient's ``age``, ``sex``,
            ``unit_admitted_at`` and ``hospital_admitted_at``. The column ``pregnant`` is optional.
        views: Names of views, in any order.

    Returns:
        One row for each index row, ordered by subject and time: ``subject_id``, ``index_time`` and the features in the order
        of the catalogue. Features are float32, NaN where unknown. A row depends only on observations of its own subject that
        were observed and recorded at or before its index time.

    Raises:
        ObservationError: The index lacks a value or has a duplicate row, an observation belongs to no subject of the index,
            or an observation was not checked.
        KernelOverflowError: One signal of one subject has more observations than can be summed exactly.

    Two index times of a patient with one observation:

    >>> from vigil.features.observations import check
    >>> time = pd.Timestamp("2026-01-31T08:00:00Z")
    >>> observations = check(
    ...     pd.DataFrame({"subject_id": ["a"], "observed_at": time, "signal": "heart_rate", "value": 112.0})
    ... ).accepted
    >>> index = pd.DataFrame({
    ...     "subject_id": "a", "index_time": [time, time + pd.Timedelta(hours=2)], "age": 71.0, "sex": 0.0,
    ...     "unit_admitted_at": time, "hospital_admitted_at": time,
    ... })
    >>> features = build_features(observations, index, ["vital_signs", "scores"])
    >>> features[["subject_id", "heart_rate_last_24h", "heart_rate_count_1h", "news2_heart_rate"]].values.tolist()
    [['a', 112.0, 1.0, 2.0], ['a', 112.0, 0.0, 2.0]]
    >>> build_features(observations, index.drop(columns="age"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    vigil.features.observations.ObservationError: index: missing column age; expected subject_id, index_time, age, sex, ...
    """
    _check_index(index)
    views = tuple(views)
    index = index.sort_values(KEYS, kind="stable").reset_index(drop=True)
    keys = index[KEYS]
    observations, index = split_by_validity(observations, index)
    codes, subjects = pd.factorize(index["subject_id"])
    index_times = IndexTimes(
        times=_microseconds(index["index_time"], "index_time"),
        bounds=np.searchsorted(codes, np.arange(len(subjects) + 1)).astype(np.int64),
        age=index["age"].to_numpy(np.float64),
        sex=index["sex"].to_numpy(np.float64),
        unit_admitted=_microseconds_or_nan(index["unit_admitted_at"]),
        hospital_admitted=_microseconds_or_nan(index["hospital_admitted_at"]),
        pregnant=index["pregnant"].to_numpy(np.float64) if "pregnant" in index else np.full(len(index), np.nan),
    )
    matrix = compute_features(group_observations(observations, pd.Index(subjects)), index_times, views)
    return pd.concat([keys, pd.DataFrame(matrix, columns=list(plan_computation(views).features), copy=False)], axis=1)


def _check_index(index: pd.DataFrame) -> None:
    """Refuse an index that the computation could misread. Error messages do not quote its content, which is patient data."""
    missing = [column for column in (*KEYS, *PATIENT_COLUMNS) if column not in index]
    if missing:
        raise ObservationError(f"index: missing column {', '.join(missing)}; expected {', '.join((*KEYS, *PATIENT_COLUMNS))}")
    if index["subject_id"].isna().any():
        raise ObservationError("index: a subject_id is missing; expected one in each row")
    for column in ("index_time", "unit_admitted_at", "hospital_admitted_at"):
        if not isinstance(index[column].dtype, pd.DatetimeTZDtype):
            raise ObservationError(f"index: {column} has no time zone or is no time; expected the dtype {TIME}")
    for column in ("age", "sex"):
        if not pd.api.types.is_numeric_dtype(index[column]) or np.isinf(index[column].to_numpy(np.float64)).any():
            raise ObservationError(
                f"index: {column} has a value that is not a finite number; expected a number, or NaN if unknown"
            )
    if index.duplicated(KEYS).any():
        raise ObservationError(
            "index: the same subject_id and index_time twice; expected each index time of a subject once; remove duplicates"
        )


def compute_features(readings: ObservationArrays, index_times: IndexTimes, views: tuple[str, ...] = STANDARD) -> Float32:
    """Compute features from arrays. :func:`build_features` and :mod:`vigil.features.online` share this function.

    Subjects are computed in blocks on all cores, so that the data of a block stay in the processor's cache.

    Args:
        readings: Observation series in the order of ``computation().signals``.
        index_times: Index times of the same subjects.
        views: Views to compute.

    Returns:
        Array of shape (n_rows, n_features) with the columns ``computation(views).features``.
    """
    planned = plan_computation(views)
    matrix = np.empty((len(planned.features), len(index_times.times)), dtype=np.float32)
    cuts = np.unique(np.searchsorted(index_times.bounds, np.arange(0, len(index_times.times), _BLOCK_ROWS)))
    blocks = [slice(first, last) for first, last in pairwise([*cuts, len(index_times.bounds) - 1]) if first < last]

    def fill_block(block: slice) -> None:
        _fill(planned, readings.select(block), index_times.select(block), matrix[:, index_times.rows_of(block)])

    if len(blocks) < 2:
        _fill(planned, readings, index_times, matrix)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(fill_block, blocks))
    return matrix.T


def _fill(planned: Computation, readings: ObservationArrays, index_times: IndexTimes, matrix: Float32) -> None:
    """Write the features of a block of subjects into a matrix of shape (n_features, n_rows)."""
    windows = np.empty((planned.width, len(index_times.times)))
    compute_window_statistics(planned.plan, readings, index_times.times, index_times.bounds, windows)
    fill_from_windows(planned, windows, index_times, matrix)


def fill_from_windows(planned: Computation, windows: Float64, index_times: IndexTimes, matrix: Float32) -> None:
    """Write features into a matrix of shape (n_features, n_rows), from window statistics of shape (planned.width, n_rows)."""
    columns: dict[str, Float64] = {name: windows[column] for name, column in planned.inputs}
    columns |= {
        "age": index_times.age,
        "sex": index_times.sex,
        "hours_in_unit": (index_times.times - index_times.unit_admitted) / HOUR_US,
        "hours_in_hospital_before": (index_times.unit_admitted - index_times.hospital_admitted) / HOUR_US,
        "pregnant": index_times.pregnant,
    }
    for group in planned.derived:
        columns.update(group.compute(columns))
    matrix[planned.copied_positions] = windows[planned.copied_columns]
    for position, name in planned.derived_positions:
        matrix[position] = columns[name]


def encode_observations(observations: pd.DataFrame) -> tuple[Int64, Int64, Int64, Int64]:
    """Encode checked observations as integer arrays.

    Returns:
        Position of the signal in ``computation().signals``, ``observed_at`` and ``recorded_at`` in microseconds UTC, and the
        value in steps of the signal's resolution. Each array has shape (n_observations,).

    Raises:
        ObservationError: An observation was not checked.
    """
    if "superseded_at" in observations and observations["superseded_at"].notna().any():
        raise ObservationError("observations: superseded_at: some count for a time only; expected those that count now")
    signals = plan_computation().signals
    signal = _find_positions(observations["signal"], pd.Index(signals))
    if (signal < 0).any():
        raise ObservationError(_UNCHECKED.format("signal", "a name of the signal table"))
    steps_per_unit = np.array([STORED[name].steps_per_unit for name in signals], dtype=np.float64)
    scaled = np.rint(observations["value"].to_numpy(np.float64) * steps_per_unit[signal])
    if not (np.abs(scaled) < _LARGEST).all():  # false for NaN too
        raise ObservationError(_UNCHECKED.format("value", "a finite number in the signal's plausible range"))
    observed, recorded = (_microseconds(observations[column], column) for column in ("observed_at", "recorded_at"))
    return signal, observed, recorded, scaled.astype(np.int64)


def group_observations(observations: pd.DataFrame, subjects: "pd.Index[str]") -> ObservationArrays:
    """Group checked observations into series: by subject, then by signal, then by time.

    Raises:
        ObservationError: An observation was not checked, or belongs to no subject of the index.
    """
    signals = plan_computation().signals
    subject = _find_positions(observations["subject_id"], subjects)
    if (subject < 0).any():
        raise ObservationError(
            f"observations: {(subject < 0).sum()} rows of subjects without an index row; expected only subjects of the index; "
            "remove these rows, or add the subjects to the index"
        )
    signal, *rest = encode_observations(observations)
    observed, recorded, steps = rest
    series = subject * len(signals) + signal
    if not _is_ascending((series, observed, recorded), strictly=True):
        columns = (series, observed, recorded, severity(signal, steps), steps)
        if not _is_ascending(columns):
            order = np.lexsort(columns[::-1])
            series, observed, recorded, steps = series[order], observed[order], recorded[order], steps[order]
    bounds = np.searchsorted(series, np.arange(len(subjects) * len(signals) + 1)).astype(np.int64)
    shape = (len(subjects), len(signals))
    return ObservationArrays(
        observed=observed,
        recorded=recorded,
        steps=steps,
        begin=np.ascontiguousarray(bounds[:-1].reshape(shape).T),
        end=np.ascontiguousarray(bounds[1:].reshape(shape).T),
        forgotten=np.zeros((0, 0, 3), dtype=np.int64),
    )


_UNCHECKED: Final = "observations: {}: expected {}; check the observations first: features.observations.check"


def _find_positions(names: "pd.Series[str]", index: "pd.Index[str]") -> Int64:
    """Return the position of each name in an index, -1 where the index does not have it."""
    codes, uniques = pd.factorize(names)
    positions = np.append(index.get_indexer(pd.Index(uniques).astype(object)), -1)
    return positions[codes].astype(np.int64)


def severity(signal: Int64, steps: Int64) -> Float64:
    """Return the severity (:func:`vigil.features.ties.rank_severity`) of encoded observations."""
    return rank_severity(signal, steps / plan_computation().plan.steps_per_unit[signal])


def _is_ascending(columns: tuple[NDArray[Any], ...], *, strictly: bool = False) -> bool:
    """Return whether rows are in lexicographic order, as checked observations are; strictly: no two are equal."""
    undecided = np.ones(max(len(columns[0]) - 1, 0), dtype=bool)
    for column in columns:
        before, after = column[:-1], column[1:]
        if (undecided & (before > after)).any():
            return False
        undecided &= before == after
    return not (strictly and undecided.any())


def _microseconds_or_nan(times: "pd.Series[pd.Timestamp]") -> Float64:
    """Return microseconds as float64, which represents them exactly, and NaN where the time is missing."""
    return np.where(times.isna(), np.nan, times.astype(TIME).to_numpy("datetime64[us]").astype(np.int64))


def _microseconds(times: "pd.Series[pd.Timestamp]", column: str) -> Int64:
    if times.isna().any():
        raise ObservationError(
            f"{column}: a time is missing; expected one in each row; check first: features.observations.check"
        )
    return np.array(times.astype(TIME).to_numpy("datetime64[us]").astype(np.int64))  # a copy: the kernel needs a writable array
