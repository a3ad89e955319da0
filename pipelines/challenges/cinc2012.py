"""Challenge 2012: death in hospital, predicted from the first two days in the unit. Each stay is one row, at hour 48."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.catalogue import SERVICES
from vigil.models.cohort import LABEL_COLUMNS
from vigil.models.evaluation import evaluate_predictions
from vigil.models.evaluation.challenges import choose_event1_threshold, resample_events, score_event1, score_event2
from vigil.models.seeds import SEED
from vigil.models.statistics.bootstrap import Resamples, basic_interval, percentile_interval
from vigil.models.tasks import TASKS
from vigil.models.training.candidate_models import AS_MEASURED, candidates, score_model
from vigil.pipelines.challenges import Benchmark, BenchmarkError, to_predictions
from vigil.pipelines.challenges.frames import read_augmented, read_frame
from vigil.pipelines.progress import timed_step
from vigil.pipelines.sources.cinc2012 import Cinc2012

_SERVICE: Final = TASKS["mortality"].feature_service
_SEVERITY: Final = ("saps_i", "first_day_sofa")  # from the outcome files


def cinc2012(train: Path, test: Path | None) -> Benchmark:
    """Run the 2012 challenge: train on one set and score another, including stays without any observation.

    The threshold of each model is the one of highest Event 1 on the out-of-fold risks of the training stays.

    Args:
        train: path of the training set, such as set-a.tar.gz.
        test: path of the test set.

    Raises:
        BenchmarkError: the test set is missing.
    """
    if test is None:
        raise BenchmarkError(
            "--test is missing: cinc2012 is trained on one set and scored on another, such as set-b.tar.gz; name that set"
        )
    source, unseen = Cinc2012(train), Cinc2012(test)
    training, augmented = read_augmented(source, SERVICES[_SERVICE], "training set")
    training = _add_severity(training, source)
    testing = _add_severity(read_frame(unseen, SERVICES[_SERVICE], "test set"), unseen)
    models = candidates(SERVICES[_SERVICE], hourly=False, seed=SEED) | {
        name: score_model(name, hourly=False, seed=SEED) for name in _SEVERITY
    }
    metrics, scored = {}, {}
    for name, model in models.items():
        with timed_step(f"fit and score {name}"):
            learned_from = () if name in AS_MEASURED.union(_SEVERITY) else augmented
            risk = model.cross_fit(training, training["label"], training["subject_id"], learned_from)
            threshold = choose_event1_threshold(training["label"].to_numpy(np.float64), risk)
            probability = model.risk(testing)
        scored[name] = testing[LABEL_COLUMNS].assign(probability=probability, alarm=probability >= threshold)
        metrics[name] = compute_figures(scored[name], threshold)
    facts = {
        "protocol": "cinc2012",
        "feature_service": _SERVICE,
        "seed": SEED,
        "training_stays": len(training),
        "test_stays": len(testing),
    }
    return Benchmark(metrics, to_predictions(scored), facts)


def compute_figures(scored: pd.DataFrame, threshold: float) -> dict[str, float]:
    """Return the protocol's figures with intervals: those of every evaluation, Event 1 and Event 2.

    Args:
        scored: ``subject_id, index_time, onset, onset_known, label, probability, alarm``, one row for each stay.
        threshold: the threshold of ``alarm``.
    """
    label, probability = (scored[column].to_numpy(np.float64) for column in ("label", "probability"))
    alarm = scored["alarm"].to_numpy(bool)
    draws = resample_events(label, probability, alarm, Resamples.draw(scored["subject_id"], SEED))
    first, second = score_event1(label, alarm), score_event2(label, probability)
    first_low, first_high = percentile_interval(draws["event1"])
    second_low, second_high = basic_interval(second, draws["event2"])  # not percentile, since chance inflates a sum of squares
    return {
        "event1": first, "event1_low": first_low, "event1_high": first_high,
        "event2": second, "event2_low": second_low, "event2_high": second_high,
        **evaluate_predictions(scored, threshold, seed=SEED).metrics,
    }  # fmt: skip


def _add_severity(frame: pd.DataFrame, source: Cinc2012) -> pd.DataFrame:
    """Add the severity scores of the outcomes file. Its SOFA is that of the first day; the feature is that of hour 48."""
    return frame.merge(source.read_severity().rename(columns={"sofa": "first_day_sofa"}), on="subject_id", validate="1:1")
