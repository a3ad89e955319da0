"""A ward's patients by urgency: what every view of a ward shows, the API's list and the pages."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from vigil.features.catalogue import INDEX_STEP
from vigil.models.alarms.safety_net import Band, news2_band, news2_reasons, urgency_rank
from vigil.serving.api.schemas.bounds import bounds_out
from vigil.serving.api.schemas.terms import terms_out
from vigil.serving.api.schemas.wards import WardPatient
from vigil.serving.auth.tokens import Caller
from vigil.serving.identity.identities import Identities
from vigil.serving.records.timestamps import instant, microsecond, moment, present
from vigil.serving.records.ward_rows import Alarm, WardRisk
from vigil.serving.records.ward_state import WardState

# Within which the risk of a silent patient is renewed; the minutes are for the rescorer to do it.
_RENEWED_WITHIN: Final = INDEX_STEP + timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class WardEntry:
    """One patient of a ward.

    Attributes:
        patient: as callers see them.
        risk: the latest, as it is stored.
        alarm: the open episode, also one that the budget withheld; None: there is none, or the caller may not see alarms.
    """

    patient: WardPatient
    risk: WardRisk
    alarm: Alarm | None


def list_ward(ward: str, caller: Caller, ward_state: WardState, identities: Identities) -> list[WardEntry]:
    """Return the patients of a ward: those with an open alarm first, then by band, then by expected benefit."""
    risks = ward_state.risks(ward=ward)
    names = identities.find_or_empty(risk.subject_id for risk in risks)
    alarms = ward_state.open_alarms(ward) if caller.has_scope("alarms:read") else {}
    now = microsecond(present())
    stopped = ward_state.silences.stopped({risk.subject_id: now for risk in risks})
    entries = []
    for risk in risks:
        alarm = alarms.get(risk.subject_id)
        patient = _ward_patient(risk, names[risk.subject_id], alarm, is_stopped=risk.subject_id in stopped)
        entries.append(WardEntry(patient, risk, alarm))
    return sorted(entries, key=lambda entry: _urgency(entry.patient), reverse=True)


def _ward_patient(risk: WardRisk, patient_id: str, alarm: Alarm | None, *, is_stopped: bool) -> WardPatient:
    sounded = alarm if alarm is not None and alarm.sounded > 0 else None
    is_stale = present() - instant(risk.index_time) > _RENEWED_WITHIN
    band = _news2_band(risk) if is_stale else risk.band
    probability = None if is_stale else risk.probability
    stale_decided_by = "nothing" if band == "unknown" else "news2"
    return WardPatient(
        patient_id=patient_id,
        as_of=instant(risk.index_time).to_pydatetime(),
        basis="news2" if is_stale else risk.basis,
        probability=probability,
        band=band,
        decided_by=stale_decided_by if is_stale else risk.decided_by,
        reasons=risk.reasons or [],
        news2=risk.news2,
        news2_highest=risk.news2_highest,
        latest_reading_at=moment(risk.latest_reading_at),
        expected_benefit=_expected_benefit(probability, risk.threshold),
        findings=[
            *(["stale_data"] if is_stale else []),
            *(risk.findings or []),
            *(["signal_stopped"] if is_stopped else []),
        ],
        unusual=risk.unusual or [],
        bounds=bounds_out(risk.bounds or []),
        terms=terms_out(risk.terms),
        alarm_id=sounded.alarm_id if sounded else None,
        alarm_status=sounded.status if sounded else None,
        model_name=risk.model_name,
        model_version=risk.model_version,
        feature_service=risk.feature_service,
    )


def _news2_band(risk: WardRisk) -> Band:
    """Return NEWS2's band of a risk that may have the model's; ``unknown`` where NEWS2 does not apply."""
    if risk.reasons is None:  # an earlier version did not store the components: one of 3 may be among them
        return news2_band(news2_reasons(risk.news2, min(risk.news2, 3)))
    is_unknown = risk.net_score is None or risk.band == "unknown" or "hardly_known" in (risk.findings or [])
    return "unknown" if is_unknown and not risk.reasons else news2_band(tuple(risk.reasons))


def _expected_benefit(p: float | None, threshold: float | None) -> float | None:
    return None if p is None or threshold is None else p - (1 - p) * threshold / (1 - threshold)


def _urgency(patient: WardPatient) -> tuple[bool, int, bool, float, int, int]:
    """Return the sort key of a patient.

    Without a probability the score decides: if it is high, no visit is worth more. Else it is above patients with no expected
    benefit.
    """
    benefit = patient.expected_benefit
    is_high_by_score = benefit is None and patient.band == "high"
    worth = 0.0 if benefit is None else benefit
    is_open = patient.alarm_status == "open"
    return (is_open, urgency_rank(patient.band), is_high_by_score, worth, patient.news2, patient.news2_highest)
