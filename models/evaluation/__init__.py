"""How good is a model? One file a question; :func:`judge` asks those that every model can be asked."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from models.alarms.timeline import watched
from models.evaluation.calibration import calibration, calibration_draws
from models.evaluation.discrimination import discrimination, discrimination_draws
from models.evaluation.net_benefit import net_benefit, net_benefit_draws
from models.statistics.bootstrap import Float64, Resamples, basic, bounds
from models.training.risk_model import TooFewEventsError


@dataclass(frozen=True)
class Judged:
    """What is known of one model.

    Attributes:
        metrics: metric -> value; intervals as ``<metric>_low`` and ``<metric>_high`` (95 %).
        draws: metric -> its values in the resamples, shape (RESAMPLES,). Those of two models judged on the same rows with the
            same seed belong together, so their differences have an interval too.
    """

    metrics: dict[str, float]
    draws: dict[str, Float64]


def judge(frame: pd.DataFrame, threshold: float, *, seed: int) -> Judged:
    """Judge one model on patients it has never seen.

    ``net_benefit`` is that at a threshold probability equal to the prevalence, where treating everybody and treating nobody are
    both worth nothing. Alarms are NaN where the question is asked once a stay.

    Args:
        frame: one row an index time, with ``subject_id, index_time, onset, onset_known, probability`` and ``label`` (missing
            where the task leaves the time out; such times count for alarms only).
        threshold: the frozen alarm threshold.
        seed: of the bootstrap.

    Raises:
        TooFewEventsError: no event, or nothing but events.
    """
    labelled = frame[frame["label"].notna()]
    if labelled["label"].nunique() < 2:
        raise TooFewEventsError(
            f"labels: the {labelled['subject_id'].nunique()} patients to judge on hold {labelled['label'].nunique()} of the "
            "2 classes of outcome; a larger cohort is needed"
        )
    label, probability = labelled["label"].to_numpy(float), labelled["probability"].to_numpy(float)
    resamples = Resamples.of(labelled["subject_id"], seed)
    prevalence = float(np.mean(label))
    count = watched(frame).count(threshold)
    estimates = {
        **discrimination(label, probability),
        **calibration(label, probability),
        "net_benefit": net_benefit(label, probability >= prevalence, prevalence),
        **count.figures(),
    }
    draws = {
        **discrimination_draws(label, probability, resamples),
        **calibration_draws(label, probability, resamples),
        "net_benefit": net_benefit_draws(label, probability, np.array([prevalence]), resamples)[:, 0],
    }
    alarm_draws = count.draws(count.resamples(seed))
    ece_low, ece_high = basic(estimates["ece"], draws["ece"])
    metrics = {
        **estimates,
        **bounds(draws),
        **count.bounds(alarm_draws),
        "ece_low": ece_low,
        "ece_high": ece_high,
        "patients": float(labelled["subject_id"].nunique()),
        "index_times": float(len(labelled)),
        "events": float(labelled.loc[labelled["label"] == 1, "subject_id"].nunique()),
        "patient_days": float(count.days.sum()),
    }
    return Judged(metrics, draws | alarm_draws)
