"""A bound as the API shows it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from features.signals import Side
from models.alarms.critical_bounds import Bound
from serving.records.timestamps import moment
from serving.records.ward_rows import bound_fields

Comparator = Literal["<", "<=", ">", ">="]


class BoundOut(BaseModel):
    """What a device or a laboratory reported where it could not give a value: the signal is at or beyond a limit."""

    signal: str
    side: Side
    limit: Annotated[float, Field(description="The value is not known; it is at this limit or beyond it.")]
    unit: str
    text: Annotated[str, Field(examples=["at or below 40 mg/dL"])]
    observed_at: datetime
    critical: Annotated[bool, Field(description="Whether all that it leaves possible is critical. Then it sounds an alarm.")]


def bounds_out(bounds: Iterable[Bound | Mapping[str, Any]]) -> list[BoundOut]:
    """Return bounds, or what is stored of them, as the API shows them."""
    fields = [bound_fields(bound) if isinstance(bound, Bound) else dict(bound) for bound in bounds]
    return [BoundOut(**bound | {"observed_at": moment(bound["observed_at"])}) for bound in fields]
