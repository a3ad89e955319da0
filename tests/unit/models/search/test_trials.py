"""Trials: their loss is that of the model's own out-of-fold risks, and they end by searcher or budget after any fold."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from vigil.models.search.leaderboard import build_leaderboard
from vigil.models.search.trials import FOLDS, SearchRows, calibrated_loss, losses, run_trials
from vigil.models.statistics.bootstrap import Resamples
from vigil.models.training.risk_model import RiskModel


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"x": generator.normal(size=1000), "subject_id": [f"p{row // 4}" for row in range(1000)]})
    label = (generator.random(1000) < 1 / (1 + np.exp(2 - frame["x"]))).astype(float)
    return SearchRows(frame.assign(label=np.where(np.arange(1000) % 9 == 0, np.nan, label)))


class Slow(LogisticRegression):
    """A learner that takes its time."""

    def fit(self, X, y):
        time.sleep(0.3)
        return super().fit(X, y)


class Scripted:
    """A searcher that proposes what it was given, and ends the trials that it was told to, after a fold."""

    def __init__(self, proposals, hopeless_after=None):
        self.proposals, self.hopeless_after, self.told = list(proposals), hopeless_after or {}, []

    def ask(self):
        return {"C": self.proposals.pop(0)} if self.proposals else None

    def is_hopeless(self, trial):
        return len(trial.losses) == self.hopeless_after.get(trial.parameters["C"])

    def tell(self, trial):
        self.told.append((trial.parameters["C"], trial.state, len(trial.losses)))


def run(searcher, rows, seconds, *, finish_first=False, learner=LogisticRegression):
    """Return the trials that ended, and what was recorded of all."""
    recorded = []

    def begin(_):
        return lambda trial: recorded.append((trial.parameters["C"], trial.state, len(trial.losses)))

    def build(parameters):
        return RiskModel(learner(**parameters), ["x"], folds=3, repeats=2, seed=1)

    return run_trials(searcher, build, rows, seconds, begin, finish_first=finish_first), recorded


def test_losses_are_those_of_scikit_learn():
    label, risk = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.1, 0.8, 0.3, 0.6])
    assert losses(label, risk).mean() == pytest.approx(log_loss(label, risk))


def test_calibrated_loss_is_the_least_that_a_line_in_log_odds_reaches():
    generator = np.random.default_rng(1)
    margin = generator.normal(size=500)
    label = (generator.random(500) < 1 / (1 + np.exp(3 - 2 * margin))).astype(float)

    def loss(line):
        return log_loss(label, 1 / (1 + np.exp(-(line[0] + line[1] * margin))))

    assert calibrated_loss(label, margin) == pytest.approx(minimize(loss, [0.0, 1.0]).fun, abs=1e-7)


def test_loss_of_a_complete_trial_is_that_of_the_out_of_fold_risks_of_the_model(rows):
    (trial,), _ = run(Scripted([0.5]), rows, 60)
    risk = RiskModel(LogisticRegression(C=0.5), ["x"], folds=FOLDS, seed=1).cross_fit(
        rows.frame, rows.label, rows.frame["subject_id"]
    )
    known = ~np.isnan(rows.label)
    assert (trial.state, len(trial.losses)) == ("complete", FOLDS)
    assert trial.losses[-1] == pytest.approx(log_loss(rows.label[known], risk[known]))


def test_hopeless_trial_ends_after_its_fold_and_the_next_begins(rows):
    searcher = Scripted([1.0, 0.1, 0.2], {0.1: 2})
    ended, recorded = run(searcher, rows, 60)
    assert searcher.told == [(1.0, "complete", 5), (0.1, "pruned", 2), (0.2, "complete", 5)]
    assert [trial.state for trial in ended] == ["complete", "pruned", "complete"]
    assert [one for one in recorded if one[0] == 0.1] == [(0.1, "running", 1), (0.1, "pruned", 2)]


def test_budget_is_kept_to_within_a_fold(rows):
    searcher = Scripted([1.0, 0.1])
    started = time.monotonic()
    ended, recorded = run(searcher, rows, 0.2, learner=Slow)
    assert time.monotonic() - started < 1.2  # a trial takes 0.75 s or more on two cores, and 1.5 s on one
    assert (ended, searcher.told) == ([], [])
    assert recorded[-1][1] == "interrupted"
    assert recorded[-1][2] < FOLDS


def test_first_trial_is_finished_however_short_the_budget(rows):
    ended, _ = run(Scripted([1.0, 0.1]), rows, 0, finish_first=True)
    assert [(trial.parameters["C"], trial.state) for trial in ended] == [(1.0, "complete")]
    assert run(Scripted([1.0]), rows, 0)[0] == []


def test_leaderboard_has_paired_intervals_of_a_bootstrap_written_out():
    generator = np.random.default_rng(2)
    frame = pd.DataFrame({"subject_id": [f"p{row // 3}" for row in range(120)]})
    frame["label"] = np.where(np.arange(120) % 10 == 0, np.nan, generator.random(120) < 0.3)
    good = np.where(frame["label"] == 1, 0.6, 0.2) + generator.normal(0, 0.05, 120)
    risks = {"default": np.full(120, 0.3), "same": np.full(120, 0.3), "good": good}
    board = build_leaderboard((frame, risks), (frame, risks), "default", seed=4)
    assert board.index.tolist() == ["good", "default", "same"]
    known = frame["label"].notna()
    label, subject = frame.loc[known, "label"].astype(float), frame.loc[known, "subject_id"]
    gains = []
    for times in Resamples.draw(subject, 4).times:
        drawn = np.repeat(np.arange(known.sum()), times[pd.factorize(subject)[0]])
        two = (log_loss(label.iloc[drawn], risk[known][drawn], labels=[0, 1]) for risk in (risks["default"], good))
        gains.append(next(two) - next(two))
    assert board.loc["good", ["gain_log_loss_low", "gain_log_loss_high"]].tolist() == pytest.approx(
        np.percentile(gains, [2.5, 97.5]).tolist()
    )
    assert board.loc["same", ["gain_log_loss", "gain_log_loss_low", "gain_log_loss_high"]].tolist() == [0, 0, 0]
    assert board.loc["good", "folds_auprc"] == board.loc["good", "auprc"]
