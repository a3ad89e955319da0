"""The search space: which settings of a tree model may be searched, and between which values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vigil.models.training.risk_model import RiskModel


@dataclass(frozen=True)
class Range:
    """Values that a setting may take.

    Attributes:
        low, high: the least and the greatest value.
        log: whether a step is a factor.
    """

    low: float
    high: float
    log: bool = True

    @property
    def is_integer(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int)


Parameters = dict[str, Any]
Space = Mapping[str, Range]

# Around the defaults (candidate_models.py), from a fraction of them to some times as much. Names are those of `train --set`.
_TREES: Final[dict[str, Range]] = {
    "n_estimators": Range(50, 1500),
    "learning_rate": Range(0.005, 0.2),
    "num_leaves": Range(4, 64),
    "colsample_bytree": Range(0.05, 1.0),
    "subsample": Range(0.4, 1.0, log=False),
    "reg_lambda": Range(0.01, 100.0),
}
HOURLY_SPACE: Final[Space] = {**_TREES, "smallest_leaf": Range(0.0003, 0.05)}
PER_STAY_SPACE: Final[Space] = {**_TREES, "min_child_samples": Range(5, 200)}


def apply_settings(model: RiskModel, parameters: Mapping[str, Any]) -> RiskModel:
    """Set parameters of a model or of its learner, by their own names; return the model.

    >>> from vigil.models.training.candidate_models import tree_model
    >>> model = apply_settings(tree_model(["age"], hourly=True, seed=1), {"num_leaves": 5, "smallest_leaf": 0.01})
    >>> model.settings["num_leaves"], model.smallest_leaf
    (5, 0.01)
    """
    names = setting_names(model)
    model.set_params(**{names[name]: value for name, value in parameters.items()})
    return model


def setting_names(model: RiskModel) -> dict[str, str]:
    """Return the parameters of a model and its learner: their own name, and the one that ``set_params`` takes."""
    return {name.rpartition("__")[2]: name for name in sorted(model.get_params(), reverse=True)}
