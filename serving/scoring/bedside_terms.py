"""The terms of each patient's NEWS2: what the sources of their latest values declare."""

from collections.abc import Mapping

from features.declarations import Declarations
from models.bedside import USUAL_TERMS, ScoreTerms, carries_from
from serving.records.journal_lookups import Latest


def terms_of(latest: Mapping[str, Latest], declared: Declarations) -> ScoreTerms:
    """Return the terms of a patient.

    Args:
        latest: their latest values, by NEWS2 component.
        declared: what sources declare.
    """
    limits = {}
    for signal, sender in latest.items():
        carries = declared.of(sender.source).carry_hours
        if signal in carries:
            limits[signal] = carries[signal]
    return ScoreTerms(carries_from(limits)) if limits else USUAL_TERMS
