"""Device as a report: whether a device is connected. What only a disconnected one measures counts as stopped at once."""

from collections.abc import Mapping
from typing import Any, Final

from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.references import identifier_keys
from vigil.serving.records.silence_rows import DeviceStatus

_STATUSES: Final[Mapping[str, DeviceStatus]] = {"active": "connected", "inactive": "disconnected"}
# Codes of https://hl7.org/fhir/R4/codesystem-device-status-reason.html: the device is there and measures nothing.
_OFF: Final = frozenset(("offline", "off", "not-ready", "transduc-discon", "hw-discon"))
_LONGEST: Final = 128  # characters of a name; as the API accepts


def read_device_report(device: Mapping[str, Any]) -> tuple[list[str], DeviceStatus]:
    """Return the names by which Observations may mean a Device, and whether it is connected.

    Raises:
        FhirError: it has no name that can be used, or no status that says it (422).

    >>> read_device_report({"id": "monitor-12", "status": "active", "statusReason": [{"coding": [{"code": "offline"}]}]})
    (['monitor-12'], 'disconnected')
    """
    identity, sent = device.get("id"), device.get("status")
    names = [identity] if isinstance(identity, str) else []
    names += [key.partition("|")[2] for key in identifier_keys(device)]
    usable = [name for name in dict.fromkeys(names) if 0 < len(name) <= _LONGEST]
    if not usable:
        raise FhirError(422, f"identifier: expected one of at most {_LONGEST} characters, or an id", ["Device.identifier"])
    status = _STATUSES.get(sent) if isinstance(sent, str) else None
    if status is None:
        raise FhirError(422, f"status: expected one of {', '.join(_STATUSES)}", ["Device.status"])
    return usable, "disconnected" if _codes(device.get("statusReason")) & _OFF else status


def _codes(concepts: Any) -> set[str]:
    codings = [
        coding
        for concept in (concepts if isinstance(concepts, list) else [])
        for coding in (concept.get("coding") or [] if isinstance(concept, Mapping) else [])
    ]
    return {coding["code"] for coding in codings if isinstance(coding, Mapping) and isinstance(coding.get("code"), str)}
