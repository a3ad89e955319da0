"""What a ward sees and does: its patients by urgency, alarms and what was done about them, and events as they happen."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Security
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from features.catalogue import INDEX_STEP
from models.alarms.safety_net import ALARM_FROM, Band, Reason, news2_band, news2_reasons, urgency
from models.assessment import Basis, DecidedBy, Finding
from serving.api import problems
from serving.api.alarms_view import AlarmOut, alarm_out
from serving.api.problems import ProblemError
from serving.api.routes.ward_events import EVENT, EventStream, beginning, stream
from serving.api.schemas import MAX_PATIENTS, Instant, Request, WardName, example
from serving.auth.middleware import PartsHere, authorized
from serving.auth.tokens import Caller
from serving.composition import Parts
from serving.records.database import instant
from serving.records.timestamps import moment, present, utc
from serving.records.ward_state import Action, AlreadyDoneError, Status
from serving.stream.alarm_updates import SAID

router: Final = APIRouter(prefix="/v1", tags=["wards"])

# Within which the risk of a patient of whom nothing comes is renewed; the minutes are for the rescorer to do it.
_RENEWED_WITHIN: Final = INDEX_STEP + timedelta(minutes=5)

WardReader = Annotated[Caller, Security(authorized, scopes=["ward:read"])]
AlarmReader = Annotated[Caller, Security(authorized, scopes=["alarms:read"])]
AlarmWriter = Annotated[Caller, Security(authorized, scopes=["alarms:write"])]
WardAsked = Annotated[WardName, Query()]


class WardPatient(BaseModel):
    """A patient's latest risk, and what an intervention now may be expected to be worth.

    With ``stale_data`` among the findings nobody renewed it in time: what is left of it is NEWS2, as it was at ``as_of``.
    """

    patient_id: str
    as_of: datetime
    basis: Basis
    probability: float | None
    band: Band
    decided_by: Annotated[DecidedBy | None, Field(description="What set the band; null for seconds after an upgrade.")]
    reasons: Annotated[list[Reason], Field(description="Rules of NEWS2 that ask for more than routine care.")]
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
        list[str], Field(description="With outside_training: what sets the patient apart from those the model learned from.")
    ]
    alarm_id: Annotated[str | None, Field(description="Of the episode that is under way, if it sounded.")]
    alarm_status: Annotated[Status | None, Field(description="Both null to a caller who may not see alarms.")]
    model_name: str | None
    model_version: str | None
    feature_service: str


class SafetyNetOut(BaseModel):
    """From which NEWS2 an alarm sounds in the ward, and why there, where the hospital changed that in writing."""

    alarm_from: int
    because: Annotated[str | None, Field(description="Null: it is the guideline's limit.")]


class WardAnswer(BaseModel):
    """Open alarms first, then by band, then by expected benefit; on the basis of NEWS2 by the score."""

    ward: str
    known: Annotated[
        bool, Field(description="False: no patient was ever registered there, and wards.toml does not name it; is it misspelt?")
    ]
    safety_net: SafetyNetOut
    risks_as_of: Annotated[
        datetime | None, Field(description="When the rescorer, which renews the risks, was last alive; null: never.")
    ]
    patients: list[WardPatient]


class AlarmsAnswer(BaseModel):
    """Newest first."""

    alarms: list[AlarmOut]


class AcknowledgeIn(Request):
    """Which alarm."""

    model_config = example({"alarm_id": "2c1f7d2e-3f64-5b0e-9a39-0d5c1f6f4f0a"})

    alarm_id: Annotated[str, Field(min_length=1, max_length=64)]


class OverrideIn(Request):
    """Why the alarm was not right. The reason is kept, and may become a label: name no patient in it."""

    model_config = example({"alarm_id": "2c1f7d2e-3f64-5b0e-9a39-0d5c1f6f4f0a", "reason": "expected_for_this_patient"})

    alarm_id: Annotated[str, Field(min_length=1, max_length=64)]
    reason: Literal["false_alarm", "expected_for_this_patient", "artefact", "already_treated", "palliative_care", "other"]
    note: Annotated[str | None, Field(max_length=500)] = None


@router.get("/ward/patients", summary="A ward's patients, the highest expected benefit first")
def get_ward_patients(ward: WardAsked, parts: PartsHere, caller: WardReader) -> WardAnswer:
    """The latest risk of each patient registered in the ward; alarms for a token that also has `alarms:read`."""
    _require_ward(caller, ward)
    rows = parts.board.risks(ward=ward)
    names = parts.identities.names(row["patient"] for row in rows)
    under_way = parts.board.under_way(ward) if caller.may("alarms:read") else {}
    ranked = sorted(
        (_ward_patient(row, names[row["patient"]], under_way.get(row["patient"])) for row in rows), key=_urgency, reverse=True
    )
    _, alive = parts.board.progress()
    parts.ward_settings.refresh()
    own = parts.ward_settings.of(ward).safety_net
    net = SafetyNetOut(alarm_from=own.alarm_from if own else ALARM_FROM, because=own.because if own else None)
    known = bool(rows) or parts.ward_settings.names(ward) or parts.is_ward(ward)
    return WardAnswer(
        ward=ward, known=known, safety_net=net, risks_as_of=None if alive is None else alive.to_pydatetime(), patients=ranked
    )


@router.get("/alarms", summary="Alarms, newest first")
def get_alarms(
    parts: PartsHere,
    caller: AlarmReader,
    ward: Annotated[WardName | SkipJsonSchema[None], Query()] = None,
    status: Annotated[Status | SkipJsonSchema[None], Query()] = None,
    before: Annotated[Instant | SkipJsonSchema[None], Query(description="Only those opened before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PATIENTS)] = 100,
) -> AlarmsAnswer:
    """Of one ward, or of all that the caller may see. For older ones ask again `before` the last one's `opened_at`.

    Alarms opened at one instant come together, so that there may be more than `limit`.
    """
    if ward is not None:
        _require_ward(caller, ward)
    wards = [ward] if ward is not None else caller.wards
    rows = parts.board.alarms(wards=wards, status=status, before=None if before is None else utc(before), most=limit)
    names = parts.identities.names(row["patient"] for row in rows)
    return AlarmsAnswer(alarms=[alarm_out(row, names[row["patient"]]) for row in rows])


@router.post("/alarms/acknowledge", summary="Say that somebody takes care of it")
def acknowledge_alarm(request: AcknowledgeIn, parts: PartsHere, caller: AlarmWriter) -> AlarmOut:
    """Kept with who said so and when, beside what others said before."""
    return _act(parts, caller, request.alarm_id, "acknowledged", None)


@router.post("/alarms/override", summary="Say that it was not right, and why")
def override_alarm(request: OverrideIn, parts: PartsHere, caller: AlarmWriter) -> AlarmOut:
    """Kept with who said so and when, once an alarm; it may become a label."""
    return _act(
        parts, caller, request.alarm_id, "overridden", f"{request.reason}: {request.note}" if request.note else request.reason
    )


@router.get(
    "/ward/events",
    summary="Risk changes and alarms as they happen",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": EVENT}}, "description": "Server-sent events."}},
)
async def follow_ward(
    ward: WardAsked,
    parts: PartsHere,
    caller: WardReader,
    last_event_id: Annotated[Annotated[int, Field(ge=0, le=2**62)] | SkipJsonSchema[None], Header()] = None,
    seconds: Annotated[
        Annotated[float, Field(ge=0, le=86_400)] | SkipJsonSchema[None],
        Query(description="End after so long; at the latest when the token expires."),
    ] = None,
) -> StreamingResponse:
    """Server-sent events; those of alarms for a token that also has `alarms:read`.

    With ``Last-Event-ID`` the stream resumes after that event; each event comes at least once.
    """
    _require_ward(caller, ward)
    after, begin = beginning(ward, last_event_id, await asyncio.to_thread(parts.board.kept))
    return EventStream(stream(parts, caller, ward, after, seconds, begin), caller)


def _act(parts: Parts, caller: Caller, alarm_id: str, action: Action, reason: str | None) -> AlarmOut:
    alarm = parts.board.alarm(alarm_id)
    if alarm is None or not caller.may_see(alarm["ward"]):
        raise ProblemError(problems.unknown_alarm())
    try:
        if parts.board.act(alarm_id, action, caller.subject, reason, present()):
            parts.metrics.acted(action)
    except AlreadyDoneError as error:
        raise ProblemError(problems.already(error.status)) from None
    after = parts.board.alarm(alarm_id)
    if after is None:  # retention took it meanwhile
        raise ProblemError(problems.unknown_alarm())
    return alarm_out(after, parts.identities.names([after["patient"]])[after["patient"]])


def _require_ward(caller: Caller, ward: str) -> None:
    if not caller.may_see(ward):
        raise ProblemError(problems.not_your_ward("ward"))


def _ward_patient(row: dict[str, Any], patient_id: str, alarm: dict[str, Any] | None) -> WardPatient:
    sounded = alarm is not None and alarm["sounded"] > 0
    stale = present() - instant(row["index_time"]) > _RENEWED_WITHIN
    if stale:
        band = _band_of(row)
        decided_by = "nothing" if band == "unknown" else "news2"
        row = {**row, "basis": "news2", "probability": None, "band": band, "decided_by": decided_by}
    return WardPatient(
        patient_id=patient_id,
        as_of=instant(row["index_time"]).to_pydatetime(),
        latest_reading_at=moment(row["latest_reading_at"]),
        expected_benefit=_benefit(row["probability"], row["threshold"]),
        reasons=row["reasons"] or [],
        findings=[*(["stale_data"] if stale else []), *(row["findings"] or [])],
        unusual=row["unusual"] or [],
        alarm_id=alarm["alarm_id"] if alarm and sounded else None,
        alarm_status=alarm["status"] if alarm and sounded else None,
        **{name: row[name] for name in SAID if name not in {"index_time", "reasons", "findings", "unusual"}},
    )


def _band_of(row: dict[str, Any]) -> Band:
    """Return NEWS2's band of a row that may have the model's; unknown where NEWS2 has no say."""
    if row["reasons"] is None:  # of an earlier version, which did not keep the components: one of 3 may be among them
        return news2_band(news2_reasons(row["news2"], min(row["news2"], 3)))
    silent = row["net_score"] is None or row["band"] == "unknown" or "hardly_known" in row["findings"]
    return "unknown" if silent and not row["reasons"] else news2_band(tuple(row["reasons"]))


def _benefit(p: float | None, threshold: float | None) -> float | None:
    return None if p is None or threshold is None else p - (1 - p) * threshold / (1 - threshold)


def _urgency(patient: WardPatient) -> tuple[bool, int, float, int, int]:
    """Rank a patient. Without a probability the score decides, above patients for whom the model sees no benefit."""
    benefit = patient.expected_benefit
    is_open = patient.alarm_status == "open"
    return (is_open, urgency(patient.band), 0.0 if benefit is None else benefit, patient.news2, patient.news2_highest)
