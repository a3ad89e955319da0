"""The pages of the wards: which there are, one ward live, and what is done about its alarms."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BeforeValidator, Field

from vigil.serving.api.alarm_actions import OVERRIDE_REASONS, record_action
from vigil.serving.api.problems import ProblemError
from vigil.serving.api.routes.ward_events import EventStream
from vigil.serving.api.schemas.request import WardName
from vigil.serving.api.ward_list import WardEntry
from vigil.serving.login.dependencies import OpenSession, watch_session
from vigil.serving.login.forms import read_form
from vigil.serving.pages.site import PageError, Viewer, ViewerHere, render, render_part, require_scope
from vigil.serving.pages.ward_view import TREND_HOURS, LeftOut, WardHead, WardRow, choose_visits
from vigil.serving.records.database import DatabaseError
from vigil.serving.records.timestamps import present
from vigil.serving.records.ward_rows import Action
from vigil.serving.words import words_for

router: Final = APIRouter(include_in_schema=False)

_ACTIONS: Final[Mapping[str, Action]] = {action: action for action in get_args(Action)}
_LOOK_SECONDS: Final = 1.0  # between looks for news: changes of one second become one message
_SIGN_SECONDS: Final = 5.0  # between signs of life, so that a page knows that it is live
_RENEW_SECONDS: Final = 60.0  # after which every row is sent again, since ages and findings change by themselves
_MOST_EVENTS: Final = 500

WardHere = Annotated[WardName, Path()]
# How many patients can be seen this hour; a form that was left empty sends an empty text.
Visits = Annotated[Annotated[int, Field(ge=0, le=500)] | None, BeforeValidator(lambda text: text or None), Query()]


@router.get("/wards")
async def wards(request: Request, viewer: ViewerHere) -> Response:
    """The wards that a viewer may see; of one only, its page. Who sees no patients is led to operations."""
    if not viewer.caller.has_scope("ward:read") and viewer.caller.has_scope("operations:read"):
        return RedirectResponse("/operations", 303)
    require_scope(viewer, "ward:read")
    components = request.app.state.components
    counts = await run_in_threadpool(components.ward_views.wards, viewer.caller)
    if viewer.caller.wards is not None and len(viewer.caller.wards) == 1:
        return RedirectResponse(f"/ward/{next(iter(viewer.caller.wards))}", 303)
    components.audit.viewed(viewer.caller, "wards", ())
    return render("wards.html", viewer.words, viewer=viewer, wards=counts)


@router.get("/ward/{ward}")
async def ward_page(request: Request, viewer: ViewerHere, ward: WardHere, visits: Visits = None) -> HTMLResponse:
    """The patients of a ward by urgency. ``visits``: how many can be seen this hour."""
    _require_ward(viewer, ward)
    components = request.app.state.components

    def work() -> dict[str, Any]:
        entries, seen, left_out = _by_urgency(components, viewer, ward, visits)
        components.audit.viewed(viewer.caller, "ward", [entry.risk.subject_id for entry in entries])
        _, last = components.ward_state.event_range(ward)
        return {
            "rows": components.ward_views.rows(entries, reasons=False),  # those that are not known yet follow at once
            "head": components.ward_views.head(ward, entries),
            "seen": seen,
            "left_out": left_out,
            "last_event": last,
            "known": _is_known(components, ward, entries),
        }

    shown = await run_in_threadpool(work)
    return render("ward.html", viewer.words, viewer=viewer, ward=ward, visits=visits, **_constants(viewer), **shown)


@router.get("/ward/{ward}/live")
async def follow(
    request: Request,
    ward: WardHere,
    session: Annotated[OpenSession, Depends(watch_session)],
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[int, Query(ge=-1)] = -1,
    visits: Visits = None,
) -> Response:
    """Server-sent events for the page of a ward: rendered rows that changed, their order, and signs of life."""
    viewer = Viewer(session, words_for(request))
    _require_ward(viewer, ward)
    number = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else after
    components = request.app.state.components
    return EventStream(_live(components, viewer, ward, number, visits), viewer.caller, components.streams)


def _by_urgency(components: Any, viewer: Viewer, ward: str, visits: int | None) -> tuple[list[WardEntry], int, LeftOut | None]:
    """Return the patients of a ward in the order of its page, how many of them are to be seen, and whom that leaves out."""
    entries: list[WardEntry] = components.ward_views.entries(ward, viewer.caller)
    if visits is None:
        return entries, len(entries), None
    seen, others, left_out = choose_visits(entries, visits)
    return seen + others, len(seen), left_out


def _is_known(components: Any, ward: str, entries: Sequence[WardEntry]) -> bool:
    return bool(entries) or components.journal.has_ward(ward)


async def _live(components: Any, viewer: Viewer, ward: str, after: int, visits: int | None) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    hears_alarms = viewer.caller.has_scope("alarms:read")
    shown_at, sent_at = loop.time(), loop.time()
    first = True
    while True:
        try:
            events = await run_in_threadpool(components.ward_state.events, ward, after, _MOST_EVENTS)
            is_due = first or loop.time() - shown_at > _RENEW_SECONDS
            if events or is_due:
                changed = None if is_due else {event.subject_id for event in events}
                after = events[-1].number if events else after
                news = await run_in_threadpool(_news, components, viewer, ward, changed, visits)
                sounds = sum(event.kind == "alarm" for event in events) if hears_alarms else 0
                yield _message(after, "rows", news | {"sounds": sounds})
                sent_at = loop.time()
                if is_due:
                    shown_at, first = loop.time(), False
        except DatabaseError:
            return  # a page that connects again gets an error or the news
        if loop.time() - sent_at > _SIGN_SECONDS:
            yield _message(after, "sign", {"at": present().isoformat()})
            sent_at = loop.time()
        await asyncio.sleep(_LOOK_SECONDS)


def _news(components: Any, viewer: Viewer, ward: str, changed: set[str | None] | None, visits: int | None) -> dict[str, Any]:
    """Return the rows of changed subjects (None: of all), the order of all rows, who is left out, and the head of the page."""
    entries, seen, left_out = _by_urgency(components, viewer, ward, visits)
    wanted = [entry for entry in entries if changed is None or entry.risk.subject_id in changed]
    components.audit.viewed(viewer.caller, "ward live", [entry.risk.subject_id for entry in wanted])
    rows = components.ward_views.rows(wanted)
    head: WardHead = components.ward_views.head(ward, entries)
    known = _is_known(components, ward, entries)
    return {
        "at": present().isoformat(),
        "all": changed is None,
        "rows": {row.id: _row(viewer, ward, row) for row in rows},
        "order": [components.ward_views.id_of(entry) for entry in entries],
        "visits": {"place": seen, "html": render_part("ward_cut.html", viewer.words, left_out=left_out)}
        if left_out and entries
        else None,
        "head": render_part("ward_head.html", viewer.words, head=head, number=len(entries), known=known),
    }


def _row(viewer: Viewer, ward: str, row: WardRow) -> str:
    return render_part("ward_row.html", viewer.words, viewer=viewer, ward=ward, row=row, **_constants(viewer))


def _message(number: int, kind: str, content: Mapping[str, Any]) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(content)}\n\n"


@router.post("/ward/{ward}/alarms/{alarm_id}")
async def act(
    request: Request,
    viewer: ViewerHere,
    ward: WardHere,
    alarm_id: Annotated[str, Path(max_length=64)],
) -> RedirectResponse:
    """Record that the viewer takes care of an alarm, or that it was not right, and why."""
    _require_ward(viewer, ward)
    require_scope(viewer, "alarms:write")
    components = request.app.state.components
    form = await read_form(request)
    action, reason = _ACTIONS.get(form.get("action", "")), form.get("reason")
    if action is None or (action == "overridden" and reason not in OVERRIDE_REASONS):
        raise PageError(422, "alarm.choose", viewer.words)

    own = reason if action == "overridden" else None
    try:
        await run_in_threadpool(record_action, components.ward_state, components.metrics, viewer.caller, alarm_id, action, own)
    except ProblemError as error:
        key = "alarm.done" if error.status_code == HTTPStatus.CONFLICT else "site.not_found_text"
        raise PageError(error.status_code, key, viewer.words) from None
    return RedirectResponse(f"/ward/{ward}", 303)


def _require_ward(viewer: Viewer, ward: str) -> None:
    """Check that a viewer may see a ward; to others it is as if there were none."""
    require_scope(viewer, "ward:read")
    if not viewer.caller.can_see(ward):
        raise PageError(404, "site.not_found_text", viewer.words)


def _constants(viewer: Viewer) -> dict[str, Any]:
    return {
        "trend_hours": TREND_HOURS,
        "override_reasons": OVERRIDE_REASONS,
        "may_act": viewer.caller.has_scope("alarms:write"),
        "may_open": viewer.caller.has_scope("risk:read"),
    }
