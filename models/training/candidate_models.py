"""What is trained side by side: the model, what each part of its knowledge is worth alone, and the scores it has to beat."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import lightgbm
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.catalogue import FEATURES, SAFETY_NET, of, reflecting
from features.signals import names
from models.training.risk_model import RiskModel

DEFAULT: Final = "all_signals"  # of hours
DEFAULT_ONCE: Final = "physiology"  # of stays: it knows as much there, and depends less on a hospital's habits (docs/models.md)
SCORES: Final = ("news2", "qsofa", "sirs", "mews")
CLOCK: Final = ("hours_in_unit", "age", "sex")
# Variants that learn from rows as measured alone: the clock is the same however a record is cut or measured, and a score that
# is recalibrated alone has nothing to learn but the rate at each of its values.
AS_MEASURED: Final = frozenset({"clock", *SCORES})

# What a wearable or a ward monitor measures: no score, since those count oxygen and consciousness. Glucose is a vital sign at
# home, but in the open cohorts it is drawn from a vein.
_MONITORED: Final = (
    "heart_rate", "respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "mean_bp", "body_temperature",
    "shock_index", "pulse_pressure", "measuring", "age", "sex",
)  # fmt: skip

# What neither a monitor nor a nurse knows: what blood is drawn for, the scores that need it, and time in care.
_DRAWN: Final = (*names("laboratory"), "glucose", "sirs", "sofa", "time_in_care")

# Chosen on training set A of Challenge 2019 by what is left in units left out under changed habits of measuring (`vigil
# benchmark travel2019`, docs/models.md). Few leaves and strong column sampling: events are rare and windows overlap, so
# restraint is rewarded.
HOURLY: Final[Mapping[str, Any]] = {
    "n_estimators": 500, "learning_rate": 0.03, "num_leaves": 16, "colsample_bytree": 0.2,
    "subsample": 0.7, "subsample_freq": 1, "reg_lambda": 20.0, "max_bin": 127,
}  # fmt: skip
HOURLY_LEAF: Final = 0.002  # least share of a member's rows in a leaf
# A row a stay: a few thousand rows, so smaller steps, random splits, and many members.
ONCE: Final[Mapping[str, Any]] = {
    "n_estimators": 1000, "learning_rate": 0.015, "num_leaves": 8, "min_child_samples": 40, "colsample_bytree": 0.2,
    "subsample": 0.7, "subsample_freq": 1, "reg_lambda": 10.0, "max_bin": 63, "extra_trees": True,
}  # fmt: skip
_MOST_NEGATIVES: Final = 30_000


def monitored(features: Iterable[str]) -> list[str]:
    """Those that a wearable or a ward monitor can know, and age and sex."""
    return [name for name in features if FEATURES[name].signal in _MONITORED]


def bedside(features: Iterable[str]) -> list[str]:
    """Those that need no blood: what monitors measure and nurses chart."""
    return [name for name in features if FEATURES[name].signal not in _DRAWN]


def learned(features: Iterable[str]) -> list[str]:
    """Return those of a service that a model learns from: not what the safety net decides by whatever a model says."""
    net = set(of(SAFETY_NET))
    return [name for name in features if name not in net]


def variants(features: Iterable[str], *, hourly: bool, seed: int) -> dict[str, RiskModel]:
    """Unfitted models by name, the default first.

    ``physiology`` and ``workflow`` are the default without what the other has: how much of it is what was measured, and how
    much is when and how often somebody measured. ``clock`` knows time in care, age and sex: what it reaches owes nothing to
    physiology. ``logistic`` is a linear model of the default's features, and each score is recalibrated alone.

    Args:
        features: of the feature service.
        hourly: whether rows are hours of stays, or stays.
        seed: of the members.
    """
    service = learned(features)
    physiology, workflow = set(reflecting("physiology")), set(reflecting("workflow"))
    choose: dict[str, list[str]] = {
        **({DEFAULT: service} if hourly else {}),
        "physiology": [name for name in service if name in physiology],
        **({} if hourly else {"all_signals": service}),
        "workflow": [name for name in service if name in workflow],
        "clock": [name for name in CLOCK if name in service],
    }
    if any(FEATURES[name].signal in _DRAWN for name in service):
        choose["vital_signs"] = monitored(service) if hourly else bedside(service)
    models = {name: trees(chosen, hourly=hourly, seed=seed) for name, chosen in choose.items() if chosen}
    models["logistic"] = linear(service, hourly=hourly, seed=seed)
    return models | {name: score_alone(name, hourly=hourly, seed=seed) for name in SCORES if name in service}


def score_alone(column: str, *, hourly: bool, seed: int) -> RiskModel:
    """A score that somebody else computed, recalibrated to this outcome."""
    return linear([column], hourly=hourly, seed=seed)


def trees(features: list[str], *, hourly: bool, seed: int) -> RiskModel:
    """The default kind of model over these features."""
    if not hourly:
        return RiskModel(_boosted(ONCE, len(features)), features, repeats=4, seed=seed)
    learner = _boosted(HOURLY, len(features))
    return RiskModel(learner, features, most_negatives=_MOST_NEGATIVES, smallest_leaf=HOURLY_LEAF, seed=seed)


def linear(features: list[str], *, strength: float = 0.0003, hourly: bool, seed: int) -> RiskModel:
    """A linear model over these features; ``strength``: inverse of its penalty."""
    return RiskModel(_standardised(strength), features, most_negatives=_MOST_NEGATIVES if hourly else None, seed=seed)


def few_records(features: list[str], *, seed: int) -> RiskModel:
    """A linear model for some dozens of records, where trees would find nothing to split."""
    return RiskModel(_standardised(0.3), features, repeats=4, seed=seed)


def _boosted(parameters: Mapping[str, Any], features: int) -> lightgbm.LGBMClassifier:
    few = {"colsample_bytree": 1.0} if features < 10 else {}
    return lightgbm.LGBMClassifier(**{**parameters, **few}, n_jobs=1, deterministic=True, force_row_wise=True, verbosity=-1)


def _standardised(strength: float) -> Any:
    """Logistic regression (``C``: inverse of the penalty). In place: the matrix may be a gigabyte, and is our copy."""
    imputer = SimpleImputer(strategy="mean", keep_empty_features=True, copy=False)
    return make_pipeline(imputer, StandardScaler(copy=False), LogisticRegression(C=strength, max_iter=300))
