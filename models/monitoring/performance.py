"""How well the model does: as far as outcomes are known, over time; and what is expected where they are not."""

from typing import Any, Final

import numpy as np
import pandas as pd

from models.cohort import by_patient
from models.evaluation.calibration import calibration, calibration_draws
from models.evaluation.discrimination import discrimination, discrimination_draws
from models.evaluation.label_free import EstimateError, Reliability, estimate
from models.seeds import SEED
from models.statistics.bootstrap import Float64, Resamples, percentile

LEAST_PATIENTS: Final = 30
LEAST_EVENTS: Final = 5  # patients with one: below, nothing can be said of ranks
SHOWN: Final = ("auroc", "auprc", "brier", "calibration_slope", "calibration_intercept")


def expected(log: pd.DataFrame, reference: pd.DataFrame, trained: pd.DataFrame, threshold: float) -> dict[str, float] | None:
    """What is expected of the predictions of a log, without labels, beside the same of training patients.

    Args:
        log, reference: ``subject_id, probability``.
        trained: ``subject_id, probability, label`` of training patients, by members that had not seen them.
        threshold: of the high band.

    Returns:
        The figures of :func:`models.evaluation.label_free.estimate`, and ``auroc_lost``: AUROC expected of training patients
        less that of these. None where risks are too few.
    """
    try:
        known = Reliability.fit(trained["probability"], trained["label"], trained["subject_id"].astype(str), seed=SEED)
        now, before = (
            estimate(rows["probability"], rows["subject_id"].astype(str), threshold, seed=SEED, reliability=known)
            for rows in (log, reference)
        )
    except EstimateError:
        return None
    return {**now, "auroc_before": before["auroc"], "auroc_lost": before["auroc"] - now["auroc"]}


def measured(judged: pd.DataFrame, auroc_before: float) -> dict[str, Any] | None:
    """Performance where the outcome is known: of all, and week by week.

    Args:
        judged: ``subject_id, index_time, probability, label``.
        auroc_before: of training patients, out of fold.

    Returns:
        ``auroc_before``;
        ``patients, events`` (patients with one), ``from``, ``to``, :data:`SHOWN` each with ``_low`` and ``_high`` (95 %,
        patients drawn anew), and ``weeks``, the same of each that has enough. None where there are too few patients or events.
    """
    whole = _figures(judged)
    if whole is None:
        return None
    week = judged["index_time"].dt.tz_convert(None).dt.to_period("W").dt.start_time
    weeks = [figures for _, rows in judged.groupby(week.to_numpy()) if (figures := _figures(rows)) is not None]
    return {**whole, "auroc_before": auroc_before, "weeks": weeks}


def _figures(rows: pd.DataFrame) -> dict[str, Any] | None:
    patients, _ = by_patient(rows["subject_id"])
    number = int(patients.max(initial=-1)) + 1
    label, risk = rows["label"].to_numpy(np.float64), rows["probability"].to_numpy(np.float64)
    events = len(np.unique(patients[label == 1]))
    if number < LEAST_PATIENTS or events < LEAST_EVENTS or number - events < LEAST_EVENTS:
        return None
    resamples = Resamples.of(rows["subject_id"], SEED)
    found = discrimination(label, risk) | calibration(label, risk)
    draws: dict[str, Float64] = discrimination_draws(label, risk, resamples) | calibration_draws(label, risk, resamples)
    figures: dict[str, Any] = {"patients": number, "events": events}
    figures |= {"from": rows["index_time"].min().isoformat(), "to": rows["index_time"].max().isoformat()}
    for name in SHOWN:
        low, high = percentile(draws[name])
        figures |= {name: found[name], f"{name}_low": low, f"{name}_high": high}
    return figures
