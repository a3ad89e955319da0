"""A bound as the API shows it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from vigil.features.signal import Side
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.patient_terms import Breach
from vigil.serving.records.timestamps import moment
from vigil.serving.records.ward_rows import bound_fields

Comparator = Literal["<", "<=", ">", ">="]


class BoundOut(BaseModel):
    """A signal is at or beyond a limit: a device or a laboratory could not give a value, or staff set it for the patient."""

    signal: str
    side: Side
    limit: Annotated[float, Field(description="The value is at this limit or beyond it.")]
    unit: str
    text: Annotated[str, Field(examples=["at or below 40 mg/dL"])]
    observed_at: datetime
    set_by: Annotated[
        Literal["device", "staff"],
        Field(description="device: the value is not known. staff: it is a limit of the patient, which the value reaches."),
    ] = "device"
    critical: Annotated[bool, Field(description="Whether all that it leaves possible is critical. Then it sounds an alarm.")]


def bounds_out(bounds: Iterable[Bound | Breach | Mapping[str, Any]]) -> list[BoundOut]:
    """Return bounds, or what is stored of them, as the API shows them."""
    fields = [bound_fields(bound) if isinstance(bound, Bound | Breach) else dict(bound) for bound in bounds]
    return [BoundOut(**bound | {"observed_at": moment(bound["observed_at"])}) for bound in fields]
