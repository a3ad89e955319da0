"""The domain of use of a model: what it has seen enough of to be asked about.

A model gives a probability for any row of features: for a child, for a patient who is measured far less often than those of
training, for a combination of vital signs that training never had. Such a probability is a guess. So every model carries limits
that are learned from its training patients, and outside them NEWS2 answers (on the need for such a check: Nicora G, Rios M,
Abu-Hanna A, Bellazzi R. Evaluating pointwise reliability of machine learning prediction. J Biomed Inform 2022;127:103996).

Five checks are made of each row: age, hours of history, observations per signal, the pattern of missing vital signs, and the
combination of their latest values (:mod:`vigil.models.typical_values`). Each may put a fifth of a stated share of the training
patient-hours outside, where a patient weighs 1 however long the stay. Together they put at most that share outside
(Bonferroni's inequality). A row without any vital sign is always outside. Such rows teach nothing here and are not part of the
share.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.catalogue import VITALS
from vigil.features.derived import LABORATORY_CARRY_HOURS, SCORE_CARRY_HOURS
from vigil.features.errors import VigilError
from vigil.models.cohort import assign_folds, number_patients
from vigil.models.typical_values import Combination, patterns, rate_limits, usual_patterns, weighted_quantiles

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# Largest share of training patient-hours outside. Our choice: a model ranks even the rarest hours of its own kind of patient
# better than NEWS2 does, so few are given up. With a smaller share the limits would be those of single patients.
SHARE_OUTSIDE: Final = 0.02
# Checked for absence and for values: the vital signs of NEWS2 that a device measures. Glucose and the other pressures are left
# to the model, because NEWS2, which answers outside, does not use them.
CHECKED: Final = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "body_temperature")

_CHECKS: Final = ("age", "hours_of_history", "readings", "not measured", "combination of values")
_AGE_MARGIN: Final = 1.0  # years. Our choice: many records hold whole years only
_HOURS_MARGIN: Final = 2.0  # hours. Our choice: hourly records often lack their first hours; those of live patients do not
# Our choice: observations may be half as frequent as the least and twice as frequent as the most frequent ones of training.
# Members also learn from patients with 0.4 of their observations (models.training.measurement_augmentation), and statistics
# over hours hardly change if observations double.
_RATE_FACTOR: Final = 2.0
_WINDOWS: Final = (SCORE_CARRY_HOURS, LABORATORY_CARRY_HOURS)  # hours; a feature service has one or the other for a signal
_FOLDS: Final = 3  # of patients, to estimate the share outside among patients that the limits were not learned from


class DomainError(VigilError):
    """The rows lack columns or observations that the domain of use needs."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """The columns of rows that are checked, NaN where unknown.

    Attributes:
        age: years, shape (n_rows,).
        hours: hours in the unit, shape (n_rows,).
        counts: numbers of observations within the windows, shape (n_rows, n_counted).
        latest: latest values, shape (n_rows, n_vitals).
    """

    age: Float64
    hours: Float64
    counts: Float64
    latest: Float64

    def take(self, rows: Bool) -> "_Rows":
        """Return some of the rows."""
        return _Rows(self.age[rows], self.hours[rows], self.counts[rows], self.latest[rows])

    def rates(self, windows: Float64) -> Float64:
        """Return observations per hour of each window, or of the hours in the unit if fewer; NaN without observations."""
        observed = np.fmin(np.maximum(self.hours, 0)[:, None] + 1, windows)  # an hourly record has an observation at hour 0 too
        counts = np.where(self.counts > 0, self.counts, np.nan)
        return np.asarray(counts / observed)

    @property
    def measured(self) -> Bool:
        """Whether the row has an observation of a vital sign, shape (n_rows,); True if the features hold no vital signs."""
        if not self.counts.shape[1] + self.latest.shape[1]:
            return np.ones(len(self.age), dtype=bool)
        return np.asarray((self.counts > 0).any(axis=1) | ~np.isnan(self.latest).all(axis=1))


@dataclass(frozen=True, eq=False)
class DomainOfUse:
    """Limits within which a model may be asked, learned from its training patients.

    Attributes:
        columns: names of the columns that are read, of those in training: age, hours in the unit, counts, latest values.
        counted: signals with a count of observations.
        windows: hours of each count, shape (n_counted,).
        vitals: signals of :data:`CHECKED` with a latest value.
        low, high: limits, both included, of age (years), hours, and observations per hour of each signal; shape
            (2 + n_counted,); NaN where training had no values.
        usual: whether each pattern of known vital signs is usual, shape (2 ** n_vitals,).
        combination: judges the values together; None without vital signs.
        summary: figures for the model card (:meth:`fit`).
    """

    columns: list[str]
    counted: list[str]
    windows: Float64
    vitals: list[str]
    low: Float64
    high: Float64
    usual: Bool
    combination: Combination | None
    summary: dict[str, Any]

    @classmethod
    def fit(
        cls, X: pd.DataFrame, groups: "pd.Series[str]", *, share_outside: float = SHARE_OUTSIDE, seed: int
    ) -> "DomainOfUse":
        """Learn the limits.

        Args:
            X: rows that a model learns from. Only age, hours in the unit, and counts and latest values of vital signs are read.
            groups: subject of each row.
            share_outside: largest share of training patient-hours with a vital sign that may be outside.
            seed: of the folds of patients behind ``outside_unseen``. The limits depend on no draw.

        Returns:
            The limits. Their ``summary`` holds

            - ``share_allowed`` and ``patients``;
            - ``limits``: low and high by name, None where unknown;
            - ``missing``: the usual patterns with their shares, by the vital signs that are not measured;
            - ``outside_training`` and ``outside_unseen``: shares of patient-hours outside by check and by ``any`` check, and of
              ``patients`` who are outside at some time. Unseen patients are those left out of the limits, one fold after the
              other; None for a single patient.

        Raises:
            DomainError: the features hold vital signs, but no row has an observation.
        """
        columns, counted, windows, vitals = _columns(X)
        blank = cls(columns, counted, windows, vitals, np.empty(0), np.empty(0), np.empty(0, dtype=bool), None, {})
        rows = _read(X, blank)
        measured = rows.measured
        if not measured.any():
            raise DomainError(
                f"features: none of the {len(X)} training rows has a vital sign; expected some with a reading of "
                f"{', '.join(vitals or counted)}; check the signals and times of the cohort's readings"
            )
        patient, _ = number_patients(groups)
        weight = np.where(measured, 1 / np.fmax(np.bincount(patient, weights=measured)[patient], 1), 0.0)
        share = share_outside / len(_CHECKS)
        domain = _learn(blank, rows, patient, weight, share)
        fold = assign_folds(groups, measured, _FOLDS, seed=seed)
        summary = {
            "share_allowed": share_outside,
            "patients": len(np.unique(patient[measured])),
            "limits": _limits(domain),
            "missing": _missing(domain, rows, weight),
            "outside_training": _shares(_checks(domain, rows), patient, weight),
            "outside_unseen": _unseen(blank, rows, patient, weight, share, fold),
        }
        return replace(domain, summary=summary)

    def unusual(self, X: pd.DataFrame) -> list[tuple[str, ...]]:
        """Return what is unusual about each row, in short words; an empty tuple for a row inside.

        The words are ``age``, ``hours_of_history``, ``readings of <signal>``, ``not measured: <vital signs>``, ``combination of
        values``, and ``measured: <vital signs>`` if it is unusual that all of them are.

        Raises:
            DomainError: columns of training are missing.
        """
        rows = _read(X, self)
        flags = _flag(self, rows)
        unusual: list[tuple[str, ...]] = [()] * len(X)
        names = _limit_names(self)
        for row in np.flatnonzero(flags.any(axis=1)):
            *beyond_limits, missing, is_far = flags[row].tolist()
            words = [name for name, is_beyond in zip(names, beyond_limits, strict=True) if is_beyond]
            if missing:
                unknown = [vital for vital, value in zip(self.vitals, rows.latest[row], strict=True) if np.isnan(value)]
                if self.vitals and not unknown:  # in training they were hardly ever all known
                    words.append(f"measured: {', '.join(self.vitals)}")
                else:
                    words.append(f"not measured: {', '.join(unknown or self.counted)}")
            if is_far:
                words.append("combination of values")
            unusual[row] = tuple(words)
        return unusual

    def outside(self, X: pd.DataFrame) -> Bool:
        """Return whether each row is outside, shape (n_rows,).

        Raises:
            DomainError: columns of training are missing.
        """
        return np.asarray(_flag(self, _read(X, self)).any(axis=1))


def columns_read(X: pd.DataFrame) -> list[str]:
    """Return the names of the columns of a frame that the domain of use reads. Others need not be copied."""
    return _columns(X)[0]


def _columns(X: pd.DataFrame) -> tuple[list[str], list[str], Float64, list[str]]:
    """Return the columns to read of a frame, signals with a count, hours of each count, and vitals with a latest value."""
    counts = {vital: hours for vital in VITALS for hours in reversed(_WINDOWS) if f"{vital}_count_{hours}h" in X}
    latest = {vital: hours for vital in CHECKED for hours in reversed(_WINDOWS) if f"{vital}_last_{hours}h" in X}
    columns = [name for name in ("age", "hours_in_unit") if name in X]
    columns += [f"{vital}_count_{hours}h" for vital, hours in counts.items()]
    columns += [f"{vital}_last_{hours}h" for vital, hours in latest.items()]
    return columns, list(counts), np.array(list(counts.values()), dtype=np.float64), list(latest)


def _read(X: pd.DataFrame, domain: DomainOfUse) -> _Rows:
    """Return the columns of a frame that are checked."""
    try:  # one lookup per name: for a single row an indexer takes several times as long
        position = np.array([X.columns.get_loc(name) for name in domain.columns], dtype=np.int64)
    except KeyError:
        missing = [name for name in domain.columns if name not in X]
        raise DomainError(
            f"features: {len(missing)} of the {len(domain.columns)} columns that the domain of use reads are missing: "
            f"{', '.join(missing)}; expected rows of the model's feature service"
        ) from None
    matrix = X.take(position, axis=1).to_numpy(dtype=np.float64)
    last = len(domain.columns) - len(domain.vitals)
    first = last - len(domain.counted)
    known = {name: matrix[:, number] for number, name in enumerate(domain.columns[:first])}
    unknown = np.full(len(X), np.nan)
    return _Rows(known.get("age", unknown), known.get("hours_in_unit", unknown), matrix[:, first:last], matrix[:, last:])


def _learn(blank: DomainOfUse, rows: _Rows, patient: Int64, weight: Float64, share: float) -> DomainOfUse:
    """Return the domain with the limits of all rows with a weight above 0."""
    ends = np.array([share / 2, 1 - share / 2])
    age = weighted_quantiles(rows.age, weight, ends)
    is_weighted = weight > 0
    # The first and the last hour of each patient, with equal weights: the long stays of a few are inside to their last hour.
    hours = pd.Series(rows.hours[is_weighted]).groupby(patient[is_weighted]).agg(["min", "max"]).to_numpy(np.float64)
    equal = np.ones(len(hours))
    first, last = (weighted_quantiles(hours[:, column], equal, level) for column, level in enumerate(ends))
    fewest, most = rate_limits(rows.rates(blank.windows), weight, share)
    return replace(
        blank,
        low=np.array([age[0] - _AGE_MARGIN, first - _HOURS_MARGIN, *fewest / _RATE_FACTOR]),
        high=np.array([age[1] + _AGE_MARGIN, last + _HOURS_MARGIN, *most * _RATE_FACTOR]),
        usual=usual_patterns(patterns(rows.latest), weight, len(blank.vitals), share),
        combination=Combination.fit(rows.latest, blank.vitals, weight, share) if blank.vitals else None,
    )


def _flag(domain: DomainOfUse, rows: _Rows) -> Bool:
    """Return whether age, hours, observations of each signal, pattern and combination are unusual: (n_rows, 4 + n_counted)."""
    flags = np.zeros((len(rows.age), len(domain.low) + 2), dtype=bool)
    limited = np.column_stack([rows.age, rows.hours, rows.rates(domain.windows)])
    too_low = limited < domain.low
    too_low[np.isnan(rows.hours), 2:] = False  # a patient who may just have arrived may have few observations
    flags[:, :-2] = too_low | (limited > domain.high)
    pattern = patterns(rows.latest)
    flags[:, -2] = ~domain.usual[pattern] | ~rows.measured
    if domain.combination is not None:
        flags[:, -1] = domain.combination.is_unusual(rows.latest, pattern)
    return flags


def _checks(domain: DomainOfUse, rows: _Rows) -> Bool:
    """Return which checks put each row outside, shape (n_rows, n_checks)."""
    flags = _flag(domain, rows)
    return np.column_stack([flags[:, :2], flags[:, 2:-2].any(axis=1), flags[:, -2:]])


def _unseen(
    blank: DomainOfUse, rows: _Rows, patient: Int64, weight: Float64, share: float, fold: Int64
) -> dict[str, float] | None:
    """Return the shares outside of patients that the limits were not learned from; None for a single patient."""
    checks = np.zeros((len(weight), len(_CHECKS)), dtype=bool)
    for left_out in np.unique(fold):
        is_left_out = fold == left_out
        others = np.where(is_left_out, 0.0, weight)
        if not others.any():
            return None
        checks[is_left_out] = _checks(_learn(blank, rows, patient, others, share), rows.take(is_left_out))
    return _shares(checks, patient, weight)


def _shares(checks: Bool, patient: Int64, weight: Float64) -> dict[str, float]:
    """Return the shares of the weight outside by check and by any check, and of the patients outside at some time."""
    outside = checks.any(axis=1) & (weight > 0)
    by_check = {name: float(weight @ checks[:, column] / weight.sum()) for column, name in enumerate(_CHECKS)}
    patients = len(np.unique(patient[outside])) / len(np.unique(patient[weight > 0]))
    return {"any": float(weight @ outside / weight.sum()), **by_check, "patients": patients}


def _limit_names(domain: DomainOfUse) -> list[str]:
    """Return the names of the limits, in their order."""
    return ["age", "hours_of_history", *(f"readings of {signal}" for signal in domain.counted)]


def _limits(domain: DomainOfUse) -> dict[str, list[float | None]]:
    """Return low and high limit by name, for readers; observations are per hour."""
    pairs = zip(_limit_names(domain), domain.low.tolist(), domain.high.tolist(), strict=True)
    return {name: [None if np.isnan(end) else round(end, 3) for end in ends] for name, *ends in pairs}


def _missing(domain: DomainOfUse, rows: _Rows, weight: Float64) -> dict[str, float]:
    """Return the share of each usual pattern by the vital signs that are not measured, the most frequent first."""
    share = np.bincount(patterns(rows.latest), weights=weight, minlength=len(domain.usual)) / weight.sum()
    shares = {}
    for code in np.argsort(-share, kind="stable"):
        unknown = [vital for number, vital in enumerate(domain.vitals) if not code >> number & 1]
        if domain.usual[code]:
            shares[", ".join(unknown) or "nothing"] = float(share[code])
    return shares
