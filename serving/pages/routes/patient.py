"""The page of a patient, and the part of it that renews itself."""

import json
from datetime import datetime
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response

from vigil.serving.fhir.outcomes import MEDIA_TYPE
from vigil.serving.instant import Instant
from vigil.serving.login.dependencies import OpenSession, watch_session
from vigil.serving.pages.audit import Page
from vigil.serving.pages.freshness import is_out_of_date
from vigil.serving.pages.glucose_view import glucose_view
from vigil.serving.pages.patient_charts import choose_span
from vigil.serving.pages.patient_document import patient_document
from vigil.serving.pages.site import PageError, Viewer, ViewerHere, render, require_scope
from vigil.serving.pages.summary_pdf import summary_pdf
from vigil.serving.records.timestamps import present
from vigil.serving.scoring.risk_report import RiskReport
from vigil.serving.words import words_for

router: Final = APIRouter(include_in_schema=False)

HOURS: Final = (6, 24, 72, 168)
_USUAL_HOURS: Final = 24

PatientId = Annotated[str, Path(max_length=64)]
Hours = Annotated[float, Query(gt=0, le=24 * 31)]
Time = Annotated[Instant | None, Query()]


@router.get("/patient/{id}")
async def patient(
    request: Request,
    viewer: ViewerHere,
    id: PatientId,  # noqa: A002 - as in the path
    hours: Hours = _USUAL_HOURS,
    since: Time = None,
    until: Time = None,
) -> HTMLResponse:
    """A patient: the last hours, or a time that was chosen."""
    shown = await _show(request, viewer, id, "patient", hours, since, until)
    return render("patient.html", viewer.words, viewer=viewer, **shown)


@router.get("/patient/{id}/live")
async def renew(
    request: Request,
    id: PatientId,  # noqa: A002 - as in the path
    session: Annotated[OpenSession, Depends(watch_session)],
    hours: Hours = _USUAL_HOURS,
    since: Time = None,
    until: Time = None,
) -> HTMLResponse:
    """The same, without the frame of the page. Asking for it does not delay the automatic logoff."""
    viewer = Viewer(session, words_for(request))
    shown = await _show(request, viewer, id, "patient", hours, since, until)
    return render("patient_content.html", viewer.words, viewer=viewer, **shown)


@router.get("/patient/{id}/summary")
async def summary(request: Request, viewer: ViewerHere, id: PatientId) -> HTMLResponse:  # noqa: A002 - as in the path
    """A page to print: what a colleague has to know in a video consultation."""
    shown = await _show(request, viewer, id, "summary", _USUAL_HOURS, None, None)
    return render("summary.html", viewer.words, viewer=viewer, printed_at=present(), **shown)


@router.get("/patient/{id}/summary.pdf")
async def summary_as_pdf(
    request: Request,
    viewer: ViewerHere,
    id: PatientId,  # noqa: A002 - as in the path
    zone: Annotated[str, Query(max_length=64)] = "UTC",
) -> Response:
    """The same as one page of PDF, with times of the viewer's zone."""
    shown = await _show(request, viewer, id, "summary", _USUAL_HOURS, None, None)
    own_zone = _read_zone(zone, viewer)
    now = present().to_pydatetime()
    content = await run_in_threadpool(summary_pdf, shown["view"], viewer.words, own_zone, now, viewer.name)
    return Response(content, media_type="application/pdf", headers={"Content-Disposition": 'inline; filename="summary.pdf"'})


@router.get("/patient/{id}/document")
async def document(request: Request, viewer: ViewerHere, id: PatientId) -> Response:  # noqa: A002 - as in the path
    """The same as a FHIR document, to send it to another system."""
    require_scope(viewer, "risk:read")
    components = request.app.state.components

    def work() -> dict[str, Any]:
        subject = _find(components, viewer, id, "document")
        return patient_document(components, subject, viewer.caller)

    content = json.dumps(await run_in_threadpool(work), ensure_ascii=False)
    name = {"Content-Disposition": 'attachment; filename="summary.json"'}
    return Response(content, media_type=MEDIA_TYPE, headers=name)


@router.get("/patient/{id}/glucose")
async def glucose(
    request: Request,
    viewer: ViewerHere,
    id: PatientId,  # noqa: A002 - as in the path
    zone: Annotated[str, Query(max_length=64)] = "UTC",
) -> HTMLResponse:
    """The glucose of the last fourteen days, by the clock of the viewer's zone."""
    require_scope(viewer, "risk:read")
    components, own_zone = request.app.state.components, _read_zone(zone, viewer)

    def work() -> dict[str, Any]:
        subject = _find(components, viewer, id, "glucose")
        found = glucose_view(components.journal, subject, own_zone.key)
        return {"view": found, "name": components.identities.find([subject]).get(subject, "")}

    shown = await run_in_threadpool(work)
    return render("glucose.html", viewer.words, viewer=viewer, id=id, zone=own_zone.key, **shown)


def _read_zone(zone: str, viewer: Viewer) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PageError(422, "view.no_zone", viewer.words) from None


def _is_out_of_date(report: RiskReport | None) -> bool:
    if report is None:
        return False
    risk = report.risk
    return is_out_of_date(report.latest_reading_hours, risk.band, risk.news2, risk.findings)


def _find(components: Any, viewer: Viewer, identity: str, page: Page) -> str:
    """Return the subject key of a patient whom the viewer may see, once it is reported that they will."""
    subject: str | None = components.patient_views.find(identity, viewer.caller)
    if subject is None:
        raise PageError(404, "view.unknown", viewer.words)
    components.audit.viewed(viewer.caller, page, [subject])
    return subject


async def _show(
    request: Request,
    viewer: Viewer,
    identity: str,
    page: Page,
    hours: float,
    since: datetime | None,
    until: datetime | None,
) -> dict[str, Any]:
    """Return what is shown, once it is reported that it will be."""
    require_scope(viewer, "risk:read")
    components = request.app.state.components
    span = choose_span(present().to_pydatetime(), hours, since, until)

    def work() -> dict[str, Any]:
        subject = _find(components, viewer, identity, page)
        return {"view": components.patient_views.view(subject, span, viewer.caller, viewer.words)}

    shown = await run_in_threadpool(work)
    shown["is_out_of_date"] = _is_out_of_date(shown["view"].report)
    return shown | {"hours": hours, "choices": HOURS, "is_chosen": since is not None and until is not None}
