"""Mapped Observations as the one way in takes them (:mod:`vigil.serving.stream.ingestion`)."""

from datetime import timedelta

from vigil.serving.fhir.observations import MappedObservation
from vigil.serving.fhir.times import EPOCH
from vigil.serving.stream.ingestion import SentObservation


def to_sent(mapped: MappedObservation, source: str, name: str) -> list[SentObservation]:
    """Return the readings of an Observation, those that are refused too, with the reason.

    Args:
        mapped: of a known patient.
        source: name of the sender, by which ``sources.toml`` declares what it leaves out.
        name: of the message, if the Observation has neither identifier nor id.

    Raises:
        ValueError: the patient is not known, so that nothing can be stored of them.
    """
    if mapped.patient_id is None:
        raise ValueError("the Observation is of no known patient")
    observed_at = _to_text(mapped.observed_at)
    return [
        SentObservation(
            message_id=reading.message_id or name,
            patient_id=mapped.patient_id,
            signal=reading.signal,
            value=reading.value,
            observed_at=observed_at,
            unit=reading.unit,
            device_id=mapped.device_id,
            source=source,
            status=reading.status,
            version=mapped.version,
            comparator=reading.comparator,
            refused=None if reading.refusal is None else reading.refusal.reason,
        )
        for reading in mapped.readings
    ]


def _to_text(microseconds: int | None) -> str | None:
    try:
        return None if microseconds is None else (EPOCH + timedelta(microseconds=microseconds)).isoformat()
    except OverflowError:  # before the year 1
        return None
