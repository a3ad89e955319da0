"""The risk model: a cross-fitted ensemble, its calibration, the features that it reads by name, thresholds and alarm guarantee.

A model's predictions must stay bit-identical: same seeds, same order of operations, whatever rows are scored together.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_consistent_length, validate_data

from vigil.features.catalogue import FEATURES
from vigil.features.errors import VigilError
from vigil.models.cohort import assign_folds
from vigil.models.training.inputs import (
    FeatureMismatchError,
    encode_labels,
    find_patients,
    list_feature_columns,
    select_columns,
)
from vigil.models.training.lightgbm_single_row import raw_scores
from vigil.models.training.measurement_augmentation import TRUNCATED_RECORDS, Augmented
from vigil.models.training.members import draw_training_rows, fit_prepared, map_on_cores, preparing_alone
from vigil.models.training.tree_scorer import score_many
from vigil.models.training.venn_abers import VennAbers

if TYPE_CHECKING:
    from vigil.models.alarms.guarantee import Certificate
    from vigil.models.domain import DomainOfUse

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Band = Literal["low", "medium", "high"]
AfterFold = Callable[[NDArray[np.int64], Float64], None]

_MORE_LIKELY_THAN_NOT: Final = 0.5
EDGE: Final = 1e-9  # probabilities are kept this far from 0 and 1, so that log-odds stay finite
_CHUNK: Final = 20_000  # rows of a frame that are copied at once; a copy of a whole cohort would take a gigabyte more
_MIN_ROWS_FOR_THREADS: Final = 1_000  # fewer rows are scored before threads have started
_MAX_SINGLE_ROWS: Final = 30  # up to so many rows, scoring one after the other is faster
_MIN_ROWS_TO_PREPARE: Final = 1_000  # for fewer rows, preparing the trees of a booster takes longer than it saves


class NoThresholdError(VigilError):
    """The model is fitted and has no thresholds for medium and high risk."""


def log_odds(probability: ArrayLike) -> Float64:
    """Return the natural log-odds of probabilities, any shape.

    >>> log_odds([0.5, 0.75]).round(4).tolist()
    [0.0, 1.0986]
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), EDGE, 1 - EDGE)
    return np.asarray(np.log(p / (1 - p)))


def from_log_odds(margin: Float64) -> Float64:
    """Return the probabilities of log-odds, any shape."""
    with np.errstate(over="ignore"):  # a small cohort that is separated without error has margins below -709: probability 0
        return np.asarray(1 / (1 + np.exp(-margin)))


class RiskModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A calibrated classifier over named features: the mean of members, each fitted without one fold of the patients.

    Cross-fitting gives two things at once. The mean of the members is steadier than any one of them (Breiman L. Bagging
    predictors. Mach Learn 1996;24:123-140). And every patient gets a risk from members that have not seen the patient.
    Calibration, thresholds, ranges and the alarm guarantee are set by these out-of-fold risks, so no patients need to be set
    aside for them.

    Calibration is Platt's: a logistic regression of the label on the out-of-fold log-odds (Platt J. Probabilistic outputs for
    support vector machines. 1999). It also undoes ``max_negatives``.

    Args:
        learner: any scikit-learn classifier with ``predict_proba``; None: LightGBM with its own defaults.
        features: names of the columns that it reads, in order. Empty: of a frame, all columns that may be features
            (:func:`vigil.models.training.inputs.list_feature_columns`), and of an array all.
        folds: number of folds of the patients; each member leaves one out.
        repeats: number of divisions into folds.
        max_negatives: how many rows without an event a member learns from at most, drawn for each member; None: all. Rows with
            an event always count. Where one hour in fifty has an event, most of the other hours repeat each other. Of augmented
            rows without an event the same share is drawn.
        smallest_leaf: for trees: the least share of a member's rows in a leaf. Hours of one stay repeat each other, so a leaf
            of some hundred rows may stand for a few dozen patients. LightGBM counts rows only, and estimates their number from
            the curvature of the loss. None: the learner's own number of rows.
        seed: of folds, draws and learners.

    Attributes:
        members_: the fitted learners, in a list of one list. Models of earlier versions have a second list: learners that
            predict whether the patient has the event at any time of the stay.
        weights_, intercept_: the calibration. The margin is the sum of the weighted mean log-odds of each list, plus the
            intercept.
        thresholds_: probability from which a risk is ``medium`` and from which it is ``high``; set by the training job.
        certificate_: the alarm guarantee; None if none could be given; set by the training job.
        domain_: the domain of use; None if none was learned; set by the training job. Models of earlier versions lack it.
        ranges_: turns a probability into a range.
        classes_: the label of no event, and that of an event.
        n_features_in_, feature_names_in_: the columns that it reads; without names if it learned from an array.
        metadata_: how the model was made. It says whether members also learned from ``other_habits``, ``changed_habits`` and
            ``cut_records``. The training job adds task, source, simulated and data digest.
    """

    __metadata_request__fit = {"groups": True}  # noqa: RUF012 - scikit-learn's; routed metadata reach the folds of members

    smallest_leaf: float | None = None  # for models of earlier versions, which lack the attribute
    features: list[str]
    feature_names_in_: NDArray[Any]
    members_: list[list[Any]]
    weights_: Float64
    intercept_: float
    thresholds_: dict[str, float]
    certificate_: "Certificate | None"
    domain_: "DomainOfUse | None"
    ranges_: VennAbers
    metadata_: dict[str, Any]

    def __init__(
        self,
        learner: Any = None,
        features: list[str] | tuple[()] = (),
        *,
        folds: int = 5,
        repeats: int = 1,
        max_negatives: int | None = None,
        smallest_leaf: float | None = None,
        seed: int = 0,
    ) -> None:
        self.learner = learner
        self.features = cast("list[str]", features)  # as given, since scikit-learn's clone compares
        self.folds = folds
        self.repeats = repeats
        self.max_negatives = max_negatives
        self.smallest_leaf = smallest_leaf
        self.seed = seed

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters of the learner and ``smallest_leaf``, by name; without those that are None."""
        parameters = self._unfitted_learner.get_params() | {"smallest_leaf": self.smallest_leaf}
        return {name: value for name, value in parameters.items() if value is not None}

    @property
    def _unfitted_learner(self) -> Any:
        if self.learner is not None:
            return self.learner
        return lightgbm.LGBMClassifier(n_jobs=1, deterministic=True, force_col_wise=True, verbosity=-1)

    def fit(self, X: Any, y: ArrayLike, groups: ArrayLike | None = None, augmented: Sequence[Augmented] = ()) -> Self:
        """Fit like :meth:`cross_fit`, and return the model instead of the out-of-fold risks."""
        self.cross_fit(X, y, groups, augmented)
        return self

    def cross_fit(
        self,
        X: Any,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        augmented: Sequence[Augmented] = (),
        after_fold: AfterFold | None = None,
    ) -> Float64:
        """Fit members and calibration.

        Args:
            X: a frame with the model's columns; for a model without names of features also an array.
            y: 0, 1, or NaN for rows that are scored and not learned from, shape (n_rows,). Other classes of a pair work too.
            groups: subject of each row. All rows of a patient are in one fold. Default: the column ``subject_id`` of the frame;
                without it each row counts as a patient, with a warning.
            augmented: rows of X as recorded in other ways (:mod:`vigil.models.training.measurement_augmentation`). Members
                learn from them too, with the labels and groups of X. Calibration is that of X.
            after_fold: called after each member with the rows that it left out and their log-odds by it, not calibrated. It may
                raise to end the fitting.

        Returns:
            The calibrated out-of-fold risk of every row, shape (n_rows,).

        Raises:
            TooFewEventsError: fewer patients have an event, or have none, than there are folds.
            FeatureMismatchError: columns are missing.
        """
        patients = X
        X = self._rows(X, fitting=True)
        labels, self.classes_ = encode_labels(y)
        check_consistent_length(X, labels)
        groups = find_patients(patients if isinstance(patients, pd.DataFrame) else X, groups)
        self.thresholds_ = {}
        self.certificate_ = None
        self.domain_ = None
        ways = {way.way for way in augmented}
        self.metadata_ = {
            "other_habits": "other_habits" in ways,
            "changed_habits": "changed_habits" in ways,
            "cut_records": not ways.isdisjoint(TRUNCATED_RECORDS),
        }
        divisions = [assign_folds(groups, labels == 1, self.folds, seed=self.seed + repeat) for repeat in range(self.repeats)]

        def fit_member(repeat_and_fold: tuple[int, int]) -> tuple[Any, NDArray[np.int64], Float64]:
            repeat, left_out = repeat_and_fold
            draw = self.seed + 1000 * repeat + left_out
            is_left_out = divisions[repeat] == left_out
            with preparing_alone() as prepared:
                known = ~is_left_out & ~np.isnan(labels)
                seen, rows = draw_training_rows(self.matrix, X, labels, known, augmented, self.max_negatives, draw)
                member = clone(self._unfitted_learner)
                if "random_state" in member.get_params():
                    member.set_params(random_state=draw)
                if self.smallest_leaf is not None:
                    member.set_params(min_child_samples=max(1, round(self.smallest_leaf * len(seen))))
                fit_prepared(member, seen, labels[rows].astype(np.int64), prepared)
            del seen  # a quarter of a gigabyte for a large cohort
            unseen = np.flatnonzero(is_left_out)
            parts = [unseen[first : first + _CHUNK] for first in range(0, len(unseen), _CHUNK)]
            return member, unseen, np.concatenate([_raw_scores(member, self.matrix(X.take(part))) for part in parts])

        members: list[Any] = []
        raw = np.zeros(len(labels))
        for member, unseen, scores in map_on_cores(fit_member, list(product(range(self.repeats), range(self.folds)))):
            members.append(member)
            raw[unseen] += scores / self.repeats
            if after_fold is not None:
                after_fold(unseen, scores)
        self.members_ = [members]
        known = ~np.isnan(labels)
        calibrator = LogisticRegression(C=np.inf).fit(raw[known, None], labels[known])
        self.weights_, self.intercept_ = calibrator.coef_[0].astype(np.float64), float(calibrator.intercept_[0])
        risk = from_log_odds(raw * self.weights_[0] + self.intercept_)
        self.ranges_ = VennAbers.fit(risk[known], labels[known], groups[known], seed=self.seed)
        return risk

    def matrix(self, X: Any) -> Float32:
        """Return the columns that the model reads, in its order, shape (n_rows, n_features).

        Raises:
            FeatureMismatchError: some are missing.
        """
        return select_columns(X, self.features or list(getattr(self, "feature_names_in_", X.columns))).to_numpy(
            dtype=np.float32
        )

    def _rows(self, X: Any, *, fitting: bool = False) -> pd.DataFrame:
        """Return a frame with the columns that the model reads, and remember them if it is fitted.

        Raises:
            FeatureMismatchError: some are missing.
            ValueError: without names of features, X is not as scikit-learn expects it.
        """
        if not self.features:
            checked = {"dtype": np.float32, "ensure_all_finite": "allow-nan", "ensure_min_samples": 1 + fitting}
            if not isinstance(X, pd.DataFrame):
                return pd.DataFrame(validate_data(self, X, reset=fitting, **checked))
            names = list_feature_columns(X) if fitting else list(getattr(self, "feature_names_in_", X.columns))
            rows = validate_data(self, select_columns(X, names), reset=fitting, **checked)
            return pd.DataFrame(rows, columns=names, index=X.index)
        if not isinstance(X, pd.DataFrame):
            raise FeatureMismatchError(
                f"X: a {type(X).__name__}; this model reads {len(self.features)} columns by name; expected a pandas frame"
            )
        if fitting:
            self.matrix(X.head(0))  # raises if columns are missing
            self.n_features_in_ = len(self.features)
            self.feature_names_in_ = np.array(self.features)  # of text, not of objects, each of which would be stored by itself
        return X

    def margin(self, X: Any) -> Float64:
        """Return calibrated log-odds, shape (n_rows,); bit-identical for a row whatever other rows are scored with it."""
        if "members_" not in vars(self):
            raise NotFittedError("RiskModel: this instance is not fitted yet; call fit first")
        X = self._rows(X)
        if len(X) > _CHUNK:
            parts = [X.iloc[first : first + _CHUNK] for first in range(0, len(X), _CHUNK)]
            return np.concatenate([self._margin(part) for part in parts])
        return self._margin(X)

    def _margin(self, X: pd.DataFrame) -> Float64:
        matrix = self.matrix(X)
        apply = map_on_cores if len(X) > _MIN_ROWS_FOR_THREADS else map
        total = np.full(len(X), self.intercept_)
        for weight, view in zip(self.weights_, self.members_, strict=True):
            # Number by number, in one order. Sums and products of a whole matrix round differently for one row and for many.
            total += weight * (sum(apply(lambda member: _raw_scores(member, matrix), view)) / len(view))
        return total

    def predict_proba(self, X: Any) -> Float64:
        """Return calibrated probabilities of no event and of an event, shape (n_rows, 2)."""
        risk = self.risk(X)
        return np.column_stack([1 - risk, risk])

    def risk(self, X: Any) -> Float64:
        """Return the calibrated probability of the event, shape (n_rows,)."""
        return from_log_odds(self.margin(X))

    def range(self, X: Any) -> tuple[Float64, Float64]:
        """Return the lowest and the highest probability that the evidence supports, each of shape (n_rows,)."""
        return self.range_of(self.risk(X))

    def range_of(self, risk: Float64) -> tuple[Float64, Float64]:
        """Return the range of each risk, by :class:`VennAbers`, widened to hold the risk itself."""
        low, high = self.ranges_.range(risk)
        return np.minimum(low, risk), np.maximum(high, risk)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of each row, shape (n_rows,): an event where the risk is in the high band.

        A model without thresholds, to which no training job has set any, predicts an event where the risk is above a half.
        """
        risk = self.risk(X)
        is_high = risk >= self.thresholds_["high"] if "high" in self.thresholds_ else risk > _MORE_LIKELY_THAN_NOT
        return np.asarray(self.classes_[is_high.astype(np.int64)])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = get_tags(self._unfitted_learner).input_tags.allow_nan
        return tags

    def band(self, probability: float) -> Band:
        """Return the band of a probability by the frozen thresholds.

        Raises:
            NoThresholdError: the model has no thresholds.
        """
        if probability >= self._threshold("high"):
            return "high"
        return "medium" if probability >= self._threshold("medium") else "low"

    @property
    def can_explain(self) -> bool:
        """Whether :meth:`contributions` work: the members are tree ensembles."""
        return isinstance(self._unfitted_learner, lightgbm.LGBMClassifier)

    def contributions(self, X: pd.DataFrame, by: Literal["signal", "feature"] = "signal") -> pd.DataFrame:
        """Return TreeSHAP contributions to the calibrated log-odds, of features or summed over those of each signal.

        Lundberg SM, et al. From local explanations to global understanding with explainable AI for trees. Nat Mach Intell
        2020;2:56-67. A row adds up to :meth:`margin`.

        Returns:
            One row for each row of X and one column for each signal (or feature), in log-odds; ``baseline`` is that of the
            average patient.

        Raises:
            TypeError: the members are not tree ensembles.
        """
        if not self.can_explain:
            raise TypeError(f"contributions: expected a LightGBM model, this one is a {type(self.learner).__name__}")
        matrix = self.matrix(X)
        shap = sum(
            weight * np.mean([np.asarray(member.predict(matrix, pred_contrib=True)) for member in view], axis=0)
            for weight, view in zip(self.weights_, self.members_, strict=True)
        )
        baseline = shap[:, -1] + self.intercept_
        if by == "feature":
            return pd.DataFrame(shap[:, :-1], columns=self.features, index=X.index).assign(baseline=baseline)
        signal, signals = pd.factorize(np.array([FEATURES[name].signal for name in self.features], dtype=object))
        membership = np.eye(len(signals))[signal]  # (n_features, n_signals)
        return pd.DataFrame(shap[:, :-1] @ membership, columns=signals, index=X.index).assign(baseline=baseline)

    def contribution_changes(self, before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
        """Return how much each signal moved the log-odds from one index time to another.

        Args:
            before, now: features at the two times, row by row of the same patients.

        Returns:
            One row for each pair of rows, one column for each signal. A row adds up to the difference of :meth:`margin`.
        """
        return (self.contributions(now) - self.contributions(before).to_numpy()).drop(columns="baseline")

    def _threshold(self, band: Band) -> float:
        if band not in self.thresholds_:
            raise NoThresholdError(
                f"thresholds_: no {band} band; expected probabilities from which a risk is medium and high, such as "
                'model.thresholds_ = {"medium": 0.02, "high": 0.1}; vigil train sets them'
            )
        return self.thresholds_[band]


def _raw_scores(member: Any, matrix: Float32) -> Float64:
    """Return a member's log-odds of some rows, shape (n_rows,)."""
    if not isinstance(member, lightgbm.LGBMClassifier):
        return log_odds(member.predict_proba(matrix.copy())[:, 1])  # a learner may change its rows in place
    # The booster itself, because the checks of its wrapper take ten times as long as one row. One thread, because on a busy
    # machine two would wait for each other longer than for the row.
    booster = member.booster_
    if len(matrix) <= _MAX_SINGLE_ROWS:
        return raw_scores(booster, matrix)
    if len(matrix) < _MIN_ROWS_TO_PREPARE:
        return np.asarray(booster.predict(matrix, raw_score=True, num_threads=1))
    return score_many(booster, matrix)
