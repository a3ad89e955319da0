"""The ways to make a model that a change of hospital is imitated for, and the rule by which one of them is taken.

What is compared are settings and what is learned from, never a test set. The candidates stand from the simplest to the most
elaborate: fewer features before more, fewer ways of being known before more, larger leaves before smaller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from features.catalogue import reflecting
from models.habits import CUT_RECORDS, Way
from models.risk_model import RiskModel
from models.variants import DEFAULT, learned, trees
from pipelines.train import SEED

Float64 = NDArray[np.float64]

FORMER: Final = "former default"
PHYSIOLOGY: Final = "physiology and hours"
_ALL: Final = frozenset(get_args(Way))
_FORMER_WAYS: Final = frozenset({"other_habits", *CUT_RECORDS})
# The default of before: leaves of so many rows, whoever they are of.
_FORMER_HOURLY: Final[Mapping[str, Any]] = {
    "smallest_leaf": None,
    "learner__n_estimators": 700,
    "learner__learning_rate": 0.02,
    "learner__min_child_samples": 400,
    "learner__colsample_bytree": 0.2,
}
_FORMER_ONCE: Final[Mapping[str, Any]] = {"smallest_leaf": None, "learner__min_child_samples": 40}


@dataclass(frozen=True)
class Candidate:
    """A way to make the model.

    Attributes:
        model: unfitted.
        ways: that its members learn from, beside rows as measured.
    """

    model: RiskModel
    ways: frozenset[str]


def candidates(service: Sequence[str], *, hourly: bool) -> dict[str, Candidate]:
    """Return the default, the default of before and their rivals by name, the simplest first.

    Args:
        service: features of the task's service.
        hourly: whether rows are hours of stays, or stays.
    """
    features = learned(service)
    physiology = set(reflecting("physiology"))
    hours = [name for name in features if name in physiology or name == "hours_in_unit"]
    default = trees(features, hourly=hourly, seed=SEED)
    former = clone(default).set_params(**(_FORMER_HOURLY if hourly else _FORMER_ONCE))
    return {
        PHYSIOLOGY: Candidate(trees(hours, hourly=hourly, seed=SEED), _ALL),
        "default, former ways": Candidate(default, _FORMER_WAYS),
        DEFAULT: Candidate(default, _ALL),
        FORMER: Candidate(former, _FORMER_WAYS),
        "former default, all ways": Candidate(former, _ALL),
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
    best = max(auroc, key=lambda name: auroc[name])
    for name, value in auroc.items():
        if auroc[best] - value <= np.std(draws[best] - draws[name]):
            return name
    return best
