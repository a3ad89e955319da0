"""Searchers: what proposes the next settings. Optuna is Vigil's; FLAML is its rival."""

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import median
from typing import Any, Final, Literal, Protocol

import lightgbm

from vigil.features.errors import VigilError
from vigil.models.search.space import Parameters, Range, Space
from vigil.models.training.risk_model import RiskModel

State = Literal["running", "complete", "pruned", "interrupted"]

OPTUNA: Final = "optuna"
FLAML: Final = "flaml"


class MissingExtraError(VigilError):
    """A library of the extra ``search`` that is not installed."""


@dataclass
class Trial:
    """One set of settings that was tried.

    Attributes:
        parameters: the settings.
        losses: the log loss after each fold, over the folds so far. The last one of a complete trial is its result.
        state: ``pruned`` ended before its last fold, because others were better; ``interrupted`` by the end of the budget.
        seconds: how long it has taken.
    """

    parameters: Parameters
    losses: list[float] = field(default_factory=list)
    state: State = "running"
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all folds were fitted."""
        return self.state == "complete"


class Searcher(Protocol):
    """What proposes settings, and learns from how they did."""

    def ask(self) -> Parameters | None:
        """Return the next settings to try; None: there are none."""

    def is_hopeless(self, trial: Trial) -> bool:
        """Return whether a trial may end before its last fold."""

    def tell(self, trial: Trial) -> None:
        """Learn from a trial that has ended."""


def require_library(name: str) -> None:
    """Check that a library of the extra ``search`` is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if find_spec(name) is None:
        raise MissingExtraError(f"{name}: not installed; expected the extra search; install it: pip install 'vigil[search]'")


class OptunaSearcher:
    """Optuna's tree-structured Parzen estimator, with pruning by the median.

    Bergstra J, et al. Algorithms for hyper-parameter optimization. NIPS 2011. Akiba T, et al. Optuna. KDD 2019. The first trial
    is the defaults. After two folds a trial ends that is worse than the median of the earlier ones at that fold, once
    :data:`_UNPRUNED` trials are complete.
    """

    _UNPRUNED: Final = 5

    def __init__(self, space: Space, defaults: Parameters, former: Sequence[Trial], seed: int) -> None:
        """Take the trials of an earlier search of this space as its own."""
        require_library(OPTUNA)
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._states = optuna.trial.TrialState
        self._space = {name: _distribution(own) for name, own in space.items()}
        self._study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed + len(former)),  # else a resumed search would repeat its first draws
            pruner=optuna.pruners.NopPruner(),  # Optuna compares the best fold so far, which an easy one decides
        )
        self._complete = [trial for trial in former if trial.is_complete]
        for trial in former:
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=self._states.COMPLETE if trial.is_complete else self._states.PRUNED,
                    params=trial.parameters,
                    distributions=self._space,
                    value=trial.losses[-1] if trial.losses else None,
                    intermediate_values=dict(enumerate(trial.losses)),
                )
            )
        if not any(trial.is_complete for trial in former):
            self._study.enqueue_trial(defaults)
        self._asked: Any = None

    def ask(self) -> Parameters:
        """Return the next settings to try."""
        self._asked = self._study.ask(self._space)
        return dict(self._asked.params)

    def is_hopeless(self, trial: Trial) -> bool:
        """Return whether a trial is worse than the median of the complete ones at the same fold."""
        fold = len(trial.losses) - 1
        self._asked.report(trial.losses[fold], fold)
        if fold == 0 or len(self._complete) < self._UNPRUNED:
            return False
        return trial.losses[fold] > median(own.losses[fold] for own in self._complete)

    def tell(self, trial: Trial) -> None:
        """Learn from a trial that has ended."""
        if trial.is_complete:
            self._complete.append(trial)
            self._study.tell(self._asked, trial.losses[-1])
        else:
            self._study.tell(self._asked, state=self._states.PRUNED)


# FLAML's space of LightGBM, and the cheap values that it begins with: Wang C, et al. FLAML: a fast and lightweight AutoML
# library. MLSys 2021, table 5. Its upper end of trees and leaves is that of the paper.
FLAML_SPACE: Final[Space] = {
    "n_estimators": Range(4, 32768),
    "num_leaves": Range(4, 32768),
    "min_child_samples": Range(2, 128),
    "learning_rate": Range(1 / 1024, 1.0),
    "log_max_bin": Range(3, 10),
    "colsample_bytree": Range(0.01, 1.0),
    "reg_alpha": Range(1 / 1024, 1024.0),
    "reg_lambda": Range(1 / 1024, 1024.0),
}
_FLAML_START: Final[Parameters] = {
    "n_estimators": 4, "num_leaves": 4, "min_child_samples": 20, "learning_rate": 0.1, "log_max_bin": 8,
    "colsample_bytree": 1.0, "reg_alpha": 1 / 1024, "reg_lambda": 1.0,
}  # fmt: skip


class FlamlSearcher:
    """FLAML's cost-frugal search of its own LightGBM space: the rival, which knows nothing of Vigil's defaults.

    Wu Q, Wang C, Huang S. Frugal optimization for cost-related hyperparameters. AAAI 2021. Its ``AutoML`` class, which also
    tries other learners, needs XGBoost, and is not used. Trials are fitted on all folds: it has no pruning by folds.
    """

    def __init__(self, former: Sequence[Trial], seed: int) -> None:
        """Take the trials of an earlier search as its own."""
        require_library(FLAML)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that XGBoost is missing
            import flaml
            from flaml import tune
        logging.getLogger("flaml").setLevel(logging.ERROR)

        known = [trial for trial in former if trial.is_complete]
        space = {
            name: (tune.lograndint if own.is_integer else tune.loguniform)(own.low, own.high)
            for name, own in FLAML_SPACE.items()
        }
        self._search = flaml.CFO(
            metric="log_loss",
            mode="min",
            space=space,
            low_cost_partial_config={name: _FLAML_START[name] for name in ("n_estimators", "num_leaves")},
            points_to_evaluate=[trial.parameters for trial in known] or [_FLAML_START],
            evaluated_rewards=[trial.losses[-1] for trial in known],
            seed=seed + len(former),
        )
        self._asked = len(former)

    def ask(self) -> Parameters | None:
        """Return the next settings to try; None: the search has nothing new to propose."""
        for _ in range(100):  # it skips what it has tried
            self._asked += 1
            proposed = self._search.suggest(str(self._asked))
            if proposed is not None:
                return {name: int(value) if FLAML_SPACE[name].is_integer else float(value) for name, value in proposed.items()}
        return None

    def is_hopeless(self, trial: Trial) -> bool:  # noqa: ARG002 - the protocol's
        """Return False: every trial is fitted on all folds."""
        return False

    def tell(self, trial: Trial) -> None:
        """Learn from a trial that has ended."""
        loss = trial.losses[-1] if trial.is_complete else math.inf
        self._search.on_trial_complete(
            str(self._asked), {"log_loss": loss, "config": trial.parameters, "time_total_s": trial.seconds}
        )


def build_flaml_model(model: RiskModel, parameters: Parameters) -> RiskModel:
    """Return LightGBM as FLAML sets it, cross-fitted and calibrated as every model of Vigil is.

    Args:
        model: an unfitted default model, for its features, its draw of rows and its seed.
        parameters: of :data:`FLAML_SPACE`.
    """
    others = {name: value for name, value in parameters.items() if name != "log_max_bin"}
    bins = (1 << parameters["log_max_bin"]) - 1
    learner = lightgbm.LGBMClassifier(**others, max_bin=bins, n_jobs=1, deterministic=True, force_col_wise=True, verbosity=-1)
    return RiskModel(learner, model.features, max_negatives=model.max_negatives, seed=model.seed)


def _distribution(own: Range) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if own.is_integer:
        return IntDistribution(int(own.low), int(own.high), log=own.log)
    return FloatDistribution(own.low, own.high, log=own.log)
