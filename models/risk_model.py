"""The artefact: an estimator, its calibrator, the features it reads by name, and the thresholds of its bands."""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from features.catalogue import FEATURES
from features.errors import VigilError

Float64 = NDArray[np.float64]
Band = Literal["low", "medium", "high"]

_EDGE: Final = 1e-9  # probabilities are kept this far from 0 and 1, so that log-odds stay finite
_PATIENCE: Final = 50  # rounds without a better log-loss on the tuning patients before boosting stops


class TooFewEventsError(VigilError):
    """A split lacks events, or lacks anything else."""


class FeatureMismatchError(VigilError):
    """The frame does not hold the columns the model was trained on."""


def log_odds(probability: ArrayLike) -> Float64:
    """Natural log-odds of probabilities, any shape."""
    p = np.clip(np.asarray(probability, dtype=np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p / (1 - p)))


class RiskModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A calibrated classifier over named features.

    Calibration is Platt's: a logistic regression of the label on the estimator's log-odds, fitted on patients the estimator
    was not trained on (Platt J. Probabilistic outputs for support vector machines. 1999).

    Args:
        estimator: any scikit-learn classifier with ``predict_proba``. LightGBM is stopped early on the tuning patients.
        features: names of the columns it reads, in order.

    Attributes:
        slope_, intercept_: the calibrator, on log-odds.
        thresholds_: probability from which a risk is ``medium`` and from which it is ``high``; set by the training job.
        facts_: what the artefact knows of its making: task, source, simulated, data digest.
    """

    def __init__(self, estimator: Any, features: list[str]) -> None:
        self.estimator = estimator
        self.features = features

    def fit(self, X: pd.DataFrame, y: ArrayLike, *, tune_X: pd.DataFrame, tune_y: ArrayLike) -> Self:
        """Fit the estimator on (X, y), then stop it early and calibrate it on other patients (tune_X, tune_y)."""
        matrix, labels = self._matrix(X), np.asarray(y, dtype=np.int64)
        tune_matrix, tune_labels = self._matrix(tune_X), np.asarray(tune_y, dtype=np.int64)
        for name, part in (("training", labels), ("tuning", tune_labels)):
            if len(np.unique(part)) != 2:
                raise TooFewEventsError(
                    f"labels: the {name} patients hold {len(np.unique(part))} of the 2 classes of outcome; "
                    "a larger cohort is needed, with some events and some non-events in every split"
                )
        if isinstance(self.estimator, lightgbm.LGBMClassifier):
            self.estimator.fit(
                matrix,
                labels,
                eval_X=tune_matrix,
                eval_y=tune_labels,
                eval_metric="binary_logloss",
                callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
            )
        else:
            self.estimator.fit(matrix, labels)
        self.classes_ = np.array([0, 1])
        calibrator = LogisticRegression(C=np.inf).fit(self._raw(tune_matrix)[:, None], tune_labels)
        self.slope_, self.intercept_ = float(calibrator.coef_[0, 0]), float(calibrator.intercept_[0])
        self.thresholds_: dict[str, float] = {}
        self.facts_: dict[str, Any] = {}
        return self

    def margin(self, X: pd.DataFrame) -> Float64:
        """Calibrated log-odds, shape (n_rows,)."""
        return self.slope_ * self._raw(self._matrix(X)) + self.intercept_

    def predict_proba(self, X: pd.DataFrame) -> Float64:
        """Calibrated probabilities of no event and event, shape (n_rows, 2)."""
        risk = 1 / (1 + np.exp(-self.margin(X)))
        return np.column_stack([1 - risk, risk])

    def risk(self, X: pd.DataFrame) -> Float64:
        """Calibrated probability of the event, shape (n_rows,)."""
        return self.predict_proba(X)[:, 1]

    def predict(self, X: pd.DataFrame) -> NDArray[np.int64]:
        """1 where the risk is in the high band, else 0."""
        return (self.risk(X) >= self.thresholds_["high"]).astype(np.int64)

    def band(self, probability: float) -> Band:
        """The band of a probability by the frozen thresholds."""
        if probability >= self.thresholds_["high"]:
            return "high"
        return "medium" if probability >= self.thresholds_["medium"] else "low"

    def contributions(self, X: pd.DataFrame) -> pd.DataFrame:
        """TreeSHAP contributions to the calibrated log-odds, summed over each signal's features.

        Lundberg SM, et al. From local explanations to global understanding with explainable AI for trees. Nat Mach Intell
        2020;2:56-67. Rows add up to :meth:`margin`; the column ``baseline`` is the average patient's.

        Returns:
            One row a row of X, one column a signal and ``baseline``, in log-odds.

        Raises:
            TypeError: the estimator is not a tree ensemble.
        """
        if not isinstance(self.estimator, lightgbm.LGBMClassifier):
            raise TypeError(f"contributions: expected a LightGBM model, this one is a {type(self.estimator).__name__}")
        shap = np.asarray(self.estimator.predict(self._matrix(X), pred_contrib=True)) * self.slope_
        signal, signals = pd.factorize(np.array([FEATURES[name].signal for name in self.features], dtype=object))
        membership = np.eye(len(signals))[signal]  # (n_features, n_signals)
        by_signal = pd.DataFrame(shap[:, :-1] @ membership, columns=signals, index=X.index)
        return by_signal.assign(baseline=shap[:, -1] + self.intercept_)

    def _raw(self, matrix: NDArray[np.float32]) -> Float64:
        return log_odds(self.estimator.predict_proba(matrix)[:, 1])

    def _matrix(self, X: pd.DataFrame) -> NDArray[np.float32]:
        missing = [name for name in self.features if name not in X]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise FeatureMismatchError(
                f"features: {len(missing)} of the model's {len(self.features)} columns are missing: "
                f"{', '.join(missing[:5])}{more}; expected a row of the model's feature service"
            )
        return X[self.features].to_numpy(dtype=np.float32)


def classifiers(features: list[str], seed: int) -> Mapping[str, RiskModel]:
    """The default model and, always beside it, its baselines, unfitted. The first is the one that is registered.

    ``clock`` knows only time in care, age and sex: what it reaches owes nothing to physiology. ``news2`` is the score alone.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Few leaves and strong column sampling: rare events and correlated windows reward restraint.
    trees: dict[str, Any] = {
        "n_estimators": 600, "learning_rate": 0.04, "num_leaves": 24, "min_child_samples": 200, "colsample_bytree": 0.3,
        "subsample": 0.7, "subsample_freq": 1, "reg_lambda": 20.0, "max_bin": 127, "random_state": seed,
        "deterministic": True, "force_row_wise": True, "verbosity": -1,
    }  # fmt: skip
    linear = make_pipeline(
        SimpleImputer(strategy="mean", keep_empty_features=True, copy=False),  # in place: the matrix is a gigabyte
        StandardScaler(copy=False),
        LogisticRegression(C=0.01, max_iter=300),
    )
    return {
        "lightgbm": RiskModel(lightgbm.LGBMClassifier(**trees), features),
        "logistic": RiskModel(linear, features),
        "news2": RiskModel(make_pipeline(StandardScaler(), LogisticRegression()), ["news2"]),
        "clock": RiskModel(lightgbm.LGBMClassifier(**{**trees, "colsample_bytree": 1.0}), ["hours_in_unit", "age", "sex"]),
    }
