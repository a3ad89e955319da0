"""The alarm promise: so many alarms at most, and so often right at least, with stated confidence; and whether it was kept.

A threshold is certified where, on patients the model had not seen, the upper confidence limit of alarms per patient-day and the
lower one of alarm precision keep the promise. Limits are exact binomial ones with the design effect of patients
(:func:`models.statistics.proportions.limits`), divided by Bonferroni among the thresholds that were tried and the two halves of
the promise (after Angelopoulos AN, Bates S, Candes EJ, Jordan MI, Lei L. Learn then test. arXiv 2110.01052, 2021).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.alarms.timeline import STEPS_PER_DAY, Count, Watch, threshold_at_budget
from models.statistics.proportions import limits
from models.tasks import Promise

CONFIDENCE: Final = 0.95
_TRIED: Final = np.linspace(0.95, 0.5, 10)  # thresholds by their alarm rate, as parts of what is allowed


@dataclass(frozen=True)
class Certificate:
    """A promise, the threshold that keeps it, and the evidence.

    Attributes:
        threshold: alarm at or above this probability.
        max_alarms_per_patient_day, min_precision: the promise.
        confidence: that both halves hold for patients like these.
        patients: of the evidence; none of them was seen by the members that scored him.
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


def certify(watch: Watch, promise: Promise) -> Certificate | None:
    """The lowest of ten thresholds that keeps the promise with confidence, or None.

    Alarms of the safety net count, where there is one. A threshold at which the model never sounds promises nothing of it.

    Args:
        watch: hours of patients, scored by a model that had not seen them.
        promise: what is to be kept; :func:`spent_by_net` says whether the net leaves the model anything of it.
    """
    tail = (1 - CONFIDENCE) / (2 * len(_TRIED))
    for part in _TRIED:
        threshold = threshold_at_budget(watch, part * promise.alarms_per_patient_day)
        if not (watch.probability >= threshold).any():
            return None  # smaller parts leave the model less
        found = _evidence(watch.count(threshold), tail)
        if found["alarms_upper"] <= promise.alarms_per_patient_day and found["precision_lower"] >= promise.precision:
            return Certificate(
                threshold=threshold,
                max_alarms_per_patient_day=promise.alarms_per_patient_day,
                min_precision=promise.precision,
                confidence=CONFIDENCE,
                patients=len(np.unique(watch.patient)),
                **found,
            )
    return None


def spent_by_net(watch: Watch, allowed: float) -> str:
    """Say what the safety net alone costs where it leaves the model nothing; an empty text where it leaves something.

    Args:
        watch: hours of patients, with the net.
        allowed: alarms per patient-day.
    """
    sounds = _net_alone(watch)
    if not sounds >= allowed:
        return ""
    return f"the safety net alone sounds {sounds:.2f} of {allowed:g} alarms per patient-day, so none are left for the model"


def check(certificate: Certificate, watch: Watch) -> dict[str, float | bool]:
    """Whether the promise holds on other patients.

    Returns:
        ``alarms_per_patient_day, alarms_upper, precision, precision_lower`` (95 % limits of these patients alone),
        ``event_recall``; ``net_alarms_per_patient_day``, of the safety net alone; ``held``: both estimates keep the promise;
        and ``broken``: one of them breaks it with 95 % confidence. Where nothing sounded no alarm was wrong; the recall says
        what that was worth.
    """
    count = watch.count(certificate.threshold)
    found = _evidence(count, (1 - CONFIDENCE) / 2)
    held = (
        found["alarms_per_patient_day"] <= certificate.max_alarms_per_patient_day
        and not found["precision"] < certificate.min_precision
    )
    (_, alarms_lower, _), (_, _, precision_upper) = _limits(count, (1 - CONFIDENCE) / 2)
    broken = (
        alarms_lower * STEPS_PER_DAY > certificate.max_alarms_per_patient_day or precision_upper < certificate.min_precision
    )
    recall = count.figures()["event_recall"]
    more = {"event_recall": recall, "net_alarms_per_patient_day": _net_alone(watch), "held": held, "broken": bool(broken)}
    return {**found, **more}


def _net_alone(watch: Watch) -> float:
    """Alarms per patient-day of the safety net alone."""
    return watch.net_alone().count(np.inf).figures()["alarms_per_patient_day"]


def _limits(count: Count, tail: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Alarms a step, and their precision: estimate, lower and upper limit of each."""
    steps, alarms, right = (
        count.by_patient(value) for value in (np.rint(count.days * STEPS_PER_DAY), count.alarms, count.right)
    )
    return limits(alarms, steps, tail), limits(right, alarms, tail)


def _evidence(count: Count, tail: float) -> dict[str, float]:
    (rate, _, rate_upper), (precision, precision_lower, _) = _limits(count, tail)
    return {
        "alarms_per_patient_day": rate * STEPS_PER_DAY,
        "alarms_upper": rate_upper * STEPS_PER_DAY,
        "precision": precision,
        "precision_lower": precision_lower,
    }
