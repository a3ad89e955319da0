"""Performance of the model: measured where outcomes are known, expected where they are not."""

from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.models.cohort import number_patients
from vigil.models.evaluation.calibration import measure_calibration, resample_calibration
from vigil.models.evaluation.discrimination import measure_discrimination, resample_discrimination
from vigil.models.evaluation.label_free import EstimateError, Reliability, estimate_performance
from vigil.models.seeds import SEED
from vigil.models.statistics.bootstrap import Float64, Resamples, percentile_interval

LEAST_PATIENTS: Final = 30
LEAST_EVENTS: Final = 5  # patients with an event, and patients without: fewer say nothing about ranks
SHOWN: Final = ("auroc", "auprc", "brier", "calibration_slope", "calibration_intercept")


def estimate_day_performance(
    log: pd.DataFrame, reference: pd.DataFrame, trained: pd.DataFrame, threshold: float
) -> dict[str, float] | None:
    """Estimate the performance of the predictions of a log without labels, and compare it with training patients.

    Args:
        log, reference: ``subject_id, probability``.
        trained: ``subject_id, probability, label`` of training patients, by members that did not see them.
        threshold: of the high band.

    Returns:
        The figures of :func:`vigil.models.evaluation.label_free.estimate_performance`, ``auroc_before`` (AUROC expected of
        training patients) and ``auroc_lost`` (that less the AUROC of the log). None where risks are too few.
    """
    try:
        reliability = Reliability.fit(trained["probability"], trained["label"], trained["subject_id"].astype(str), seed=SEED)
        now, before = (
            estimate_performance(
                rows["probability"], rows["subject_id"].astype(str), threshold, seed=SEED, reliability=reliability
            )
            for rows in (log, reference)
        )
    except EstimateError:
        return None
    return {**now, "auroc_before": before["auroc"], "auroc_lost": before["auroc"] - now["auroc"]}


def measure_performance(judged: pd.DataFrame, auroc_before: float) -> dict[str, Any] | None:
    """Measure performance where outcomes are known: over all of them, and week by week.

    Args:
        judged: ``subject_id, index_time, probability, label``.
        auroc_before: AUROC of training patients, out of fold.

    Returns:
        ``patients``, ``events`` (patients with an event), ``from``, ``to``, :data:`SHOWN` each with ``_low`` and ``_high``
        (95 %, patients resampled), ``auroc_before``, and ``weeks``: the same figures of each week that has enough. None where
        there are too few patients or events.
    """
    overall = _measure(judged)
    if overall is None:
        return None
    week = judged["index_time"].dt.tz_convert(None).dt.to_period("W").dt.start_time
    weeks = [figures for _, rows in judged.groupby(week.to_numpy()) if (figures := _measure(rows)) is not None]
    return {**overall, "auroc_before": auroc_before, "weeks": weeks}


def _measure(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Measure one period; None where it has too few patients or events."""
    patients, _ = number_patients(rows["subject_id"])
    number = int(patients.max(initial=-1)) + 1
    label, risk = rows["label"].to_numpy(np.float64), rows["probability"].to_numpy(np.float64)
    events = len(np.unique(patients[label == 1]))
    if number < LEAST_PATIENTS or events < LEAST_EVENTS or number - events < LEAST_EVENTS:
        return None
    resamples = Resamples.draw(rows["subject_id"], SEED)
    values = measure_discrimination(label, risk) | measure_calibration(label, risk)
    draws: dict[str, Float64] = resample_discrimination(label, risk, resamples) | resample_calibration(label, risk, resamples)
    figures: dict[str, Any] = {"patients": number, "events": events}
    figures |= {"from": rows["index_time"].min().isoformat(), "to": rows["index_time"].max().isoformat()}
    for name in SHOWN:
        low, high = percentile_interval(draws[name])
        figures |= {name: values[name], f"{name}_low": low, f"{name}_high": high}
    return figures
