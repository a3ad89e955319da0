"""How a risk came about, as a Provenance of FHIR R4 (https://hl7.org/fhir/R4/provenance.html). It names no patient."""

from collections.abc import Sequence
from typing import Any, Final

from vigil.serving.fhir.risk_assessments import device_of
from vigil.serving.fhir.software_device import DEVICE_REFERENCE
from vigil.serving.fhir.times import write_instant
from vigil.serving.records.timestamps import microsecond
from vigil.serving.scoring.past_risks import INPUTS_HOURS, PastRisk

_ROLES: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_ACTIVITIES: Final = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"


def to_provenance(past: PastRisk, inputs: Sequence[str], number: int, model_digest: str | None) -> dict[str, Any]:
    """Return the resource.

    Args:
        past: the risk.
        inputs: references to the Observations that it is made of.
        number: how many readings there were, of which these are the latest of each signal.
        model_digest: SHA-256 of the model's artifact; None: no model, or the registry does not hold it any more.
    """
    read_until = past.report.risk.index_time
    readings = f"{number} readings of the {INPUTS_HOURS} h before, as recorded until {write_instant(read_until)}"
    entities = [{"reference": reference} for reference in inputs]
    entities.append(_named("urn:vigil:journal-time", str(microsecond(read_until)), readings))
    if past.report.risk.basis == "model" and past.model is not None:
        name = "model {} version {}".format(*past.model)
        gone = f"{name}, which the registry does not hold any more"
        entities.append(
            {"display": gone} if model_digest is None else _named("urn:vigil:model-artifact", f"sha256:{model_digest}", name)
        )
    if past.code is not None:
        version, _, digest = past.code.partition(" ")
        entities.append(_named("urn:vigil:code", digest, f"Vigil {version}"))
    return {
        "resourceType": "Provenance",
        "id": past.report.prediction_id,
        "contained": [device_of(past.report, past.model)],
        "target": [{"reference": f"RiskAssessment/{past.report.prediction_id}"}],
        "recorded": write_instant(past.made_at),
        "activity": {"coding": [{"system": _ACTIVITIES, "code": "CREATE"}]},
        "agent": [{"type": {"coding": [{"system": _ROLES, "code": "assembler"}]}, "who": DEVICE_REFERENCE}],
        "entity": [{"role": "source", "what": what} for what in entities],
    }


def _named(system: str, value: str, display: str) -> dict[str, Any]:
    return {"identifier": {"system": system, "value": value}, "display": display}
