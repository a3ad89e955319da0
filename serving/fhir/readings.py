"""Readings of the journal as Observations of FHIR R4: the inverse of :mod:`vigil.serving.fhir.observations`.

Codes, units and answers are those of the same tables, so that what goes out comes in again as the same reading.
"""

import functools
from collections.abc import Sequence
from typing import Any, Final

from vigil.features.codes import LOINC, SATURATION
from vigil.features.display_names import name_signal
from vigil.features.signals import BOUNDS, STORED, measured_signal
from vigil.serving.fhir.concepts import ANSWERS, CATEGORY_SYSTEMS, CODES_OF, PRESSURES, SIGNAL_SYSTEM, SNOMED, UCUM
from vigil.serving.fhir.times import write_microseconds
from vigil.serving.records.fhir_observations import SentResource
from vigil.serving.records.journal_readings import StoredReading

_PANEL: Final = "85354-9"
# Codes of https://terminology.hl7.org/CodeSystem-observation-category.html that the kind of the signal does not give.
_CATEGORIES: Final = {
    "glucose": "laboratory",
    **dict.fromkeys(("on_oxygen", "fio2", "mechanical_ventilation"), "therapy"),
    **dict.fromkeys(("body_weight", "body_height"), "vital-signs"),
}
_OF_KIND: Final = {"vital": "vital-signs", "laboratory": "laboratory"}


def to_observation(
    identity: str, readings: Sequence[StoredReading], patient: str, *, version: int, updated_at: int, status: str
) -> dict[str, Any]:
    """Return readings as one Observation: one as its value, several as components.

    Args:
        identity: id of the resource.
        readings: those that it says, all of one time; none where what it said does not count.
        patient: reference to the Patient.
        version: of the resource.
        updated_at: microseconds.
        status: of R4.
    """
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": identity,
        "meta": {"versionId": str(version), "lastUpdated": write_microseconds(updated_at, "milliseconds")},
        "status": status,
    }
    if not readings:
        return resource | {"code": {"text": "nothing that counts"}, "subject": {"reference": patient}}
    first, *others = readings
    is_panel = bool(others)
    signals = {measured_signal(reading.signal) for reading in readings}
    resource["category"] = [{"coding": [{"system": CATEGORY_SYSTEMS[0], "code": category_of(measured_signal(first.signal))}]}]
    if is_panel:
        resource["code"] = (
            {"coding": [{"system": LOINC, "code": _PANEL}], "text": "blood pressure"}
            if signals.issubset(PRESSURES)
            else {"text": "several readings"}
        )
    else:
        resource["code"] = signal_concept(measured_signal(first.signal))
    resource |= {
        "subject": {"reference": patient},
        "effectiveDateTime": write_microseconds(first.observed_at),
        "issued": write_microseconds(first.recorded_at, "milliseconds"),
    }
    if first.device_id is not None:
        resource["device"] = {"identifier": {"value": first.device_id}}
    if first.is_derived:
        resource["note"] = [{"text": "derived from the fraction of inspired oxygen"}]
    if not is_panel:
        return resource | _value(first)
    return resource | {
        "component": [{"code": signal_concept(measured_signal(reading.signal))} | _value(reading) for reading in readings]
    }


def of_reading(identity: str, reading: StoredReading, patient: str) -> dict[str, Any]:
    """Return one reading, which no client sent as an Observation, or which no longer counts."""
    return to_observation(
        identity,
        [reading],
        patient,
        version=reading.version or 1,
        updated_at=reading.superseded_at or reading.recorded_at,
        status=status_of(reading),
    )


def of_sent(sent: SentResource, readings: Sequence[StoredReading], patient: str) -> dict[str, Any]:
    """Return an Observation that a client sent, with those of its readings that count."""
    revised = sent.version > 1 or any(reading.version not in (None, 1) for reading in readings)
    status = sent.status or ("corrected" if revised else "final")
    return to_observation(
        sent.id,
        readings,
        patient,
        version=sent.version,
        updated_at=max((reading.recorded_at for reading in readings), default=sent.updated_at),
        status=status if readings or not sent.readings else "entered-in-error",
    )


def status_of(reading: StoredReading) -> str:
    """Return the status of a reading. One in whose place another counts, or nothing, was entered in error."""
    if reading.superseded_at is not None:
        return "entered-in-error"
    return "final" if reading.version in (None, 1) else "corrected"


@functools.cache
def signal_concept(signal: str) -> dict[str, Any]:
    """Return the codes of a signal, and its name for people. SpO2 has both codes that profiles ask for."""
    own = STORED[signal].loinc
    codings = [] if own is None else [{"system": LOINC, "code": own}]
    if signal == "spo2":
        codings.append({"system": LOINC, "code": SATURATION})
    if not codings:
        codings = [
            {"system": system, "code": code} for (system, code), name in CODES_OF.items() if name == signal and system == SNOMED
        ] or [{"system": SIGNAL_SYSTEM, "code": signal}]
    return {"coding": codings, "text": name_signal(signal)}


def category_of(signal: str) -> str:
    """Return the category of a signal, a code of HL7's observation-category."""
    return _CATEGORIES.get(signal) or _OF_KIND.get(STORED[signal].kind, "exam")


def _value(reading: StoredReading) -> dict[str, Any]:
    signal = measured_signal(reading.signal)
    if signal in ANSWERS:
        code = next(code for (system, code), value in ANSWERS[signal].items() if system == SNOMED and value == reading.value)
        return {"valueCodeableConcept": {"coding": [{"system": SNOMED, "code": code}]}}
    unit = STORED[signal].unit
    value = int(reading.value) if reading.value.is_integer() else reading.value
    quantity: dict[str, Any] = {"value": value, "unit": unit, "system": UCUM, "code": unit}
    if reading.signal in BOUNDS:
        quantity = {"value": value, "comparator": "<=" if reading.signal.endswith("_below_range") else ">=", **quantity}
    return {"valueQuantity": quantity}
