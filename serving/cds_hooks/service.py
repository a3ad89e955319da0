"""The services of CDS Hooks: who the patient is, what their risk says, and where feedback goes."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import jwt

from vigil.features.errors import VigilError
from vigil.serving.api.alarm_actions import record_action
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.tokens import Caller
from vigil.serving.cds_hooks.cards import make_card
from vigil.serving.fhir.chart import Chart
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.ward_rows import Action
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.risk_report import Include, NoReport
from vigil.serving.scoring.risk_service import RiskService
from vigil.serving.smart.clients import Clients


@dataclass(frozen=True)
class Offered:
    """One service, as discovery describes it.

    Attributes:
        hook: when it is called.
        title, description: for people.
    """

    hook: str
    title: str
    description: str

    def describe(self, identity: str) -> dict[str, Any]:
        """Return the entry of the discovery document."""
        return {
            "hook": self.hook,
            "id": identity,
            "title": self.title,
            "description": self.description,
            "prefetch": {"patient": "Patient/{{context.patientId}}"},
            "usageRequirements": "The patient has to be known, by an identifier in prefetch.patient or by the id.",
        }


_DESCRIPTION: Final = "Risk of deterioration with band, NEWS2, the strongest reasons and the age of the data."
SERVICES: Final = {
    "vigil-patient-view": Offered("patient-view", "Early warning", _DESCRIPTION),
    "vigil-encounter-start": Offered("encounter-start", "Early warning at admission", _DESCRIPTION),
}


class NoPatientError(VigilError):
    """A call does not say which patient it is about in a way that is understood here. The text is the answer's."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a clinician did with a card: ``action`` on the alarm it was about, and why it was overridden."""

    card: str
    action: Action
    reason: str | None


@dataclass(frozen=True)
class CdsService:
    """Answers the calls of one home. ``url``: of this server, as others reach it."""

    url: str
    chart: Chart
    risk_service: RiskService
    ward_state: WardState
    metrics: Metrics
    clients: Clients

    def is_of_client(self, token: str) -> bool:
        """Return whether a token says that a registered client signed it. That is still to be verified."""
        try:
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except jwt.PyJWTError:
            return False
        return isinstance(issuer, str) and self.clients.find(issuer) is not None

    def cards(self, caller: Caller, patient_id: str, patient: Any, server: str | None) -> list[dict[str, Any]]:
        """Return the cards for a patient: one, or none.

        Args:
            caller: sees patients of their wards only; of others there are no cards.
            patient_id: the id of the Patient on the record system.
            patient: the prefetched Patient, or anything else.
            server: URL of the record system.

        Raises:
            NoPatientError: it is not known who the patient is, or the id and the prefetched Patient are of two patients.
            LogUnavailableError: the risk could not be logged, so it is not given.
        """
        subject = self._find(patient_id, patient, server)
        if not self.chart.may_see(caller, subject):
            return []
        wanted: list[Include] = ["contributions"]
        report = self.risk_service.by_subject([subject], include=wanted)[0]
        if isinstance(report, NoReport):
            return []
        alarm = None
        if caller.has_scope("alarms:read"):
            opened = [one for one in self.ward_state.alarms(subject=subject) if one.ended_at is None and one.sounded > 0]
            alarm = opened[0] if opened else None
        card = make_card(report, alarm, self.url, self.chart.directory.page(subject))
        return [] if card is None else [card]

    def _find(self, patient_id: str, patient: Any, server: str | None) -> str:
        """Return the subject key of the patient, of the survivor if they were merged."""
        base = "" if server is None else f"{server.rstrip('/')}/"
        by_id, shown = self.chart.identify(f"{base}Patient/{patient_id}"), None
        if isinstance(patient, dict) and patient.get("resourceType") == "Patient":
            shown = self.chart.identify_patient(patient)
            # A card of the one would be read in the chart of the other.
            if patient.get("id", patient_id) != patient_id or (by_id is not None and shown not in (None, by_id)):
                raise NoPatientError("context.patientId, prefetch.patient: expected one and the same patient")
        found = shown or by_id
        if found is None:
            raise NoPatientError("prefetch.patient: expected the Patient, with the identifier by which they are known here")
        return found

    def take_feedback(self, caller: Caller, given: Sequence[Feedback]) -> None:
        """Store what was done with cards, each with its alarm, if the caller may act on alarms.

        A card without an alarm, and a repetition, change nothing.
        """
        if not caller.has_scope("alarms:write"):
            return
        for feedback in given:
            with suppress(ProblemError):  # there is no such alarm, or another action stands
                record_action(self.ward_state, self.metrics, caller, feedback.card, feedback.action, feedback.reason)
