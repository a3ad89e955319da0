"""The safety net: bands and alarms by NEWS2, whatever the model says, and to which patients NEWS2 applies.

Bands and responses are those of the Royal College of Physicians. National Early Warning Score (NEWS) 2. London: RCP, 2017,
charts 2 and 4. A model may raise a band. It never lowers one.
"""

import math
from datetime import timedelta
from typing import Final, Literal

from vigil.features.scores import NEWS2_HIGH, NEWS2_MEDIUM

Band = Literal["unknown", "low", "medium", "high"]
CriticalCause = Literal["critical_bound", "patient_limit"]  # what makes a band high by itself
Reason = Literal["news2_7_or_more", "news2_5_or_6", "news2_single_3", "critical_bound", "patient_limit"]
Score = Literal["NEWS2", "PEWS", "MEOWS"]

# NEWS2 at which an alarm sounds: it asks for an emergency response (RCP 2017, chart 4).
ALARM_FROM: Final = NEWS2_HIGH
# NEWS2 below which that alarm ends: the chart asks for an assessment by a nurse only, and from it on for an urgent review.
ENDS_BELOW: Final = NEWS2_MEDIUM
# How long the score of continuous signals must hold before that alarm sounds. A nurse charts a patient at rest; a monitor also
# measures one who climbs stairs. Our choice: `vigil benchmark net` shows that the net then costs no more alarms than the same
# rule on the chart of nurses' rounds, and what it does to recall (docs/models.md).
HOLDS_FOR: Final = timedelta(minutes=40)
LONGEST_DIP: Final = timedelta(minutes=5)  # a shorter time below the limit does not restart the wait
ADULT_FROM: Final = 16  # years; the chart is not for children or in pregnancy (RCP 2017, "Where should NEWS be used?")

_RULES: Final[tuple[Reason, ...]] = ("news2_7_or_more", "news2_5_or_6", "news2_single_3")
_URGENCY: Final[dict[Band, int]] = {"low": 0, "unknown": 1, "medium": 2, "high": 3}


def news2_reasons(score: int, worst: int) -> tuple[Reason, ...]:
    """Return the rules of NEWS2 that ask for more than routine care.

    Args:
        score: NEWS2.
        worst: highest points of a single component.

    >>> news2_reasons(8, worst=3)
    ('news2_7_or_more', 'news2_single_3')
    """
    by_sum: tuple[Reason, ...] = ("news2_7_or_more",) if score >= NEWS2_HIGH else ("news2_5_or_6",)
    return (by_sum if score >= NEWS2_MEDIUM else ()) + (("news2_single_3",) if worst >= 3 else ())


def join_reasons(first: tuple[Reason, ...], second: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Return the rules that apply to the one score or the other; of the two rules for the sum, the more urgent one."""
    rules = [rule for rule in _RULES if rule in first or rule in second]
    return tuple(rule for rule in rules if rule != "news2_5_or_6" or "news2_7_or_more" not in rules)


def news2_band(reasons: tuple[Reason, ...]) -> Band:
    """Return the band for the rules that apply (:func:`news2_reasons`)."""
    if "news2_7_or_more" in reasons:
        return "high"
    return "medium" if reasons else "low"


def worse_band(first: Band, second: Band) -> Band:
    """Return the more urgent of two bands; a patient of unknown risk comes before one of low risk."""
    return max(first, second, key=urgency_rank)


def urgency_rank(band: Band) -> int:
    """Return the rank of a band; a patient of higher rank is to be seen earlier."""
    return _URGENCY[band]


def applicable_score(age: float, pregnant: float) -> Score:
    """Return the early-warning score that applies to a patient. Vigil computes NEWS2 only.

    PEWS: NHS England, RCPCH. National paediatric early warning system. 2023. MEOWS: Singh S, et al. A validation study of the
    CEMACH recommended modified early obstetric warning system (MEOWS). Anaesthesia 2012;67:12-18.

    Args:
        age: years; NaN (unknown) counts as an adult.
        pregnant: 1 if the patient is known to be pregnant; NaN: unknown.

    >>> applicable_score(4, pregnant=0), applicable_score(30, pregnant=1), applicable_score(float("nan"), pregnant=float("nan"))
    ('PEWS', 'MEOWS', 'NEWS2')
    """
    if not math.isnan(age) and age < ADULT_FROM:
        return "PEWS"
    return "MEOWS" if pregnant == 1 else "NEWS2"
