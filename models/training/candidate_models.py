"""Candidate models: the default, models that know only a part of what it knows, and the scores that it has to beat."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import lightgbm
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vigil.features.catalogue import FEATURES, SAFETY_NET, list_features, list_features_reflecting
from vigil.features.signals import signal_names
from vigil.models.training.risk_model import RiskModel

DEFAULT: Final = "all_signals"  # default of models that are asked every hour
# Default of models that are asked once per stay. It ranks as well there, and depends less on a hospital's measurement habits
# (docs/models.md).
DEFAULT_PER_STAY: Final = "physiology"
SCORES: Final = ("news2", "qsofa", "sirs", "mews")
CLOCK: Final = ("hours_in_unit", "age", "sex")
# Candidates that learn only from rows as measured. The clock is the same however a record is truncated or measured. A score
# that is recalibrated alone has nothing to learn apart from the event rate at each of its values.
AS_MEASURED: Final = frozenset({"clock", *SCORES})

# What a wearable or a ward monitor measures. It gives no score, because scores count oxygen and consciousness. Glucose is a
# vital sign at home, but in the open cohorts it is drawn from a vein.
_MONITORED: Final = (
    "heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "mean_bp", "body_temperature",
    "shock_index", "pulse_pressure", "measuring", "age", "sex",
)  # fmt: skip

# What neither a monitor nor a nurse knows: results of blood samples, the scores that need them, and time in care.
_NOT_AT_BEDSIDE: Final = (*signal_names("laboratory"), "glucose", "sirs", "sofa", "time_in_care")

# Chosen on training set A of Challenge 2019, by the AUROC in units that were left out, under changed habits (`vigil benchmark
# travel2019`, docs/models.md). Few leaves and strong column sampling do best, because events are rare and windows overlap.
HOURLY: Final[Mapping[str, Any]] = {
    "n_estimators": 500, "learning_rate": 0.03, "num_leaves": 16, "colsample_bytree": 0.2,
    "subsample": 0.7, "subsample_freq": 1, "reg_lambda": 20.0, "max_bin": 127,
}  # fmt: skip
HOURLY_LEAF: Final = 0.002  # least share of a member's rows in a leaf
# One row per stay gives a few thousand rows. So steps are smaller, splits random, and members many.
PER_STAY: Final[Mapping[str, Any]] = {
    "n_estimators": 1000, "learning_rate": 0.015, "num_leaves": 8, "min_child_samples": 40, "colsample_bytree": 0.2,
    "subsample": 0.7, "subsample_freq": 1, "reg_lambda": 10.0, "max_bin": 63, "extra_trees": True,
}  # fmt: skip
_MOST_NEGATIVES: Final = 30_000


def monitor_features(features: Iterable[str]) -> list[str]:
    """Return the features that a wearable or a ward monitor can know, and age and sex."""
    return [name for name in features if FEATURES[name].signal in _MONITORED]


def bedside_features(features: Iterable[str]) -> list[str]:
    """Return the features that need no blood sample: what monitors measure and nurses chart."""
    return [name for name in features if FEATURES[name].signal not in _NOT_AT_BEDSIDE]


def model_features(features: Iterable[str]) -> list[str]:
    """Return the features of a service that a model learns from: all but those of the safety net, which decides without it.

    >>> model_features(["heart_rate_mean_6h", "news2_sustained", "age"])
    ['heart_rate_mean_6h', 'age']
    """
    net = set(list_features(SAFETY_NET))
    return [name for name in features if name not in net]


def candidates(features: Iterable[str], *, hourly: bool, seed: int) -> dict[str, RiskModel]:
    """Return unfitted models by name, the default first.

    - ``physiology`` and ``workflow`` are the default without what the other one has. They tell how much of it is what was
      measured, and how much is when and how often staff measured.
    - ``clock`` knows time in care, age and sex. Its performance owes nothing to physiology.
    - ``vital_signs`` knows what monitors measure; of models that are asked once per stay, also what nurses chart.
    - ``logistic`` is a linear model of all features.
    - Each score is recalibrated alone.

    Args:
        features: names of the feature service.
        hourly: whether a row is an hour of a stay; if not, it is a stay.
        seed: of the members.
    """
    service = model_features(features)
    physiology, workflow = set(list_features_reflecting("physiology")), set(list_features_reflecting("workflow"))
    features_of: dict[str, list[str]] = {
        **({DEFAULT: service} if hourly else {}),
        "physiology": [name for name in service if name in physiology],
        **({} if hourly else {"all_signals": service}),
        "workflow": [name for name in service if name in workflow],
        "clock": [name for name in CLOCK if name in service],
    }
    if any(FEATURES[name].signal in _NOT_AT_BEDSIDE for name in service):
        features_of["vital_signs"] = monitor_features(service) if hourly else bedside_features(service)
    models = {name: tree_model(chosen, hourly=hourly, seed=seed) for name, chosen in features_of.items() if chosen}
    models["logistic"] = linear_model(service, hourly=hourly, seed=seed)
    return models | {name: score_model(name, hourly=hourly, seed=seed) for name in SCORES if name in service}


def score_model(column: str, *, hourly: bool, seed: int) -> RiskModel:
    """Return an unfitted model that recalibrates a score to the outcome.

    Args:
        column: the score.
        hourly, seed: as :func:`candidates` takes them.
    """
    return linear_model([column], hourly=hourly, seed=seed)


def tree_model(features: list[str], *, hourly: bool, seed: int) -> RiskModel:
    """Return an unfitted model of boosted trees, the default kind, over these features."""
    if not hourly:
        return RiskModel(_boosted(PER_STAY, len(features)), features, repeats=4, seed=seed)
    learner = _boosted(HOURLY, len(features))
    return RiskModel(learner, features, max_negatives=_MOST_NEGATIVES, smallest_leaf=HOURLY_LEAF, seed=seed)


def linear_model(features: list[str], *, strength: float = 0.0003, hourly: bool, seed: int) -> RiskModel:
    """Return an unfitted linear model over these features; ``strength`` is the inverse of its penalty."""
    return RiskModel(_standardised(strength), features, max_negatives=_MOST_NEGATIVES if hourly else None, seed=seed)


def small_cohort_model(features: list[str], *, seed: int) -> RiskModel:
    """Return an unfitted linear model for some dozens of records, in which trees would find no splits."""
    return RiskModel(_standardised(0.3), features, repeats=4, seed=seed)


def _boosted(parameters: Mapping[str, Any], features: int) -> lightgbm.LGBMClassifier:
    without_sampling = {"colsample_bytree": 1.0} if features < 10 else {}
    # Histograms by column give the same trees as by row, in nine tenths of the time and with less traffic to memory.
    return lightgbm.LGBMClassifier(
        **{**parameters, **without_sampling}, n_jobs=1, deterministic=True, force_col_wise=True, verbosity=-1
    )


def _standardised(strength: float) -> Any:
    """Return imputation, scaling and logistic regression; they work in place, because a copy may take a gigabyte."""
    imputer = SimpleImputer(strategy="mean", keep_empty_features=True, copy=False)
    return make_pipeline(imputer, StandardScaler(copy=False), LogisticRegression(C=strength, max_iter=300))
