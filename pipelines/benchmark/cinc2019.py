"""Challenge 2019: sepsis six hours ahead. Trained on one hospital, scored on every hour of every stay of another."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import SERVICES
from models.cohort import LABELLED, folds
from models.evaluation import judge
from models.evaluation.alarm_budget import against_rule, summary
from models.evaluation.alarms import Watch
from models.evaluation.bootstrap import Resamples, percentile
from models.evaluation.challenges import Utility
from models.evaluation.comparison import RULES
from models.risk_model import RiskModel
from models.tasks import TASKS
from models.variants import variants
from pipelines.benchmark import Benchmark, predictions
from pipelines.benchmark.frames import read, read_twice
from pipelines.progress import working
from pipelines.sources.cinc2019 import Cinc2019
from pipelines.train import SEED

OUTER_FOLDS: Final = 5
_SERVICE: Final = TASKS["sepsis"].feature_service
_PARTS: Final = ("physiology", "workflow")

Scored = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Probabilities of the test rows, and where they reach the threshold that was frozen before."""


def cinc2019(train: Path, test: Path | None) -> Benchmark:
    """Train on one set and score another; without another, five-fold by patient within the one.

    Thresholds are those of highest utility on the out-of-fold risks of the patients trained on. What physiology and workflow
    are worth alone the five-fold division tells; a test set is spared the two, which would take a third of the time.
    """
    training, elsewhere = read_twice(Cinc2019(train), SERVICES[_SERVICE], "training set")
    testing = read(Cinc2019(test), SERVICES[_SERVICE], "test set") if test else training
    score = _one_fit if test else _nested
    models = variants(SERVICES[_SERVICE], hourly=True, seed=SEED)
    metrics, scored = {}, {}
    for name, model in models.items():
        if test and name in _PARTS:
            continue
        with working(f"fit and score {name}"):
            probability, alarm = score(model, training, elsewhere, testing)
        scored[name] = testing[LABELLED].assign(probability=probability, alarm=alarm)
        metrics[name] = figures(scored[name]) | beside_news2(scored[name], testing["news2"].to_numpy(np.float64))
    about = {
        "protocol": "cinc2019",
        "division": "train and test" if test else f"{OUTER_FOLDS}-fold by patient",
        "feature_service": _SERVICE,
        "chosen": "members, calibration and threshold on the training patients of each fold; settings beforehand, on set A",
        "seed": SEED,
        "training_stays": int(training["subject_id"].nunique()),
        "test_stays": int(testing["subject_id"].nunique()),
    }
    return Benchmark(metrics, predictions(scored), about)


def figures(scored: pd.DataFrame) -> dict[str, float]:
    """The protocol's figures with intervals: those of every evaluation, and the official utility.

    Args:
        scored: ``subject_id, index_time, onset, onset_known, label, probability, alarm``, every hour of every stay.
    """
    alarm = scored["alarm"].to_numpy(bool)
    utility = Utility.of(scored["label"].to_numpy(np.float64), scored["subject_id"])
    low, high = percentile(utility.draws(alarm, Resamples.of(scored["subject_id"], SEED)))
    judged = judge(scored, np.inf, seed=SEED).metrics
    # Each fold has a threshold of its own, so alarms are counted where they sounded.
    sounded = summary(Watch.of(scored.assign(probability=alarm.astype(np.float64))).count(1.0), seed=SEED)
    return {"utility": utility.normalised(alarm), "utility_low": low, "utility_high": high, **judged, **sounded}


def beside_news2(scored: pd.DataFrame, news2: NDArray[np.float64]) -> dict[str, float]:
    """Recall with the alarms of each NEWS2 rule, and share of its alarms with its recall (:func:`against_rule`).

    Args:
        scored: as above.
        news2: of the same rows, vital signs carried forward, a missing part counting 0.
    """
    ours, theirs = Watch.of(scored), Watch.of(scored.assign(probability=news2))
    found = {}
    for points in RULES.values():
        compared = against_rule(ours, theirs, points, seed=SEED)
        for side in ("", "_low", "_high"):
            found[f"recall_at_alarms_of_news2_{points}{side}"] = compared[f"recall_at_same_alarms{side}"]
            found[f"share_of_alarms_at_recall_of_news2_{points}{side}"] = compared[f"share_of_alarms_at_same_recall{side}"]
    return found


def _one_fit(model: RiskModel, training: pd.DataFrame, elsewhere: pd.DataFrame, testing: pd.DataFrame) -> Scored:
    threshold = _fit(model, training, elsewhere)
    probability = model.risk(testing)
    return probability, probability >= threshold


def _nested(model: RiskModel, training: pd.DataFrame, elsewhere: pd.DataFrame, _: pd.DataFrame) -> Scored:
    fold = folds(training["subject_id"], training["label"].to_numpy() == 1, OUTER_FOLDS, seed=SEED)
    probability, alarm = np.empty(len(training)), np.empty(len(training), dtype=bool)
    for left_out in range(OUTER_FOLDS):
        unseen = fold == left_out
        threshold = _fit(model, training[~unseen], elsewhere[~unseen])
        probability[unseen] = model.risk(training[unseen])
        alarm[unseen] = probability[unseen] >= threshold
    return probability, alarm


def _fit(model: RiskModel, training: pd.DataFrame, elsewhere: pd.DataFrame) -> float:
    risk = model.cross_fit(training, training["label"], training["subject_id"], elsewhere)
    return Utility.of(training["label"].to_numpy(np.float64), training["subject_id"]).threshold(risk)
