"""Trials within a budget of minutes: each is cross-fitted on the same folds of patients, and may end after any of them."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from vigil.models.search.searchers import Searcher, Trial
from vigil.models.search.space import Parameters
from vigil.models.training.measurement_augmentation import Augmented
from vigil.models.training.risk_model import RiskModel, from_log_odds

Float64 = NDArray[np.float64]

FOLDS: Final = 5


@dataclass(frozen=True)
class SearchRows:
    """The rows that a search learns from.

    Attributes:
        frame: ``subject_id, label`` (NaN: not learned from) and the features.
        augmented: the rows as recorded in other ways.
    """

    frame: pd.DataFrame
    augmented: Sequence[Augmented] = ()

    @property
    def label(self) -> Float64:
        """The label of each row, shape (n_rows,)."""
        return self.frame["label"].to_numpy(np.float64)


class _EndedError(Exception):
    """A trial that has ended, by its state."""


def losses(label: Float64, risk: Float64) -> Float64:
    """Return the logarithmic loss of each risk in nats, shape (n_rows,).

    Good IJ. Rational decisions. J R Stat Soc B 1952;14:107-114. It is a proper score: the expectation of no other risk than the
    true one is lower. So it rewards ranking and calibration, and one fold's events are enough to compare settings by it.

    >>> losses(np.array([1.0, 0.0]), np.array([0.5, 0.5])).round(3).tolist()
    [0.693, 0.693]
    """
    return np.asarray(-np.where(label == 1, np.log(risk), np.log1p(-risk)))


def calibrated_loss(label: Float64, margin: Float64) -> float:
    """Return the mean log loss of log-odds after Platt's calibration, as every risk model calibrates its members."""
    calibrator = LogisticRegression(C=np.inf).fit(margin[:, None], label)
    risk = from_log_odds(margin * calibrator.coef_[0, 0] + calibrator.intercept_[0])
    return float(losses(label, np.clip(risk, 1e-15, 1 - 1e-15)).mean())


def run_trials(
    searcher: Searcher,
    build: Callable[[Parameters], RiskModel],
    rows: SearchRows,
    seconds: float,
    record: Callable[[Trial], Callable[[Trial], None]],
    *,
    finish_first: bool,
) -> list[Trial]:
    """Try settings until the time is over; return the trials that ended before, complete or pruned.

    Args:
        searcher: proposes the settings.
        build: returns an unfitted model with some settings.
        rows: to learn from.
        seconds: how long to search. A trial that is under way then is interrupted at the end of its fold.
        record: called with a trial that begins; returns what is called after each of its folds and when it ends.
        finish_first: finish the first trial, however long it takes.
    """
    ended: list[Trial] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or (finish_first and not ended):
        parameters = searcher.ask()
        if parameters is None:
            break
        trial = Trial(parameters)
        update = record(trial)
        _fit_folds(build(parameters), rows, trial, searcher, deadline if ended or not finish_first else np.inf, update)
        if trial.state != "interrupted":
            searcher.tell(trial)
            ended.append(trial)
    return ended


def _fit_folds(
    model: RiskModel, rows: SearchRows, trial: Trial, searcher: Searcher, deadline: float, update: Callable[[Trial], None]
) -> None:
    """Fit a model on the folds, and write the loss after each, and the state, into the trial."""
    model.folds, model.repeats = FOLDS, 1
    label, started = rows.label, time.monotonic()
    is_known = ~np.isnan(label)
    margin = np.full(len(label), np.nan)

    def after_fold(unseen: NDArray[np.int64], scores: Float64) -> None:
        margin[unseen] = scores
        is_scored = is_known & ~np.isnan(margin)
        trial.losses.append(calibrated_loss(label[is_scored], margin[is_scored]))
        trial.seconds = time.monotonic() - started
        if len(trial.losses) == FOLDS:
            trial.state = "complete"
        elif searcher.is_hopeless(trial):
            trial.state = "pruned"
        elif time.monotonic() >= deadline:
            trial.state = "interrupted"
        update(trial)
        if trial.state != "running":
            raise _EndedError  # also when it is complete: the calibration and the ranges of a whole model are not needed

    with contextlib.suppress(_EndedError):
        model.cross_fit(rows.frame, label, rows.frame["subject_id"], rows.augmented, after_fold)
