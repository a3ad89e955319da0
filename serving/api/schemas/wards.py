"""Answers about a ward: its patients by urgency."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from vigil.models.alarms.safety_net import Band, Reason
from vigil.models.assessment import Basis, DecidedBy, Finding
from vigil.serving.api.schemas.bounds import BoundOut
from vigil.serving.api.schemas.terms import TermsOut
from vigil.serving.records.ward_rows import Status


class WardPatient(BaseModel):
    """A patient's latest risk, and what an intervention now may be expected to be worth.

    With ``stale_data`` among the findings the risk was not renewed in time: what is shown is NEWS2, as it was at ``as_of``.
    """

    patient_id: str
    as_of: datetime
    basis: Basis
    probability: float | None
    band: Band
    decided_by: Annotated[DecidedBy | None, Field(description="What set the band; null for seconds after an upgrade.")]
    reasons: Annotated[
        list[Reason],
        Field(
            description="Rules of NEWS2 that ask for more than routine care, critical_bound where one stands, and "
            "patient_limit where a value reaches a limit of the patient."
        ),
    ]
    news2: int
    news2_highest: int
    latest_reading_at: datetime | None
    expected_benefit: Annotated[
        float | None,
        Field(
            description="Net benefit of acting on this patient, in true alarms: p - (1 - p) * pt / (1 - pt), pt the ward's "
            "alarm threshold (Vickers AJ, Elkin EB. Med Decis Making 2006;26:565-574). Null on the basis of NEWS2."
        ),
    ]
    findings: list[Finding]
    unusual: Annotated[
        list[str], Field(description="With outside_training: how the patient differs from those the model learned from.")
    ]
    bounds: Annotated[list[BoundOut], Field(description="What was reported at or beyond a limit, and still stands.")]
    terms: Annotated[TermsOut | None, Field(description="What staff decided for the patient; null: nothing.")]
    alarm_id: Annotated[str | None, Field(description="Of the open episode, if an alarm sounded in it.")]
    alarm_status: Annotated[Status | None, Field(description="Both null for a caller without alarms:read.")]
    model_name: str | None
    model_version: str | None
    feature_service: str


class SafetyNetOut(BaseModel):
    """The NEWS2 at which an alarm sounds in the ward, and the reason, if the hospital changed it in writing."""

    alarm_from: int
    because: Annotated[str | None, Field(description="Null: it is the guideline's limit.")]


class WardAnswer(BaseModel):
    """Patients with an open alarm first, then by band, then by expected benefit; on the basis of NEWS2 by the score."""

    ward: str
    known: Annotated[
        bool,
        Field(description="False: no patient was ever registered there, and wards.toml does not name it; is it misspelt?"),
    ]
    safety_net: SafetyNetOut
    risks_as_of: Annotated[
        datetime | None, Field(description="When the rescorer, which renews the risks, was last alive; null: never.")
    ]
    patients: list[WardPatient]
