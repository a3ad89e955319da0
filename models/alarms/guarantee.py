"""The alarm guarantee: an upper limit of alarms and a lower limit of their precision, with stated confidence.

A threshold gets the guarantee if, on patients that the model has not seen, two confidence limits keep it: the upper limit of
alarms per patient-day and the lower limit of alarm precision. Both are exact binomial limits with the design effect of patients
(:func:`vigil.models.statistics.proportions.proportion_limits`). Their error is divided by Bonferroni among the thresholds that
were tried and
the two halves of the guarantee (after Angelopoulos AN, Bates S, Candes EJ, Jordan MI, Lei L. Learn then test. arXiv 2110.01052,
2021).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from vigil.models.alarms.timeline import STEPS_PER_DAY, AlarmCounts, AlarmTimeline, threshold_at_budget
from vigil.models.statistics.proportions import proportion_limits
from vigil.models.tasks import AlarmTarget

CONFIDENCE: Final = 0.95
_SHARES: Final = np.linspace(0.95, 0.5, 10)  # the thresholds to try, by their share of the allowed alarms


@dataclass(frozen=True)
class Certificate:
    """An alarm guarantee, the threshold that keeps it, and the evidence.

    Attributes:
        threshold: an alarm sounds at or above this probability.
        max_alarms_per_patient_day, min_precision: the guarantee.
        confidence: that both halves hold for patients like these.
        patients: number of patients of the evidence. Members that scored a patient have not seen the patient.
        alarms_per_patient_day, alarms_upper: estimate and upper limit.
        precision, precision_lower: estimate and lower limit.
    """

    threshold: float
    max_alarms_per_patient_day: float
    min_precision: float
    confidence: float
    patients: int
    alarms_per_patient_day: float
    alarms_upper: float
    precision: float
    precision_lower: float


def find_guarantee(timeline: AlarmTimeline, target: AlarmTarget) -> Certificate | None:
    """Return the lowest of ten thresholds that keeps the guarantee with confidence; None if none does.

    Alarms of the safety net count, if there is one. There is no guarantee at a threshold at which the model never sounds.

    Args:
        timeline: hours of patients, scored by a model that has not seen them.
        target: the guarantee to keep. :func:`explain_no_guarantee` tells whether the net leaves the model anything of it.
    """
    tail = (1 - CONFIDENCE) / (2 * len(_SHARES))
    for share in _SHARES:
        threshold = threshold_at_budget(timeline, share * target.alarms_per_patient_day)
        if not (timeline.probability >= threshold).any():
            return None  # smaller shares leave the model less
        evidence = _evidence(timeline.count(threshold), tail)
        if evidence["alarms_upper"] <= target.alarms_per_patient_day and evidence["precision_lower"] >= target.precision:
            return Certificate(
                threshold=threshold,
                max_alarms_per_patient_day=target.alarms_per_patient_day,
                min_precision=target.precision,
                confidence=CONFIDENCE,
                patients=len(np.unique(timeline.patient)),
                **evidence,
            )
    return None


def explain_no_guarantee(timeline: AlarmTimeline, allowed: float) -> str:
    """Return why there can be no guarantee: the safety net alone spends all allowed alarms; empty if it leaves some.

    Args:
        timeline: hours of patients, with the net.
        allowed: alarms per patient-day.
    """
    rate = _net_alarm_rate(timeline)
    if not rate >= allowed:
        return ""
    return f"the safety net alone sounds {rate:.2f} of {allowed:g} alarms per patient-day, so none are left for the model"


def check_guarantee(certificate: Certificate, timeline: AlarmTimeline) -> dict[str, float | bool]:
    """Check whether a guarantee holds on other patients.

    Returns:
        - ``alarms_per_patient_day, alarms_upper, precision, precision_lower``, with 95 % limits of these patients alone;
        - ``event_recall``;
        - ``net_alarms_per_patient_day``, of the safety net alone;
        - ``held``: both estimates keep the guarantee;
        - ``broken``: one of them breaks it with 95 % confidence.

        If no alarm sounded, none was wrong. The recall then tells what that was worth.
    """
    count = timeline.count(certificate.threshold)
    evidence = _evidence(count, (1 - CONFIDENCE) / 2)
    is_held = (
        evidence["alarms_per_patient_day"] <= certificate.max_alarms_per_patient_day
        and not evidence["precision"] < certificate.min_precision
    )
    (_, alarms_lower, _), (_, _, precision_upper) = _limits(count, (1 - CONFIDENCE) / 2)
    is_broken = (
        alarms_lower * STEPS_PER_DAY > certificate.max_alarms_per_patient_day or precision_upper < certificate.min_precision
    )
    recall = count.figures()["event_recall"]
    more = {
        "event_recall": recall,
        "net_alarms_per_patient_day": _net_alarm_rate(timeline),
        "held": is_held,
        "broken": bool(is_broken),
    }
    return {**evidence, **more}


def _net_alarm_rate(timeline: AlarmTimeline) -> float:
    """Return the alarms per patient-day of the safety net alone."""
    return timeline.net_alone().count(np.inf).figures()["alarms_per_patient_day"]


def _limits(count: AlarmCounts, tail: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return alarms per index step and their precision, each with estimate, lower and upper limit."""
    steps, alarms, right = (
        count.by_patient(value) for value in (np.rint(count.days * STEPS_PER_DAY), count.alarms, count.right)
    )
    return proportion_limits(alarms, steps, tail), proportion_limits(right, alarms, tail)


def _evidence(count: AlarmCounts, tail: float) -> dict[str, float]:
    """Return the two estimates with the limits that matter for a guarantee."""
    (rate, _, rate_upper), (precision, precision_lower, _) = _limits(count, tail)
    return {
        "alarms_per_patient_day": rate * STEPS_PER_DAY,
        "alarms_upper": rate_upper * STEPS_PER_DAY,
        "precision": precision,
        "precision_lower": precision_lower,
    }
