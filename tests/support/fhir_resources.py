"""FHIR R4 resources for tests, written from the specification."""

LOINC, UCUM, MDC = "http://loinc.org", "http://unitsofmeasure.org", "urn:iso:std:iso:11073:10101"
SNOMED = "http://snomed.info/sct"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"


def concept(*codings):
    """Return a CodeableConcept of codes; of LOINC, if no system is given."""
    pairs = [(LOINC, coding) if isinstance(coding, str) else coding for coding in codings]
    return {"coding": [{"system": system, "code": code} for system, code in pairs]}


def quantity(value, code=None, **more):
    return {"value": value, **({} if code is None else {"system": UCUM, "code": code}), **more}


def observation(code="8867-4", value=80, unit="/min", **more):
    """Return an Observation of Patient/12; what is given as None is left out."""
    resource = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "category": [concept((CATEGORY, "vital-signs"))],
        "code": concept(*(code if isinstance(code, list) else [code])),
        "subject": {"reference": "Patient/12"},
        "effectiveDateTime": "2026-01-31T08:00:00Z",
    }
    if value is not None:
        resource["valueQuantity"] = value if isinstance(value, dict) else quantity(value, unit)
    return {name: part for name, part in (resource | more).items() if part is not None}


def component(code, value=None, unit=None, **more):
    own = {} if value is None else {"valueQuantity": quantity(value, unit)}
    return {"code": concept(code) if not isinstance(code, dict) else code, **own, **more}


def panel(*components, code="85354-9", **more):
    return observation(code, None, **{"component": list(components), **more})
