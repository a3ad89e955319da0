"""The page of operations."""

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse

from vigil.serving.pages.operations_view import WEEK_DAYS
from vigil.serving.pages.site import ViewerHere, render, require_scope

router: Final = APIRouter(include_in_schema=False)

SCOPE: Final = "operations:read"


@router.get("/operations")
async def operations(request: Request, viewer: ViewerHere) -> HTMLResponse:
    """How sources, the model and the server are doing. Budgets and silences are of the wards that the viewer may see.

    What is of no ward, such as the counts of sources, is for those who may see all wards.
    """
    require_scope(viewer, SCOPE)
    components = request.app.state.components
    components.audit.viewed(viewer.caller, "operations", ())
    common = await components.operations.get()

    def of_wards() -> dict[str, Any]:
        views = components.operations_views
        return {"budgets": views.budgets(viewer.caller), "silences": views.silent_sources(viewer.caller)}

    shown = await run_in_threadpool(of_wards)
    return render(
        "operations.html",
        viewer.words,
        viewer=viewer,
        common=common,
        sees_all=viewer.caller.wards is None,
        week_days=WEEK_DAYS,
        links=components.operations_views.links,
        **shown,
    )
