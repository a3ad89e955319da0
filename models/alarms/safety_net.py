"""The safety net: what NEWS2 asks for whatever a model says, and for which patients NEWS2 speaks.

Bands and responses are those of the Royal College of Physicians. National Early Warning Score (NEWS) 2. London: RCP, 2017,
charts 2 and 4. A model may add to them; it never takes anything away.
"""

import math
from datetime import timedelta
from typing import Final, Literal

from features.scores import NEWS2_HIGH, NEWS2_MEDIUM

Band = Literal["unknown", "low", "medium", "high"]
Reason = Literal["news2_7_or_more", "news2_5_or_6", "news2_single_3"]
Score = Literal["NEWS2", "PEWS", "MEOWS"]

# NEWS2 from which an alarm sounds: an emergency response (RCP 2017, chart 4).
ALARM_FROM: Final = NEWS2_HIGH
# NEWS2 below which that alarm ends: below it the chart asks for a nurse's assessment only, above it for an urgent review.
ENDS_BELOW: Final = NEWS2_MEDIUM
# For so long the score of signals that come continuously has to hold before that alarm sounds: a nurse's chart is of a patient
# at rest, a monitor's also of one who climbs stairs. Ours: `vigil benchmark net` shows that with it the net costs no more
# alarms than the same rule on the chart of nurses' rounds, and what it does to recall (docs/models.md).
HOLDS_FOR: Final = timedelta(minutes=40)
LONGEST_DIP: Final = timedelta(minutes=5)  # below the limit, after which it holds on
ADULT_FROM: Final = 16  # years; the chart is not for children, and not for pregnancy (RCP 2017, "Where should NEWS be used?")

_RULES: Final[tuple[Reason, ...]] = ("news2_7_or_more", "news2_5_or_6", "news2_single_3")
_URGENCY: Final[dict[Band, int]] = {"low": 0, "unknown": 1, "medium": 2, "high": 3}


def news2_reasons(score: int, worst: int) -> tuple[Reason, ...]:
    """Return the rules of NEWS2 that ask for more than routine care.

    Args:
        score: NEWS2.
        worst: most points of a single component.
    """
    by_sum: tuple[Reason, ...] = ("news2_7_or_more",) if score >= NEWS2_HIGH else ("news2_5_or_6",)
    return (by_sum if score >= NEWS2_MEDIUM else ()) + (("news2_single_3",) if worst >= 3 else ())


def either(first: tuple[Reason, ...], second: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Return the rules that hold of one score or the other; of the two about the sum the more urgent."""
    of_both = [rule for rule in _RULES if rule in first or rule in second]
    return tuple(rule for rule in of_both if rule != "news2_5_or_6" or "news2_7_or_more" not in of_both)


def news2_band(reasons: tuple[Reason, ...]) -> Band:
    """Return the band that :func:`news2_reasons` amount to."""
    if "news2_7_or_more" in reasons:
        return "high"
    return "medium" if reasons else "low"


def worse(first: Band, second: Band) -> Band:
    """Return the more urgent of two bands; a patient of unknown risk comes before one of low risk."""
    return max(first, second, key=urgency)


def urgency(band: Band) -> int:
    """Return the rank of a band, higher for a patient to be seen earlier."""
    return _URGENCY[band]


def score_for(age: float, pregnant: float) -> Score:
    """Return the early-warning score that is made for a patient; Vigil computes NEWS2 only.

    PEWS: NHS England, RCPCH. National paediatric early warning system. 2023. MEOWS: Singh S, et al. A validation study of the
    CEMACH recommended modified early obstetric warning system (MEOWS). Anaesthesia 2012;67:12-18.

    Args:
        age: years; NaN, where it is unknown, counts as an adult's.
        pregnant: 1 where the patient is known to be pregnant; NaN: unknown.
    """
    if not math.isnan(age) and age < ADULT_FROM:
        return "PEWS"
    return "MEOWS" if pregnant == 1 else "NEWS2"
