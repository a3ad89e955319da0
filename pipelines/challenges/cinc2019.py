"""Challenge 2019: sepsis six hours ahead. Trained on one hospital, scored on every hour of every stay of another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from features.catalogue import SERVICES
from models.alarms.budget import against_rule, summary
from models.alarms.timeline import Watch, count_where
from models.assessment import net_of
from models.cohort import LABELLED, folds
from models.evaluation import judge
from models.evaluation.challenges import Utility
from models.evaluation.comparison import RULES
from models.evaluation.safety import emergencies
from models.seeds import SEED
from models.statistics.bootstrap import Resamples, percentile
from models.tasks import TASKS
from models.training.candidate_models import AS_MEASURED, variants
from models.training.measurement_augmentation import Augmented
from models.training.risk_model import RiskModel
from pipelines.challenges import Benchmark, BenchmarkError, predictions
from pipelines.challenges.frames import read, read_augmented
from pipelines.jobs.train import fit
from pipelines.progress import track, working
from pipelines.sources.cinc2019 import Cinc2019

OUTER_FOLDS: Final = 5
_SERVICE: Final = TASKS["sepsis"].feature_service
_PARTS: Final = ("physiology", "workflow")

Models = Mapping[str, RiskModel]
Scored = pd.DataFrame
"""Of the test rows: ``probability``; ``alarm``, where it reaches the threshold of utility that was frozen before; ``high`` and
``medium``, the thresholds of the product's bands, frozen likewise."""


def cinc2019(train: Path, test: Path | None, only: str | None = None) -> Benchmark:
    """Train on one set and score another; without another, five-fold by patient within the one.

    Thresholds are those of highest utility on the out-of-fold risks of the patients trained on. What physiology and workflow
    are worth alone the five-fold division tells; a test set is spared the two, which would take a third of the time.

    Args:
        train, test: the sets.
        only: the one model to fit and score; None: all of them.

    Raises:
        BenchmarkError: there is no such model.
    """
    models = variants(SERVICES[_SERVICE], hourly=True, seed=SEED)
    if only is not None and only not in models:
        raise BenchmarkError(f"--only {only}: no such model; choose one of {', '.join(models)}")
    spared = _PARTS if test else ()
    chosen = {name: model for name, model in models.items() if (name == only if only else name not in spared)}
    training, augmented = read_augmented(Cinc2019(train), SERVICES[_SERVICE], "training set")
    stays = int(training["subject_id"].nunique())
    if test is None:
        testing, answers = training, _nested(chosen, training, augmented)
    else:
        fitted = _fitted(chosen, training, augmented)
        del training, augmented  # a test set takes as much room
        testing = read(Cinc2019(test), SERVICES[_SERVICE], "test set")
        answers = _answers(fitted, testing)
    metrics, scored = {}, {}
    for name, answer in track(answers.items(), "figures", len(answers)):
        scored[name] = pd.concat([testing[LABELLED], answer], axis=1)
        metrics[name] = figures(scored[name]) | beside_news2(scored[name], testing["news2"].to_numpy(np.float64))
        metrics[name] |= with_the_net(scored[name].assign(**net_of(testing)))
    about = {
        "protocol": "cinc2019",
        "division": "train and test" if test else f"{OUTER_FOLDS}-fold by patient",
        "feature_service": _SERVICE,
        "chosen": "members, calibration and threshold on the training patients of each fold; settings beforehand, on set A",
        "seed": SEED,
        "training_stays": stays,
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
    sounded = summary(count_where(scored, alarm), seed=SEED)
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


def with_the_net(scored: pd.DataFrame) -> dict[str, float]:
    """Alarms of the model, of the safety net and of both, and hours in which NEWS2 asks for an emergency response.

    Args:
        scored: as above, with ``high, medium`` and what the safety net sees (:func:`models.assessment.net_of`).

    Returns:
        ``model_, net_, both_`` with the figures of :func:`summary`; ``emergency_`` with those of :func:`emergencies`.
    """
    # Each fold has thresholds of its own, so risks are counted in units of them.
    watch = Watch.of(scored.assign(probability=scored["probability"] / scored["high"]))
    medium = Watch.of(scored.assign(probability=scored["medium"] / scored["high"])).probability
    found = {
        f"{name}_{what}": value
        for name, part in watch.parts().items()
        for what, value in summary(part.count(1.0), seed=SEED).items()
    }
    return found | {f"emergency_{what}": float(value) for what, value in emergencies(watch, medium, 1.0).items()}


def _nested(models: Models, training: pd.DataFrame, augmented: Sequence[Augmented]) -> dict[str, Scored]:
    """Five-fold: each fold's patients, scored by models of the others."""
    fold = folds(training["subject_id"], training["label"].to_numpy() == 1, OUTER_FOLDS, seed=SEED)
    found: dict[str, list[Scored]] = {name: [] for name in models}
    for left_out in range(OUTER_FOLDS):
        unseen = fold == left_out
        ways, seen, others = [way.among(~unseen) for way in augmented], training[~unseen], training[unseen]
        fitted = _fitted(models, seen, ways, f", fold {left_out + 1}")
        for name, answers in _answers(fitted, others).items():
            found[name].append(answers)
    return {name: pd.concat(parts).sort_index() for name, parts in found.items()}


def _fitted(
    models: Models, training: pd.DataFrame, augmented: Sequence[Augmented], where: str = ""
) -> dict[str, tuple[RiskModel, float]]:
    """Fit each model, and freeze its threshold of utility on the patients trained on."""
    found, utility = {}, Utility.of(training["label"].to_numpy(np.float64), training["subject_id"])
    for name, unfitted in models.items():
        model = clone(unfitted)
        with working(f"fit {name}{where}"):
            risk = fit(model, training, TASKS["sepsis"], () if name in AS_MEASURED else augmented)
            found[name] = model, utility.threshold(risk)
    return found


def _answers(fitted: Mapping[str, tuple[RiskModel, float]], testing: pd.DataFrame) -> dict[str, Scored]:
    """Score others by thresholds that were frozen before."""
    found = {}
    for name, (model, threshold) in track(fitted.items(), "score", len(fitted)):
        probability = model.risk(testing)
        columns = {"probability": probability, "alarm": probability >= threshold, **model.thresholds_}
        found[name] = pd.DataFrame(columns, index=testing.index)
    return found
