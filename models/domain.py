"""The domain of use of a model: the kind of patient it has learned from.

A model gives a probability for any row of features: for a child, for a patient measured far less often than those of training,
for vital signs that never came together there. Such a probability is a guess. So every artefact carries limits learned from its
training patients, and outside them NEWS2 answers (why single predictions need such a check: Nicora G, Rios M, Abu-Hanna A,
Bellazzi R. Evaluating pointwise reliability of machine learning prediction. J Biomed Inform 2022;127:103996).

Each row is checked for age, hours of history, readings per signal, the pattern of missing vital signs, and the combination of
their latest values (:mod:`models.personal_baseline`). Every check may put a fifth of a stated share of the training
patient-hours outside,
each patient weighing 1 however long the stay, so that together they put at most that share outside (Bonferroni's inequality). A
row without any vital sign is always outside; such rows teach nothing here and are not part of the share.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import VITALS
from features.derived import LABORATORY_CARRY_HOURS, SCORE_CARRY_HOURS
from features.errors import VigilError
from models.cohort import by_patient, folds
from models.personal_baseline import Combination, patterns, rate_limits, usual_patterns, weighted_quantiles

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# Of training patient-hours, at most. Ours: a model still ranks the rarest hours of its own kind of patient better than NEWS2
# does, so few are given up; fewer, and the limits would be those of single patients.
SHARE_OUTSIDE: Final = 0.02
# Vital signs of which absence and values are checked: those of NEWS2 that a device measures. Glucose and the other pressures
# are left to the model, since NEWS2, which answers outside, does not see them.
CHECKED: Final = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "body_temperature")

_CHECKS: Final = ("age", "hours_of_history", "readings", "not measured", "combination of values")
_AGE_MARGIN: Final = 1.0  # years. Ours: many records hold whole years only
_HOURS_MARGIN: Final = 2.0  # hours. Ours: hourly records often know nothing in their first hours; a live patient may
# Ours: readings may be half as frequent as the rarest of training and twice as frequent as the most frequent. Members also
# learn from patients with 0.4 of their readings (models.training.measurement_augmentation), and statistics over hours hardly
# change if readings double.
_RATE_FACTOR: Final = 2.0
_WINDOWS: Final = (SCORE_CARRY_HOURS, LABORATORY_CARRY_HOURS)  # hours; a service holds one or the other of a signal
_FOLDS: Final = 3  # of patients, to know the share outside among patients from whom the limits were not learned


class DomainError(VigilError):
    """The rows lack what the domain of use is learned from or judged by."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """What is judged of rows, NaN where unknown.

    Attributes:
        age: years; hours: in the unit; each of shape (n_rows,).
        counts: readings within the windows, shape (n_rows, n_counted).
        latest: latest values, shape (n_rows, n_vitals).
    """

    age: Float64
    hours: Float64
    counts: Float64
    latest: Float64

    def take(self, rows: Bool) -> "_Rows":
        """Some of the rows."""
        return _Rows(self.age[rows], self.hours[rows], self.counts[rows], self.latest[rows])

    def rates(self, windows: Float64) -> Float64:
        """Readings per hour of each window, or of the hours in the unit if those are fewer; NaN without a reading."""
        watched = np.fmin(np.maximum(self.hours, 0)[:, None] + 1, windows)  # an hourly record has a reading at hour 0 too
        counts = np.where(self.counts > 0, self.counts, np.nan)
        return np.asarray(counts / watched)

    @property
    def measured(self) -> Bool:
        """Whether there is a reading of any vital sign; all rows, where the features hold none; shape (n_rows,)."""
        if not self.counts.shape[1] + self.latest.shape[1]:
            return np.ones(len(self.age), dtype=bool)
        return np.asarray((self.counts > 0).any(axis=1) | ~np.isnan(self.latest).all(axis=1))


@dataclass(frozen=True, eq=False)
class DomainOfUse:
    """Limits of what a model may be asked, learned from its training patients.

    Attributes:
        columns: what is read of a frame, of what training had: age, hours in the unit, counts, latest values.
        counted: signals with a count of readings; windows: hours of each count, shape (n_counted,).
        vitals: those of :data:`CHECKED` with a latest value.
        low, high: limits, both included, of age (years), hours, and readings per hour of each signal, shape (2 + n_counted,);
            NaN where training knew nothing.
        usual: patterns of known vital signs that are usual, shape (2 ** n_vitals,).
        combination: how unusual their values are together; None without vital signs.
        summary: plain figures for the model card (:meth:`fit`).
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
            X: rows that a model learns from; of their columns only age, hours in the unit, and counts and latest values of
                vital signs are touched.
            groups: the subject of each row.
            share_outside: of training patient-hours with a vital sign, at most.
            seed: of the folds of patients behind ``outside_unseen``. The limits depend on no draw.

        Returns:
            The limits. ``summary`` holds ``share_allowed`` and ``patients``; ``limits`` by name, low and high, None where
            unknown; ``missing``, the usual patterns by what is not measured, with their shares; and ``outside_training`` and
            ``outside_unseen``, shares of patient-hours by check, by ``any`` check, and of ``patients`` who are outside at some
            time. Unseen are patients left out of the limits, one fold after the other; None of a single patient.

        Raises:
            DomainError: the features hold vital signs, but no row has a reading.
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
        patient, _ = by_patient(groups)
        weight = np.where(measured, 1 / np.fmax(np.bincount(patient, weights=measured)[patient], 1), 0.0)
        share = share_outside / len(_CHECKS)
        domain = _learned(blank, rows, patient, weight, share)
        fold = folds(groups, measured, _FOLDS, seed=seed)
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
        """What is unusual about each row, in short words; nothing: the row is inside.

        Words are ``age``, ``hours_of_history``, ``readings of <signal>``, ``not measured: <vital signs>``, ``measured: <vital
        signs>`` where all of them are and that is unusual, and ``combination of values``.

        Raises:
            DomainError: columns are missing that training had.
        """
        rows = _read(X, self)
        flags = _flags(self, rows)
        found: list[tuple[str, ...]] = [()] * len(X)
        names = _names(self)
        for row in np.flatnonzero(flags.any(axis=1)):
            *limits, missing, far = flags[row].tolist()
            words = [name for name, is_beyond in zip(names, limits, strict=True) if is_beyond]
            if missing:
                unknown = [vital for vital, value in zip(self.vitals, rows.latest[row], strict=True) if np.isnan(value)]
                if self.vitals and not unknown:  # training hardly ever had them all
                    words.append(f"measured: {', '.join(self.vitals)}")
                else:
                    words.append(f"not measured: {', '.join(unknown or self.counted)}")
            if far:
                words.append("combination of values")
            found[row] = tuple(words)
        return found

    def outside(self, X: pd.DataFrame) -> Bool:
        """Whether anything is unusual about each row, shape (n_rows,).

        Raises:
            DomainError: columns are missing that training had.
        """
        return np.asarray(_flags(self, _read(X, self)).any(axis=1))


def columns_read(X: pd.DataFrame) -> list[str]:
    """Return the names of the columns that the domain of use reads of a frame; the others need not be copied."""
    return _columns(X)[0]


def _columns(X: pd.DataFrame) -> tuple[list[str], list[str], Float64, list[str]]:
    """What is read of a frame: columns, signals with a count, hours of each count, and vital signs with a latest value."""
    counts = {vital: hours for vital in VITALS for hours in reversed(_WINDOWS) if f"{vital}_count_{hours}h" in X}
    latest = {vital: hours for vital in CHECKED for hours in reversed(_WINDOWS) if f"{vital}_last_{hours}h" in X}
    columns = [name for name in ("age", "hours_in_unit") if name in X]
    columns += [f"{vital}_count_{hours}h" for vital, hours in counts.items()]
    columns += [f"{vital}_last_{hours}h" for vital, hours in latest.items()]
    return columns, list(counts), np.array(list(counts.values()), dtype=np.float64), list(latest)


def _read(X: pd.DataFrame, domain: DomainOfUse) -> _Rows:
    try:  # one lookup a name: for a single row an indexer takes several times as long
        place = np.array([X.columns.get_loc(name) for name in domain.columns], dtype=np.int64)
    except KeyError:
        missing = [name for name in domain.columns if name not in X]
        raise DomainError(
            f"features: {len(missing)} of the {len(domain.columns)} columns that the domain of use reads are missing: "
            f"{', '.join(missing)}; expected rows of the model's feature service"
        ) from None
    matrix = X.take(place, axis=1).to_numpy(dtype=np.float64)
    last = len(domain.columns) - len(domain.vitals)
    first = last - len(domain.counted)
    known = {name: matrix[:, number] for number, name in enumerate(domain.columns[:first])}
    unknown = np.full(len(X), np.nan)
    return _Rows(known.get("age", unknown), known.get("hours_in_unit", unknown), matrix[:, first:last], matrix[:, last:])


def _learned(blank: DomainOfUse, rows: _Rows, patient: Int64, weight: Float64, share: float) -> DomainOfUse:
    """Limits of the rows that weigh something."""
    ends = np.array([share / 2, 1 - share / 2])
    age = weighted_quantiles(rows.age, weight, ends)
    some = weight > 0
    # The first and last hours that patients reached, each patient once: the long stays of a few are inside to their last hour.
    reached = pd.Series(rows.hours[some]).groupby(patient[some]).agg(["min", "max"]).to_numpy(np.float64)
    once = np.ones(len(reached))
    first, last = (weighted_quantiles(reached[:, place], once, level) for place, level in enumerate(ends))
    fewest, most = rate_limits(rows.rates(blank.windows), weight, share)
    return replace(
        blank,
        low=np.array([age[0] - _AGE_MARGIN, first - _HOURS_MARGIN, *fewest / _RATE_FACTOR]),
        high=np.array([age[1] + _AGE_MARGIN, last + _HOURS_MARGIN, *most * _RATE_FACTOR]),
        usual=usual_patterns(patterns(rows.latest), weight, len(blank.vitals), share),
        combination=Combination.fit(rows.latest, blank.vitals, weight, share) if blank.vitals else None,
    )


def _flags(domain: DomainOfUse, rows: _Rows) -> Bool:
    """Whether age, hours, readings of each signal, pattern and combination are unusual, shape (n_rows, 4 + n_counted)."""
    found = np.zeros((len(rows.age), len(domain.low) + 2), dtype=bool)
    judged = np.column_stack([rows.age, rows.hours, rows.rates(domain.windows)])
    too_low = judged < domain.low
    too_low[np.isnan(rows.hours), 2:] = False  # a patient who may just have arrived may have few readings
    found[:, :-2] = too_low | (judged > domain.high)
    pattern = patterns(rows.latest)
    found[:, -2] = ~domain.usual[pattern] | ~rows.measured
    if domain.combination is not None:
        found[:, -1] = domain.combination.is_unusual(rows.latest, pattern)
    return found


def _checks(domain: DomainOfUse, rows: _Rows) -> Bool:
    """The flags, those of readings as one, shape (n_rows, n_checks)."""
    flags = _flags(domain, rows)
    return np.column_stack([flags[:, :2], flags[:, 2:-2].any(axis=1), flags[:, -2:]])


def _unseen(
    blank: DomainOfUse, rows: _Rows, patient: Int64, weight: Float64, share: float, fold: Int64
) -> dict[str, float] | None:
    """Shares outside of patients whose fold the limits were not learned from; None of a single patient."""
    checks = np.zeros((len(weight), len(_CHECKS)), dtype=bool)
    for left_out in np.unique(fold):
        judged = fold == left_out
        others = np.where(judged, 0.0, weight)
        if not others.any():
            return None
        checks[judged] = _checks(_learned(blank, rows, patient, others, share), rows.take(judged))
    return _shares(checks, patient, weight)


def _shares(checks: Bool, patient: Int64, weight: Float64) -> dict[str, float]:
    """Shares of the weight by check and by any, and of the patients who are outside at some time."""
    outside = checks.any(axis=1) & (weight > 0)
    by_check = {name: float(weight @ checks[:, place] / weight.sum()) for place, name in enumerate(_CHECKS)}
    patients = len(np.unique(patient[outside])) / len(np.unique(patient[weight > 0]))
    return {"any": float(weight @ outside / weight.sum()), **by_check, "patients": patients}


def _names(domain: DomainOfUse) -> list[str]:
    """What the limits are about, in their order."""
    return ["age", "hours_of_history", *(f"readings of {signal}" for signal in domain.counted)]


def _limits(domain: DomainOfUse) -> dict[str, list[float | None]]:
    """Low and high limit by name, for a reader; readings are per hour."""
    pairs = zip(_names(domain), domain.low.tolist(), domain.high.tolist(), strict=True)
    return {name: [None if np.isnan(end) else round(end, 3) for end in ends] for name, *ends in pairs}


def _missing(domain: DomainOfUse, rows: _Rows, weight: Float64) -> dict[str, float]:
    """Share of each usual pattern, the most frequent first, by the vital signs that are not measured."""
    held = np.bincount(patterns(rows.latest), weights=weight, minlength=len(domain.usual)) / weight.sum()
    named = {}
    for code in np.argsort(-held, kind="stable"):
        unknown = [vital for place, vital in enumerate(domain.vitals) if not code >> place & 1]
        if domain.usual[code]:
            named[", ".join(unknown) or "nothing"] = float(held[code])
    return named
