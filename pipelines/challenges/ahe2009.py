"""Challenge 2009: an acute hypotensive episode in the next hour, from ten hours of one-minute mean arterial pressure."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from vigil.features.catalogue import SERVICES
from vigil.models.evaluation.discrimination import resample_discrimination
from vigil.models.seeds import SEED
from vigil.models.statistics.bootstrap import Resamples, percentile_interval
from vigil.models.statistics.proportions import clopper_pearson
from vigil.models.tasks import TASKS
from vigil.models.training.candidate_models import DEFAULT, small_cohort_model
from vigil.pipelines.challenges import Benchmark, to_predictions
from vigil.pipelines.challenges.frames import read_frame
from vigil.pipelines.progress import timed_step
from vigil.pipelines.sources.ahe2009 import Ahe2009

TEST_SETS: Final = ("testA", "testB")
THRESHOLD: Final = 0.5  # the challenge counts correct answers; half of the training records have an episode
_SERVICE: Final = TASKS["hypotension"].feature_service


def ahe2009(train: Path, test: Path | None) -> Benchmark:
    """Run the 2009 challenge: train on the training records, and answer for each record of the test sets.

    The model ``all_signals`` uses the mean pressure over all windows. ``mean_pressure`` uses that of the last hour alone.

    Args:
        train: folder of the training records.
        test: folder of the test sets; None if they are in the same folder.
    """
    training = read_frame(Ahe2009(train, "train"), SERVICES[_SERVICE], "training records")
    models = {
        DEFAULT: small_cohort_model([name for name in SERVICES[_SERVICE] if training[name].notna().any()], seed=SEED),
        "mean_pressure": small_cohort_model(["mean_bp_mean_1h"], seed=SEED),
    }
    for name, model in models.items():
        with timed_step(f"fit {name}"):
            model.fit(training, training["label"], training["subject_id"])
    metrics: dict[str, dict[str, float]] = {name: {} for name in models}
    scored: dict[str, list[pd.DataFrame]] = {name: [] for name in models}
    for split in TEST_SETS:
        records = read_frame(Ahe2009(test or train, split), SERVICES[_SERVICE], split)
        for name, model in models.items():
            risk = model.risk(records)
            scored[name].append(records[["subject_id", "index_time"]].assign(probability=risk, alarm=risk >= THRESHOLD))
            metrics[name] |= compute_figures(split, records, risk)
    facts = {"protocol": "ahe2009", "feature_service": _SERVICE, "seed": SEED, "training_records": len(training)}
    return Benchmark(metrics, to_predictions({name: pd.concat(parts) for name, parts in scored.items()}), facts)


def compute_figures(split: str, records: pd.DataFrame, risk: np.ndarray) -> dict[str, float]:
    """Return the number of correct answers, its exact limits, and the AUROC of one test set, each named ``<split>_<figure>``.

    ``correct_when_told`` is the figure that published entries report. They knew roughly how many records of a set have an
    episode, and named those of highest risk. It needs the set as a whole, so it does not describe the alarm of one patient.
    """
    label = records["label"].to_numpy(np.float64)
    correct = int(((risk >= THRESHOLD) == label).sum())
    highest = np.zeros(len(label))
    highest[np.argsort(-risk, kind="stable")[: int(label.sum())]] = 1
    low, high = clopper_pearson(correct, len(records))
    auroc_low, auroc_high = percentile_interval(
        resample_discrimination(label, risk, Resamples.draw(records["subject_id"], SEED))["auroc"]
    )
    figures = {
        "correct": correct,
        "correct_when_told": int((highest == label).sum()),
        "records": len(records),
        "accuracy": correct / len(records),
        "accuracy_low": low,
        "accuracy_high": high,
        "auroc": float(roc_auc_score(label, risk)),
        "auroc_low": auroc_low,
        "auroc_high": auroc_high,
    }
    return {f"{split}_{name}": float(value) for name, value in figures.items()}
