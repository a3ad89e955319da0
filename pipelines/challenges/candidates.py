"""Candidate models for a change of hospital, and the rule by which one of them is chosen.

Candidates differ in settings and in the rows they learn from. No test set is used. They are ordered from the simplest to the
most elaborate: fewer features before more, fewer augmentations before more, larger leaves before smaller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from vigil.features.catalogue import list_features_reflecting
from vigil.models.seeds import SEED
from vigil.models.training.candidate_models import DEFAULT, DEFAULT_PER_STAY, linear_model, model_features, tree_model
from vigil.models.training.measurement_augmentation import TRAINING_WAYS, TRUNCATED_RECORDS, Way
from vigil.models.training.risk_model import RiskModel

Float64 = NDArray[np.float64]

FORMER: Final = "former default"
PHYSIOLOGY: Final = "physiology and hours"
_FORMER_AUGMENTATIONS: Final[tuple[Way, ...]] = ("other_habits", *TRUNCATED_RECORDS)
# In the former default a leaf holds a fixed number of rows, however few patients they come from.
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
_STRENGTHS: Final = (0.00003, 0.0003, 0.003, 0.03)  # of the linear baseline; the inverse of the penalty


@dataclass(frozen=True)
class Candidate:
    """An unfitted model, and the rows it learns from.

    Attributes:
        model: unfitted.
        augmentations: names of the augmented rows that its members learn from, in addition to rows as measured.
    """

    model: RiskModel
    augmentations: Sequence[Way]


def tree_candidates(service: Sequence[str], *, hourly: bool) -> dict[str, Candidate]:
    """Return the default, the former default and their alternatives by name, the simplest first.

    Where a row is a stay, the default uses physiological features alone.

    Args:
        service: features of the task's feature service.
        hourly: True if a row is an hour of a stay, False if it is a stay.
    """
    features = model_features(service)
    default = tree_model(features, hourly=hourly, seed=SEED)
    former = clone(default).set_params(**(_FORMER_HOURLY if hourly else {}))
    fewer = clone(default).set_params(**(_FEWER_COLUMNS if hourly else {}))
    return {
        PHYSIOLOGY if hourly else DEFAULT_PER_STAY: Candidate(
            clone(fewer).set_params(features=_physiology(features)), TRAINING_WAYS
        ),
        "large leaves": Candidate(clone(fewer).set_params(smallest_leaf=0.03), TRAINING_WAYS),
        **({"a tenth of the columns": Candidate(fewer, TRAINING_WAYS)} if hourly else {}),
        DEFAULT: Candidate(default, TRAINING_WAYS),
        FORMER: Candidate(former, _FORMER_AUGMENTATIONS),
    }


def linear_candidates(service: Sequence[str], *, hourly: bool) -> dict[str, Candidate]:
    """Return linear baselines of different penalties by name, the strongest first.

    Args:
        service, hourly: as :func:`tree_candidates` takes them.
    """
    features = model_features(service)
    return {
        f"logistic, C {strength:g}": Candidate(
            linear_model(features, strength=strength, hourly=hourly, seed=SEED), TRAINING_WAYS
        )
        for strength in _STRENGTHS
    }


def simplest_within_one_error(auroc: Mapping[str, float], draws: Mapping[str, Float64]) -> str:
    """Return the simplest candidate that is not worse than the best by more than one standard error of their difference.

    Breiman L, et al. Classification and regression trees. Wadsworth, 1984, section 3.4.3. The error is that of the paired
    difference over the same resamples of patients. Candidates err on the same patients, so the error of each AUROC alone is
    so large that almost any candidate would be chosen.

    Args:
        auroc: of each candidate, the simplest first.
        draws: the AUROC of each candidate in each resample, of shape (RESAMPLES,).

    Example:
        >>> noise = np.random.default_rng(0).normal(0, 0.01, 200)
        >>> draws = {"simple": 0.79 + noise, "elaborate": 0.80 + noise}
        >>> simplest_within_one_error({"simple": 0.79, "elaborate": 0.80}, draws)
        'elaborate'
    """
    return next(name for name, (gap, error) in gap_to_best(auroc, draws).items() if gap <= error)


def gap_to_best(auroc: Mapping[str, float], draws: Mapping[str, Float64]) -> dict[str, tuple[float, float]]:
    """Return the difference of each candidate to the best, and the standard error of that difference.

    Args:
        auroc, draws: as :func:`simplest_within_one_error` takes them.
    """
    best = max(auroc, key=lambda name: auroc[name])
    return {name: (auroc[best] - value, float(np.std(draws[best] - draws[name]))) for name, value in auroc.items()}


def _physiology(features: Sequence[str]) -> list[str]:
    """Return the features of measured values, not of their time or frequency, and the hours in the unit."""
    physiology = set(list_features_reflecting("physiology"))
    return [name for name in features if name in physiology or name == "hours_in_unit"]
