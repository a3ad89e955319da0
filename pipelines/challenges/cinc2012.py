"""Challenge 2012: death in hospital from the first two days in the unit. One row a stay, at hour 48."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from features.catalogue import SERVICES
from models.cohort import LABELLED
from models.evaluation import judge
from models.evaluation.challenges import event1, event1_threshold, event2, event_draws
from models.seeds import SEED
from models.statistics.bootstrap import Resamples, basic, percentile
from models.tasks import TASKS
from models.training.candidate_models import AS_MEASURED, score_alone, variants
from pipelines.challenges import Benchmark, BenchmarkError, predictions
from pipelines.challenges.frames import read, read_augmented
from pipelines.progress import working
from pipelines.sources.cinc2012 import Cinc2012

_SERVICE: Final = TASKS["mortality"].feature_service
_SEVERITY: Final = ("saps_i", "first_day_sofa")  # as the outcome files give them


def cinc2012(train: Path, test: Path | None) -> Benchmark:
    """Train on one set and score another, stays without a series too.

    Thresholds are those of highest Event 1 on the out-of-fold risks of the stays trained on.
    """
    if test is None:
        raise BenchmarkError("--test is missing: cinc2012 is trained on one set and scored on another, such as set-b.tar.gz")
    source, unseen = Cinc2012(train), Cinc2012(test)
    training, augmented = read_augmented(source, SERVICES[_SERVICE], "training set")
    training = _with_severity(training, source)
    testing = _with_severity(read(unseen, SERVICES[_SERVICE], "test set"), unseen)
    models = variants(SERVICES[_SERVICE], hourly=False, seed=SEED) | {
        name: score_alone(name, hourly=False, seed=SEED) for name in _SEVERITY
    }
    metrics, scored = {}, {}
    for name, model in models.items():
        with working(f"fit and score {name}"):
            ways = () if name in AS_MEASURED.union(_SEVERITY) else augmented
            risk = model.cross_fit(training, training["label"], training["subject_id"], ways)
            threshold = event1_threshold(training["label"].to_numpy(np.float64), risk)
            probability = model.risk(testing)
        scored[name] = testing[LABELLED].assign(probability=probability, alarm=probability >= threshold)
        metrics[name] = figures(scored[name], threshold)
    about = {
        "protocol": "cinc2012",
        "feature_service": _SERVICE,
        "seed": SEED,
        "training_stays": len(training),
        "test_stays": len(testing),
    }
    return Benchmark(metrics, predictions(scored), about)


def figures(scored: pd.DataFrame, threshold: float) -> dict[str, float]:
    """The protocol's figures with intervals: those of every evaluation, Event 1 and Event 2.

    Args:
        scored: ``subject_id, index_time, onset, onset_known, label, probability, alarm``, one row a stay.
        threshold: that of ``alarm``.
    """
    label, probability = (scored[column].to_numpy(np.float64) for column in ("label", "probability"))
    alarm = scored["alarm"].to_numpy(bool)
    draws = event_draws(label, probability, alarm, Resamples.of(scored["subject_id"], SEED))
    first, second = event1(label, alarm), event2(label, probability)
    (low, high), (low2, high2) = percentile(draws["event1"]), basic(second, draws["event2"])  # chance inflates a sum of squares
    return {
        "event1": first, "event1_low": low, "event1_high": high,
        "event2": second, "event2_low": low2, "event2_high": high2,
        **judge(scored, threshold, seed=SEED).metrics,
    }  # fmt: skip


def _with_severity(frame: pd.DataFrame, source: Cinc2012) -> pd.DataFrame:
    """The scores of the outcomes file beside; its SOFA is of the first day, ours of hour 48."""
    return frame.merge(source.severity().rename(columns={"sofa": "first_day_sofa"}), on="subject_id", validate="1:1")
