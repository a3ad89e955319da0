"""The ways to make a model that a change of hospital is imitated for, and the rule by which one of them is taken.

What is compared are settings and what is learned from, never a test set. The candidates stand from the simplest to the most
elaborate: fewer features before more, fewer ways of being known before more, larger leaves before smaller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from features.catalogue import reflecting
from models.seeds import SEED
from models.training.candidate_models import DEFAULT, DEFAULT_ONCE, learned, linear, trees
from models.training.measurement_augmentation import CUT_RECORDS, LEARNED, Way
from models.training.risk_model import RiskModel

Float64 = NDArray[np.float64]

FORMER: Final = "former default"
PHYSIOLOGY: Final = "physiology and hours"
_FORMER_WAYS: Final[tuple[Way, ...]] = ("other_habits", *CUT_RECORDS)
# The former default: a leaf holds a fixed number of rows, however few patients they come from.
_FORMER_HOURLY: Final[Mapping[str, Any]] = {
    "smallest_leaf": None,
    "learner__n_estimators": 700,
    "learner__learning_rate": 0.02,
    "learner__min_child_samples": 400,
}
_FEWER_COLUMNS: Final[Mapping[str, Any]] = {
    "smallest_leaf": 0.003,
    "learner__n_estimators": 600,
    "learner__colsample_bytree": 0.1,
}
_STRENGTHS: Final = (0.00003, 0.0003, 0.003, 0.03)  # of the linear baseline: inverse of the penalty


@dataclass(frozen=True)
class Candidate:
    """A way to make the model.

    Attributes:
        model: unfitted.
        ways: that its members learn from, beside rows as measured.
    """

    model: RiskModel
    ways: Sequence[Way]


def candidates(service: Sequence[str], *, hourly: bool) -> dict[str, Candidate]:
    """Return the default, the default of before and their rivals by name, the simplest first.

    Of stays the default knows physiology alone.

    Args:
        service: features of the task's service.
        hourly: whether rows are hours of stays, or stays.
    """
    features = learned(service)
    default = trees(features, hourly=hourly, seed=SEED)
    former = clone(default).set_params(**(_FORMER_HOURLY if hourly else {}))
    fewer = clone(default).set_params(**(_FEWER_COLUMNS if hourly else {}))
    return {
        PHYSIOLOGY if hourly else DEFAULT_ONCE: Candidate(clone(fewer).set_params(features=_physiology(features)), LEARNED),
        "large leaves": Candidate(clone(fewer).set_params(smallest_leaf=0.03), LEARNED),
        **({"a tenth of the columns": Candidate(fewer, LEARNED)} if hourly else {}),
        DEFAULT: Candidate(default, LEARNED),
        FORMER: Candidate(former, _FORMER_WAYS),
    }


def penalties(service: Sequence[str], *, hourly: bool) -> dict[str, Candidate]:
    """Return linear baselines by name, the strongest penalty first.

    Args:
        service, hourly: as :func:`candidates` takes them.
    """
    features = learned(service)
    return {
        f"logistic, C {strength:g}": Candidate(linear(features, strength=strength, hourly=hourly, seed=SEED), LEARNED)
        for strength in _STRENGTHS
    }


def simplest_within_one_error(auroc: Mapping[str, float], draws: Mapping[str, Float64]) -> str:
    """Return the simplest candidate that is not worse than the best by more than one standard error of their difference.

    Breiman L, et al. Classification and regression trees. Wadsworth, 1984, section 3.4.3. The error is that of the paired
    difference over the same resamples of patients: candidates err on the same patients, so the error of each alone would let
    anything pass.

    Args:
        auroc: of each candidate, the simplest first.
        draws: the same in each resample, each of shape (RESAMPLES,).
    """
    return next(name for name, (behind, error) in behind_best(auroc, draws).items() if behind <= error)


def behind_best(auroc: Mapping[str, float], draws: Mapping[str, Float64]) -> dict[str, tuple[float, float]]:
    """Return how far each candidate is behind the best, and the standard error of that difference.

    Args:
        auroc, draws: as :func:`simplest_within_one_error` takes them.
    """
    best = max(auroc, key=lambda name: auroc[name])
    return {name: (auroc[best] - value, float(np.std(draws[best] - draws[name]))) for name, value in auroc.items()}


def _physiology(features: Sequence[str]) -> list[str]:
    """Those that say what was measured, not when or how often; and the hours in the unit."""
    physiology = set(reflecting("physiology"))
    return [name for name in features if name in physiology or name == "hours_in_unit"]
