"""The artefact: a cross-fitted ensemble, its calibration, the features it reads by name, its thresholds and its promise."""

import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression

from features.catalogue import FEATURES
from features.errors import VigilError
from models.cohort import folds
from models.training.lightgbm_single_row import raw_scores
from models.training.measurement_augmentation import CUT_RECORDS, Augmented
from models.training.venn_abers import VennAbers

if TYPE_CHECKING:
    from models.alarms.guarantee import Certificate
    from models.domain import DomainOfUse

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Band = Literal["low", "medium", "high"]
T = TypeVar("T")
R = TypeVar("R")

_EDGE: Final = 1e-9  # probabilities are kept this far from 0 and 1, so that log-odds stay finite
_ROWS_AT_A_TIME: Final = 100_000
_WORTH_A_THREAD: Final = 1_000  # rows: fewer are scored before threads have started
_SCORED_AT_ONCE: Final = 100_000  # rows: a matrix of them all would double a gigabyte
_FEW: Final = 30  # rows: up to there one after the other is faster


class TooFewEventsError(VigilError):
    """The patients hold too few events, or too few without."""


class NoThresholdError(VigilError):
    """The model was fitted, but nobody said which risks are high."""


class FeatureMismatchError(VigilError):
    """The frame does not hold the columns the model was trained on."""


def log_odds(probability: ArrayLike) -> Float64:
    """Natural log-odds of probabilities, any shape."""
    p = np.clip(np.asarray(probability, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p / (1 - p)))


def from_log_odds(margin: Float64) -> Float64:
    """Probabilities of log-odds, any shape."""
    with np.errstate(over="ignore"):  # where a small cohort is separated without error margins pass -709: a probability of 0
        return np.asarray(1 / (1 + np.exp(-margin)))


class RiskModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A calibrated classifier over named features: the mean of members, each fitted without a fold of the patients.

    Cross-fitting gives two things at once. The members, averaged, are steadier than any of them (Breiman L. Bagging predictors.
    Mach Learn 1996;24:123-140). And every patient gets a risk from members that have never seen him, from which calibration,
    thresholds, ranges and the alarm promise are set, so that no patient has to be kept back for them.

    Calibration is Platt's: a logistic regression of the label on those out-of-fold log-odds (Platt J. Probabilistic outputs for
    support vector machines. 1999). It also undoes ``most_negatives``.

    Args:
        learner: any scikit-learn classifier with ``predict_proba``.
        features: names of the columns it reads, in order.
        folds: of the patients; each member leaves one out.
        repeats: other divisions into folds.
        most_negatives: rows without an event that a member learns from, drawn for each; None: all. Rows with one always count:
            where one hour in fifty has an event, most of the others say the same again. Of augmented rows the same share of
            those without an event is drawn.
        smallest_leaf: of trees: the least share of a member's rows in a leaf. Hours of one stay repeat each other, so a leaf of
            some hundred rows may speak for a few dozen patients. LightGBM knows rows only, and estimates their number from the
            curvature of the loss. None: the learner says how many rows.
        seed: of folds, draws and learners.

    Attributes:
        members_: the fitted learners, in a list of one list. Versions stored before had a second one, of learners that foresee
            whether the patient has the event at any time of the stay.
        weights_, intercept_: the calibration: the margin is the sum of the weighted mean log-odds of each list, plus the
            intercept.
        thresholds_: probability from which a risk is ``medium`` and from which it is ``high``; set by the training job.
        certificate_: the alarm promise, or None where none could be made; set by the training job.
        domain_: the domain of use, or None where none was learned; set by the training job. A version stored before there were
            any has no such attribute.
        ranges_: what turns a probability into a range.
        facts_: what the artefact knows of its making: whether members also learned from ``other_habits``, ``changed_habits``
            and ``cut_records``; and, set by the training job, task, source, simulated, data digest.
    """

    smallest_leaf: float | None = None  # versions stored before have none of their own

    def __init__(
        self,
        learner: Any,
        features: list[str],
        *,
        folds: int = 5,
        repeats: int = 1,
        most_negatives: int | None = None,
        smallest_leaf: float | None = None,
        seed: int = 0,
    ) -> None:
        self.learner = learner
        self.features = features
        self.folds = folds
        self.repeats = repeats
        self.most_negatives = most_negatives
        self.smallest_leaf = smallest_leaf
        self.seed = seed

    @property
    def settings(self) -> dict[str, Any]:
        """What was chosen for the learner, by name."""
        chosen = self.learner.get_params() | {"smallest_leaf": self.smallest_leaf}
        return {name: value for name, value in chosen.items() if value is not None}

    def fit(self, X: pd.DataFrame, y: ArrayLike, groups: "pd.Series[str]", augmented: Sequence[Augmented] = ()) -> Self:
        """Fit like :meth:`cross_fit`, without the out-of-fold risks."""
        self.cross_fit(X, y, groups, augmented)
        return self

    def cross_fit(
        self, X: pd.DataFrame, y: ArrayLike, groups: "pd.Series[str]", augmented: Sequence[Augmented] = ()
    ) -> Float64:
        """Fit members and calibration.

        Args:
            X: a frame with the model's columns; y: 0, 1, or NaN for rows that are scored but not learned from.
            groups: whose row it is; a patient is in one fold.
            augmented: rows of X as they might have been known in other ways (:mod:`models.training.measurement_augmentation`).
            Members learn from them
                too, with the labels and groups of X; calibration is that of X.

        Returns:
            The calibrated risk of every row by the members that did not see its patient, shape (n_rows,).

        Raises:
            TooFewEventsError: fewer patients with, or without, an event than folds.
        """
        matrix, labels = self.matrix(X), np.asarray(y, dtype=np.float64)
        self.classes_ = np.array([0, 1])
        self.thresholds_: dict[str, float] = {}
        self.certificate_: Certificate | None = None
        self.domain_: DomainOfUse | None = None
        ways = {way.way for way in augmented}
        self.facts_: dict[str, Any] = {
            "other_habits": "other_habits" in ways,
            "changed_habits": "changed_habits" in ways,
            "cut_records": not ways.isdisjoint(CUT_RECORDS),
        }
        divisions = [folds(groups, labels == 1, self.folds, seed=self.seed + repeat) for repeat in range(self.repeats)]

        def fit_member(place: tuple[int, int]) -> tuple[Any, NDArray[np.int64], Float64]:
            repeat, left_out = place
            draw = self.seed + 1000 * repeat + left_out
            away = divisions[repeat] == left_out
            seen, rows = self._learned_from(matrix, labels, ~away & ~np.isnan(labels), augmented, draw)
            member = clone(self.learner)
            if "random_state" in member.get_params():
                member.set_params(random_state=draw)
            if self.smallest_leaf is not None:
                member.set_params(min_child_samples=max(1, round(self.smallest_leaf * len(seen))))
            member.fit(seen, labels[rows].astype(np.int64))
            unseen = np.flatnonzero(away)
            return member, unseen, _raw(member, matrix, unseen)

        members: list[Any] = []
        raw = np.zeros(len(labels))
        for member, unseen, found in _side_by_side(fit_member, list(product(range(self.repeats), range(self.folds)))):
            members.append(member)
            raw[unseen] += found / self.repeats
        self.members_ = [members]
        known = ~np.isnan(labels)
        calibrator = LogisticRegression(C=np.inf).fit(raw[known, None], labels[known])
        self.weights_, self.intercept_ = calibrator.coef_[0].astype(np.float64), float(calibrator.intercept_[0])
        risk = from_log_odds(raw * self.weights_[0] + self.intercept_)
        self.ranges_ = VennAbers.fit(risk[known], labels[known], groups[known], seed=self.seed)
        return risk

    def matrix(self, X: pd.DataFrame) -> Float32:
        """The columns the model reads, in its order, shape (n_rows, n_features).

        Raises:
            FeatureMismatchError: some are not there.
        """
        place = X.columns.get_indexer(pd.Index(self.features)) if X.columns.is_unique else None
        if place is None or (place < 0).any():
            missing = [name for name in self.features if name not in X]
            if missing:
                raise FeatureMismatchError(_difference(missing, self.features, [str(column) for column in X.columns]))
            return X[self.features].to_numpy(dtype=np.float32)
        return X.take(place, axis=1).to_numpy(dtype=np.float32)  # for one row several times as fast

    def margin(self, X: pd.DataFrame) -> Float64:
        """Calibrated log-odds, shape (n_rows,); those of a row are the same bit for bit whatever rows stand beside it."""
        if len(X) > _ROWS_AT_A_TIME:  # or the rows would be held twice, which for a whole cohort is a gigabyte more
            parts = [X.iloc[first : first + _ROWS_AT_A_TIME] for first in range(0, len(X), _ROWS_AT_A_TIME)]
            return np.concatenate([self.margin(part) for part in parts])
        matrix, rows = self.matrix(X), np.arange(len(X))
        apply = _side_by_side if len(rows) > _WORTH_A_THREAD else map
        total = np.full(len(rows), self.intercept_)
        for weight, view in zip(self.weights_, self.members_, strict=True):
            # Number by number, in one order: sums and products of a whole matrix round one row otherwise than many.
            total += weight * (sum(apply(lambda member: _raw(member, matrix, rows), view)) / len(view))
        return total

    def predict_proba(self, X: pd.DataFrame) -> Float64:
        """Calibrated probabilities of no event and event, shape (n_rows, 2)."""
        risk = self.risk(X)
        return np.column_stack([1 - risk, risk])

    def risk(self, X: pd.DataFrame) -> Float64:
        """Calibrated probability of the event, shape (n_rows,)."""
        return from_log_odds(self.margin(X))

    def range(self, X: pd.DataFrame) -> tuple[Float64, Float64]:
        """Lowest and highest probability that the evidence supports, each (n_rows,): see :meth:`range_of`."""
        return self.range_of(self.risk(X))

    def range_of(self, risk: Float64) -> tuple[Float64, Float64]:
        """Return the range of each risk (:class:`models.training.venn_abers.VennAbers`), widened to hold the risk itself."""
        low, high = self.ranges_.range(risk)
        return np.minimum(low, risk), np.maximum(high, risk)

    def predict(self, X: pd.DataFrame) -> NDArray[np.int64]:
        """1 where the risk is in the high band, else 0.

        Raises:
            NoThresholdError: nobody has set the thresholds.
        """
        return (self.risk(X) >= self._threshold("high")).astype(np.int64)

    def band(self, probability: float) -> Band:
        """The band of a probability by the frozen thresholds.

        Raises:
            NoThresholdError: nobody has set the thresholds.
        """
        if probability >= self._threshold("high"):
            return "high"
        return "medium" if probability >= self._threshold("medium") else "low"

    @property
    def explains(self) -> bool:
        """Whether :meth:`contributions` can be had: its members are tree ensembles."""
        return isinstance(self.learner, lightgbm.LGBMClassifier)

    def contributions(self, X: pd.DataFrame) -> pd.DataFrame:
        """TreeSHAP contributions to the calibrated log-odds, summed over each signal's features.

        Lundberg SM, et al. From local explanations to global understanding with explainable AI for trees. Nat Mach Intell
        2020;2:56-67. Rows add up to :meth:`margin`; the column ``baseline`` is the average patient's.

        Returns:
            One row a row of X, one column a signal and ``baseline``, in log-odds.

        Raises:
            TypeError: the members are not tree ensembles.
        """
        if not self.explains:
            raise TypeError(f"contributions: expected a LightGBM model, this one is a {type(self.learner).__name__}")
        matrix = self.matrix(X)
        shap = sum(
            weight * np.mean([np.asarray(member.predict(matrix, pred_contrib=True)) for member in view], axis=0)
            for weight, view in zip(self.weights_, self.members_, strict=True)
        )
        signal, signals = pd.factorize(np.array([FEATURES[name].signal for name in self.features], dtype=object))
        membership = np.eye(len(signals))[signal]  # (n_features, n_signals)
        by_signal = pd.DataFrame(shap[:, :-1] @ membership, columns=signals, index=X.index)
        return by_signal.assign(baseline=shap[:, -1] + self.intercept_)

    def what_changed(self, before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
        """How much each signal moved the log-odds from one index time to another, row by row of both frames.

        Returns:
            One row a row, one column a signal; a row adds up to the difference of :meth:`margin`.
        """
        return (self.contributions(now) - self.contributions(before).to_numpy()).drop(columns="baseline")

    def _threshold(self, band: Band) -> float:
        if band not in self.thresholds_:
            raise NoThresholdError(
                f"thresholds_: no {band} band; expected probabilities from which a risk is medium and high, such as "
                'model.thresholds_ = {"medium": 0.02, "high": 0.1}; vigil train sets them'
            )
        return self.thresholds_[band]

    def _learned_from(
        self,
        matrix: Float32,
        labels: Float64,
        known: NDArray[np.bool_],
        augmented: Sequence[Augmented],
        draw: int,
    ) -> tuple[Float32, NDArray[np.int64]]:
        """The rows that a member learns from, of all ways, and which row of the frame each of them is.

        A tree can tell a cut record by its counts, so the level of cut records is learned from their own events and others, and
        the calibration to rows as measured would not correct it. So the same share of those without an event is drawn of each
        way. Rows of a way stand for the hours that it says: a few rows of every stay would count short stays, and so events,
        too often.
        """
        as_measured = np.flatnonzero(known)
        drawn = _drawn(as_measured, labels, self.most_negatives, [draw, 0])
        _require_events(labels[drawn])
        share = (labels[drawn] == 0).sum() / (labels[as_measured] == 0).sum()
        parts, rows = [matrix[drawn]], [drawn]
        for number, way in enumerate(augmented, start=1):
            places = np.flatnonzero(known[way.rows])
            label, hours = labels[way.rows[places]], way.hours[places]
            odds_against = hours[label == 0].sum() / max(hours[label == 1].sum(), 1.0)
            drawn = _drawn(places, labels[way.rows], round(label.sum() * odds_against * share), [draw, number])
            parts.append(self.matrix(way.features.take(drawn)))
            rows.append(way.rows[drawn])
        return np.concatenate(parts), np.concatenate(rows)


def _drawn(rows: NDArray[np.int64], labels: Float64, most_negatives: int | None, draw: list[int]) -> NDArray[np.int64]:
    """All rows with an event and at most so many without, in ascending order."""
    negative = rows[labels[rows] == 0]
    if most_negatives is None or len(negative) <= most_negatives:
        return rows
    kept = np.random.default_rng(draw).choice(negative, most_negatives, replace=False)
    return np.sort(np.concatenate([rows[labels[rows] == 1], kept]))


def _side_by_side(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Work on members on all cores, each on one: they wait for nothing, whereas threads within a member wait for each other."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, items)


def _raw(member: Any, matrix: Float32, rows: NDArray[np.int64]) -> Float64:
    """A member's log-odds of some rows, shape (n_rows,)."""
    raw = np.empty(len(rows))
    for first in range(0, len(rows), _SCORED_AT_ONCE):
        part = matrix[rows[first : first + _SCORED_AT_ONCE]]  # a copy, which a learner may work in
        if isinstance(member, lightgbm.LGBMClassifier):
            # The booster itself: what its wrapper checks at every call takes ten times as long as one row. One thread: where
            # others work, two would wait for each other longer than for the row.
            few = len(part) <= _FEW
            found = raw_scores(member.booster_, part) if few else member.booster_.predict(part, raw_score=True, num_threads=1)
        else:
            found = log_odds(member.predict_proba(part)[:, 1])
        raw[first : first + len(part)] = found
    return raw


def _require_events(labels: Float64) -> None:
    if len(np.unique(labels)) != 2:
        raise TooFewEventsError(
            f"labels: the patients of a fold's training part hold {len(np.unique(labels))} of the 2 classes of outcome; "
            "a larger cohort is needed, with some events and some non-events in every fold"
        )


def _difference(missing: Sequence[str], expected: Sequence[str], found: Sequence[str]) -> str:
    """What a frame lacks, and what in it may be meant instead."""
    lines = []
    for name in missing[:5]:
        close = difflib.get_close_matches(name, set(found) - set(expected), n=1)
        lines.append(f"{name} (is it {close[0]}?)" if close else name)
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return (
        f"features: {len(missing)} of the model's {len(expected)} columns are missing: {', '.join(lines)}{more}; "
        f"the frame has {len(set(found) & set(expected))} of them and {len(set(found) - set(expected))} others; "
        "expected rows of the model's feature service"
    )
