"""Devices: ``POST /v1/devices/status``."""

from typing import Annotated, Final

from fastapi import APIRouter, Security

from vigil.serving.api.authentication import require_scopes
from vigil.serving.api.dependencies import WardStateHere
from vigil.serving.api.schemas.devices import DeviceStatusAnswer, DeviceStatusIn
from vigil.serving.api.strict_route import StrictRoute
from vigil.serving.auth.tokens import Caller
from vigil.serving.records.silence_rows import DeviceReport
from vigil.serving.records.timestamps import microsecond, present

router: Final = APIRouter(prefix="/v1/devices", tags=["observations"], route_class=StrictRoute)


@router.post("/status", summary="Report that a device, or a gateway, is connected or disconnected")
def report_device_status(
    request: DeviceStatusIn,
    ward_state: WardStateHere,
    caller: Annotated[Caller, Security(require_scopes, scopes=["observations:write"])],
) -> DeviceStatusAnswer:
    """What only a disconnected device sends counts as stopped at once; `connected`, or a new observation of it, ends that.

    The report of a caller restricted to wards speaks for the patients of these wards only.
    """
    at = present()
    wards = None if caller.wards is None else tuple(sorted(caller.wards))
    report = DeviceReport(request.source, request.device_id, wards, request.status, microsecond(at))
    ward_state.silences.report(report, by=caller.sub)
    return DeviceStatusAnswer(
        source=request.source, device_id=request.device_id, status=request.status, recorded_at=at.to_pydatetime()
    )
