"""The terms of each patient's NEWS2: what staff decided for them, and what the sources of their latest values declare."""

from collections.abc import Mapping

from vigil.features.declarations import Declarations
from vigil.models.alarms.patient_terms import PatientTerms
from vigil.models.bedside import USUAL_TERMS, ScoreTerms, carries_from
from vigil.serving.records.journal_lookups import Latest


def terms_of(latest: Mapping[str, Latest], declared: Declarations, own: PatientTerms | None) -> ScoreTerms:
    """Return the terms of a patient's NEWS2.

    Args:
        latest: their latest values, by NEWS2 component.
        declared: what sources declare.
        own: terms of the patient; None: there are none.
    """
    limits = {}
    for signal, sender in latest.items():
        carries = declared.of(sender.source).carry_hours
        if signal in carries:
            limits[signal] = carries[signal]
    if not limits and own is None:
        return USUAL_TERMS
    return ScoreTerms(carries_from(limits), 1 if own is None else own.spo2_scale)
