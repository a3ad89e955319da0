"""Challenge 2019: sepsis six hours ahead. Models are trained on one hospital and scored on every hour of another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from vigil.features.catalogue import SERVICES
from vigil.models.alarms.budget import compare_with_rule, summarise_alarms
from vigil.models.alarms.timeline import AlarmTimeline, count_alarms_where
from vigil.models.assessment import safety_net_scores
from vigil.models.cohort import LABEL_COLUMNS, assign_folds
from vigil.models.evaluation import evaluate_predictions
from vigil.models.evaluation.challenges import Utility
from vigil.models.evaluation.comparison import RULES
from vigil.models.evaluation.safety import count_emergencies
from vigil.models.seeds import SEED
from vigil.models.statistics.bootstrap import Resamples, percentile_interval
from vigil.models.tasks import TASKS
from vigil.models.training.candidate_models import candidates
from vigil.models.training.measurement_augmentation import Augmented
from vigil.models.training.risk_model import RiskModel
from vigil.pipelines.challenges import Benchmark, BenchmarkError, to_predictions
from vigil.pipelines.challenges.frames import read_augmented, read_frame
from vigil.pipelines.jobs.train import fit_all
from vigil.pipelines.progress import track
from vigil.pipelines.sources.cinc2019 import Cinc2019

OUTER_FOLDS: Final = 5
_SERVICE: Final = TASKS["sepsis"].feature_service
_PARTIAL_MODELS: Final = ("physiology", "workflow")

Models = Mapping[str, RiskModel]
Scored = pd.DataFrame
"""Columns of the test rows: ``probability``; ``alarm``, True where it reaches the utility threshold of the training patients;
``high`` and ``medium``, the thresholds of Vigil's bands, also from the training patients."""


def cinc2019(train: Path, test: Path | None, only: str | None = None) -> Benchmark:
    """Run the 2019 challenge: train on one set and score another, or score one set by five-fold cross-validation by patient.

    Thresholds are those of highest utility on the out-of-fold risks of the training patients. The models of physiology alone
    and of workflow alone are fitted in cross-validation only. With a test set they would take a third of the time.

    Args:
        train: path of the training set.
        test: path of the test set; None for cross-validation.
        only: the one model to fit and score; None for all.

    Raises:
        BenchmarkError: there is no such model.
    """
    models = candidates(SERVICES[_SERVICE], hourly=True, seed=SEED)
    if only is not None and only not in models:
        raise BenchmarkError(f"--only {only}: no such model; choose one of {', '.join(models)}")
    skipped = _PARTIAL_MODELS if test else ()
    chosen = {name: model for name, model in models.items() if (name == only if only else name not in skipped)}
    training, augmented = read_augmented(Cinc2019(train), SERVICES[_SERVICE], "training set")
    stays = int(training["subject_id"].nunique())
    if test is None:
        testing, answers = training, _cross_validate(chosen, training, augmented)
    else:
        fitted = _fit_all(chosen, training, augmented)
        del training, augmented  # a test set takes as much memory
        testing = read_frame(Cinc2019(test), SERVICES[_SERVICE], "test set")
        answers = _score_all(fitted, testing)
    metrics, scored = {}, {}
    for name, answer in track(answers.items(), "figures", len(answers)):
        scored[name] = pd.concat([testing[LABEL_COLUMNS], answer], axis=1)
        metrics[name] = compute_figures(scored[name]) | compare_news2(scored[name], testing["news2"].to_numpy(np.float64))
        metrics[name] |= count_safety_net_alarms(scored[name].assign(**safety_net_scores(testing)))
    facts = {
        "protocol": "cinc2019",
        "division": "train and test" if test else f"{OUTER_FOLDS}-fold by patient",
        "feature_service": _SERVICE,
        "chosen": "members, calibration and threshold on the training patients of each fold; settings beforehand, on set A",
        "seed": SEED,
        "training_stays": stays,
        "test_stays": int(testing["subject_id"].nunique()),
    }
    return Benchmark(metrics, to_predictions(scored), facts)


def compute_figures(scored: pd.DataFrame) -> dict[str, float]:
    """Return the protocol's figures with intervals: those of every evaluation, and the official utility.

    Args:
        scored: ``subject_id, index_time, onset, onset_known, label, probability, alarm``, every hour of every stay.
    """
    alarm = scored["alarm"].to_numpy(bool)
    utility = Utility.from_labels(scored["label"].to_numpy(np.float64), scored["subject_id"])
    low, high = percentile_interval(utility.draws(alarm, Resamples.draw(scored["subject_id"], SEED)))
    judged = evaluate_predictions(scored, np.inf, seed=SEED).metrics
    # Each fold has its own threshold, so alarms are counted where they sounded.
    alarms = summarise_alarms(count_alarms_where(scored, alarm), seed=SEED)
    return {"utility": utility.normalised(alarm), "utility_low": low, "utility_high": high, **judged, **alarms}


def compare_news2(scored: pd.DataFrame, news2: NDArray[np.float64]) -> dict[str, float]:
    """Return the recall at the alarm rate of each NEWS2 rule, and the share of its alarms at its recall.

    Both are those of :func:`compare_with_rule`.

    Args:
        scored: as :func:`compute_figures` takes it.
        news2: of the same rows, with vital signs carried forward and a missing component counted as 0.
    """
    by_model, by_news2 = AlarmTimeline.from_frame(scored), AlarmTimeline.from_frame(scored.assign(probability=news2))
    figures = {}
    for points in RULES.values():
        compared = compare_with_rule(by_model, by_news2, points, seed=SEED)
        for side in ("", "_low", "_high"):
            figures[f"recall_at_alarms_of_news2_{points}{side}"] = compared[f"recall_at_same_alarms{side}"]
            figures[f"share_of_alarms_at_recall_of_news2_{points}{side}"] = compared[f"share_of_alarms_at_same_recall{side}"]
    return figures


def count_safety_net_alarms(scored: pd.DataFrame) -> dict[str, float]:
    """Return the alarms of the model, of the safety net and of both, and the hours with an emergency by NEWS2.

    Args:
        scored: as :func:`compute_figures` takes it, with ``high, medium`` and the columns of
            :func:`vigil.models.assessment.safety_net_scores`.

    Returns:
        The figures of :func:`summarise_alarms` with the prefixes ``model_, net_, both_``, and those of
        :func:`count_emergencies` with ``emergency_``.
    """
    # Each fold has its own thresholds, so risks are expressed in units of them.
    watch = AlarmTimeline.from_frame(scored.assign(probability=scored["probability"] / scored["high"]))
    medium = AlarmTimeline.from_frame(scored.assign(probability=scored["medium"] / scored["high"])).probability
    figures = {
        f"{name}_{figure}": value
        for name, part in watch.parts().items()
        for figure, value in summarise_alarms(part.count(1.0), seed=SEED).items()
    }
    return figures | {f"emergency_{name}": float(value) for name, value in count_emergencies(watch, medium, 1.0).items()}


def _cross_validate(models: Models, training: pd.DataFrame, augmented: Sequence[Augmented]) -> dict[str, Scored]:
    """Score the patients of each of five folds by models of the other folds."""
    fold = assign_folds(training["subject_id"], training["label"].to_numpy() == 1, OUTER_FOLDS, seed=SEED)
    scored: dict[str, list[Scored]] = {name: [] for name in models}
    for left_out in range(OUTER_FOLDS):
        unseen = fold == left_out
        augmented_seen = [way.select(~unseen) for way in augmented]
        seen, others = training[~unseen], training[unseen]
        fitted = _fit_all(models, seen, augmented_seen, f"fold {left_out + 1}: fit")
        for name, answers in _score_all(fitted, others).items():
            scored[name].append(answers)
    return {name: pd.concat(parts).sort_index() for name, parts in scored.items()}


def _fit_all(
    models: Models, training: pd.DataFrame, augmented: Sequence[Augmented], title: str = "fit"
) -> dict[str, tuple[RiskModel, float]]:
    """Fit each model, and choose its utility threshold on the training patients."""
    fitted = {name: clone(unfitted) for name, unfitted in models.items()}
    utility = Utility.from_labels(training["label"].to_numpy(np.float64), training["subject_id"])
    risks = fit_all(fitted, training, TASKS["sepsis"], augmented, title)
    return {name: (model, utility.threshold(risks[name])) for name, model in fitted.items()}


def _score_all(fitted: Mapping[str, tuple[RiskModel, float]], testing: pd.DataFrame) -> dict[str, Scored]:
    """Score other patients, with the thresholds of the training patients."""
    scored = {}
    for name, (model, threshold) in track(fitted.items(), "score", len(fitted)):
        probability = model.risk(testing)
        columns = {"probability": probability, "alarm": probability >= threshold, **model.thresholds_}
        scored[name] = pd.DataFrame(columns, index=testing.index)
    return scored
