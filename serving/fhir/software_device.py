"""What made a risk or an alarm, as a contained Device of FHIR R4: a model with its version, or the chart of NEWS2 alone."""

from typing import Any, Final

DEVICE_ID: Final = "device"
DEVICE_REFERENCE: Final = {"reference": f"#{DEVICE_ID}"}


def software_device(model_name: str | None, model_version: str | None, feature_service: str) -> dict[str, Any]:
    """Return the Device.

    Args:
        model_name, model_version: None: NEWS2 alone.
        feature_service: the features that the model read.
    """
    device: dict[str, Any] = {
        "resourceType": "Device",
        "id": DEVICE_ID,
        "deviceName": [{"name": "Vigil", "type": "user-friendly-name"}],
    }
    if model_name is not None:
        device["deviceName"].append({"name": model_name, "type": "model-name"})
        device["version"] = [
            {"type": {"text": "model"}, "value": str(model_version)},
            {"type": {"text": "feature service"}, "value": feature_service},
        ]
    return device
