"""Evaluation of risk models on patients that training has not seen.

Each module answers one question. :func:`evaluate_predictions` computes the metrics that every model has.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vigil.models.alarms.timeline import build_timeline
from vigil.models.evaluation.calibration import measure_calibration, resample_calibration
from vigil.models.evaluation.discrimination import measure_discrimination, resample_discrimination
from vigil.models.evaluation.net_benefit import net_benefit, resample_net_benefit
from vigil.models.statistics.bootstrap import Float64, Resamples, basic_interval, percentile_bounds
from vigil.models.training.members import TooFewEventsError


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one model, with their bootstrap resamples.

    Attributes:
        metrics: metric -> value. The 95 % interval is ``<metric>_low`` and ``<metric>_high``.
        draws: metric -> its value in each resample, shape (RESAMPLES,). Two models evaluated on the same rows with the same
            seed share their resamples, so the interval of their difference can be computed.
    """

    metrics: dict[str, float]
    draws: dict[str, Float64]


def evaluate_predictions(frame: pd.DataFrame, threshold: float, *, seed: int) -> Evaluation:
    """Evaluate one model on patients that its training has not seen.

    ``net_benefit`` is measured at a threshold probability equal to the prevalence. There, treating all patients and treating
    none are both worth 0. Alarm metrics are NaN for tasks with one prediction per stay.

    Args:
        frame: one row per index time, with ``subject_id, index_time, onset, onset_known, probability, label``. A missing
            ``label`` means that the task excludes the index time; such rows count for alarms only.
        threshold: the frozen alarm threshold, a probability.
        seed: seed of the bootstrap.

    Raises:
        TooFewEventsError: the labels hold one class only.
    """
    labelled = frame[frame["label"].notna()]
    if labelled["label"].nunique() < 2:
        raise TooFewEventsError(
            f"labels: the {labelled['subject_id'].nunique()} patients to judge on hold {labelled['label'].nunique()} of the "
            "2 classes of outcome; expected both; use a larger cohort"
        )
    label, probability = labelled["label"].to_numpy(float), labelled["probability"].to_numpy(float)
    resamples = Resamples.draw(labelled["subject_id"], seed)
    prevalence = float(np.mean(label))
    count = build_timeline(frame).count(threshold)
    estimates = {
        **measure_discrimination(label, probability),
        **measure_calibration(label, probability),
        "net_benefit": net_benefit(label, probability >= prevalence, prevalence),
        **count.figures(),
    }
    draws = {
        **resample_discrimination(label, probability, resamples),
        **resample_calibration(label, probability, resamples),
        "net_benefit": resample_net_benefit(label, probability, np.array([prevalence]), resamples)[:, 0],
    }
    alarm_draws = count.draws(count.resamples(seed))
    ece_low, ece_high = basic_interval(estimates["ece"], draws["ece"])
    metrics = {
        **estimates,
        **percentile_bounds(draws),
        **count.bounds(alarm_draws),
        "ece_low": ece_low,
        "ece_high": ece_high,
        "patients": float(labelled["subject_id"].nunique()),
        "index_times": float(len(labelled)),
        "events": float(labelled.loc[labelled["label"] == 1, "subject_id"].nunique()),
        "patient_days": float(count.days.sum()),
    }
    return Evaluation(metrics, draws | alarm_draws)
