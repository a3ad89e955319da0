"""Requests and answers about devices: whether one is connected."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from vigil.serving.api.schemas.request import Name, Request, example
from vigil.serving.records.silence_rows import DeviceStatus


class DeviceStatusIn(Request):
    """What a gateway knows of one of its devices, or says of itself: as an MQTT last will does."""

    model_config = example({"source": "gateway-7", "device_id": "monitor-12", "status": "disconnected"})

    source: Annotated[Name, Field(examples=["gateway-7"], description="The gateway, as its observations name it.")]
    device_id: Annotated[
        Name | None, Field(examples=["monitor-12"], description="The device; null or absent: the gateway itself.")
    ] = None
    status: DeviceStatus


class DeviceStatusAnswer(BaseModel):
    """The report as it is stored. Whether the device is known is not said: it may be of another ward."""

    source: str
    device_id: str | None
    status: DeviceStatus
    recorded_at: datetime
