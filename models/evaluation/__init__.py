"""How good is a model? One file a question; :func:`evaluate` asks them all."""

import pandas as pd

from models.evaluation.alarms import Watch, alarms
from models.evaluation.calibration import calibration
from models.evaluation.discrimination import discrimination, intervals
from models.risk_model import TooFewEventsError


def evaluate(frame: pd.DataFrame, threshold: float, *, seed: int) -> dict[str, float]:
    """Every metric of one model on patients it has never seen.

    Args:
        frame: one row an index time, with ``subject_id, index_time, onset, onset_known, probability`` and ``label`` (missing
            where the task leaves the time out; such times count for alarms only).
        threshold: the frozen alarm threshold.
        seed: of the bootstrap.

    Returns:
        Metric -> value; intervals as ``<metric>_low`` and ``<metric>_high`` (95 %).

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
    bounds = intervals(label, probability, labelled["subject_id"], seed=seed)
    return {
        **discrimination(label, probability),
        **{f"{name}_{side}": value for name, both in bounds.items() for side, value in zip(("low", "high"), both, strict=True)},
        **calibration(label, probability),
        **alarms(Watch.of(frame), threshold),
        "patients": float(labelled["subject_id"].nunique()),
        "index_times": float(len(labelled)),
    }
