"""Patients in the style of Synthea's R4 transactions: the whole record of a life, of which Vigil uses a small part.

The shape is that of Synthea: ``urn:uuid`` references, conditional references to organisations and practitioners that are in
another file, categories and profiles of US Core, panels, surveys, and resources of many types. The content is made up here.
"""

import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.support.fhir_resources import CATEGORY, LOINC, SNOMED, UCUM, concept

SYNTHEA = "https://github.com/synthetichealth/synthea"
_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
_ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
# LOINC, name, unit, range, and the signal that it is; None: of no signal here.
_VITAL_SIGNS = (
    ("8302-2", "Body Height", "cm", (155, 190), "body_height"),
    ("29463-7", "Body Weight", "kg", (55, 95), "body_weight"),
    ("39156-5", "Body Mass Index", "kg/m2", (19, 33), None),
    ("8867-4", "Heart rate", "/min", (60, 100), "heart_rate"),
    ("9279-1", "Respiratory rate", "/min", (12, 18), "respiratory_rate"),
    ("8310-5", "Body temperature", "Cel", (36, 38), "body_temperature"),
    ("2708-6", "Oxygen saturation in Arterial blood", "%", (92, 99), "spo2"),
)
_LABORATORY = (
    ("2339-0", "Glucose [Mass/volume] in Blood", "mg/dL", (70, 120), "glucose"),
    ("6298-4", "Potassium [Moles/volume] in Blood", "mmol/L", (3.6, 5.2), None),
    ("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", (12, 17), "hemoglobin"),
    ("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", (4, 7), None),
)


@dataclass
class Record:
    """A patient's bundle, and what of it counts.

    Attributes:
        bundle: a transaction.
        identifier: ``SYSTEM|VALUE`` of the patient, the first one.
        readings: ``signal, value`` of each reading that a hospital would expect, sorted.
        unused: positions of entries that are of no use here.
    """

    bundle: dict
    identifier: str
    readings: list = field(default_factory=list)
    unused: set = field(default_factory=set)


class _Life:
    """Makes one patient's entries, in their order."""

    def __init__(self, seed, encounters):
        self.random = random.Random(seed)
        self.entries, self.readings, self.unused = [], [], set()
        self.patient = self._uuid()
        self.patient_id = self.patient.removeprefix("urn:uuid:")
        self._add(self._patient(), self.patient)
        start = datetime(2013, 5, 24, 20, 13, 12, tzinfo=UTC)
        for number in range(encounters):
            self._encounter(start + timedelta(days=370 * number))
        self._unused("Provenance", target=[{"reference": self.patient}], recorded="2026-01-01T00:00:00Z")

    def _uuid(self):
        return f"urn:uuid:{uuid.UUID(int=self.random.getrandbits(128), version=4)}"

    def _add(self, resource, full_url=None):
        url = full_url or self._uuid()
        own = {"resourceType": resource["resourceType"], "id": url.removeprefix("urn:uuid:"), **resource}
        self.entries.append({"fullUrl": url, "resource": own, "request": {"method": "POST", "url": resource["resourceType"]}})
        return url

    def _unused(self, kind, **more):
        self.unused.add(len(self.entries))
        return self._add({"resourceType": kind, **more})

    def _patient(self):
        types = "http://terminology.hl7.org/CodeSystem/v2-0203"
        return {
            "resourceType": "Patient",
            "meta": {"profile": [f"{_US_CORE}/us-core-patient"]},
            "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Generated</div>'},
            "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName", "valueString": "M"}],
            "identifier": [
                {"system": SYNTHEA, "value": self.patient_id},
                {
                    "type": {**concept((types, "MR")), "text": "Medical Record Number"},
                    "system": "http://hospital.smarthealthit.org",
                    "value": self.patient_id,
                },
            ],
            "name": [{"use": "official", "family": "Example", "given": ["Made", "Up"], "prefix": ["Mrs."]}],
            "telecom": [{"system": "phone", "value": "555-0100", "use": "home"}],
            "gender": "female",
            "birthDate": "1958-03-11",
            "address": [{"line": ["1 Example Street"], "city": "Boston", "state": "MA", "country": "US"}],
            "maritalStatus": concept(("http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "M")),
            "multipleBirthBoolean": False,
            "communication": [{"language": concept(("urn:ietf:bcp:47", "en-US"))}],
        }

    def _encounter(self, start):
        by = {"reference": "Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|9999999999", "display": "Dr. Example"}
        end = start + timedelta(minutes=15)
        encounter = self._add(
            {
                "resourceType": "Encounter",
                "meta": {"profile": [f"{_US_CORE}/us-core-encounter"]},
                "status": "finished",
                "class": {"system": _ACT, "code": "AMB"},
                "type": [{**concept((SNOMED, "162673000")), "text": "General examination of patient (procedure)"}],
                "subject": {"reference": self.patient, "display": "Mrs. Example"},
                "participant": [{"individual": by, "period": {"start": _time(start), "end": _time(end)}}],
                "period": {"start": _time(start), "end": _time(end)},
                "location": [{"location": {"reference": f"Location?identifier={SYNTHEA}|clinic-1", "display": "CLINIC"}}],
                "serviceProvider": {"reference": f"Organization?identifier={SYNTHEA}|organisation-1", "display": "CLINIC"},
            }
        )
        common = {"subject": {"reference": self.patient}, "encounter": {"reference": encounter}}
        self._unused("Condition", code=concept((SNOMED, "444814009")), onsetDateTime=_time(start), **common)
        for kind, signs in (("vital-signs", _VITAL_SIGNS), ("laboratory", _LABORATORY)):
            for code, name, unit, (low, high), signal in signs:
                value = round(self.random.uniform(low, high), 1)
                quantity = {"value": value, "unit": unit, "system": UCUM, "code": unit}
                self._observation(kind, start, common, {**concept(code), "text": name}, valueQuantity=quantity)
                if signal is not None:
                    self.readings.append((signal, value))
        self._pressure(start, common)
        self._survey(start, common)
        self._unused("DiagnosticReport", status="final", code=concept("51990-0"), effectiveDateTime=_time(start), **common)
        self._unused("Immunization", status="completed", patient=common["subject"], occurrenceDateTime=_time(start))
        billed = {"status": "active", "use": "claim", "patient": common["subject"], "created": _time(end)}
        claim = self._unused("Claim", **billed)
        self._unused("ExplanationOfBenefit", claim={"reference": claim}, outcome="complete", **billed)

    def _observation(self, kind, start, common, code, **value):
        self._add(
            {
                "resourceType": "Observation",
                "meta": {"profile": [f"{_US_CORE}/us-core-{kind}"]},
                "status": "final",
                "category": [concept((CATEGORY, kind))],
                "code": code,
                **common,
                "effectiveDateTime": _time(start),
                "issued": _time(start + timedelta(milliseconds=111)),
                **value,
            }
        )

    def _pressure(self, start, common):
        parts = []
        for code, signal, (low, high) in (("8462-4", "diastolic_bp", (60, 90)), ("8480-6", "systolic_bp", (100, 140))):
            value = float(self.random.randint(low, high))
            quantity = {"value": value, "unit": "mm[Hg]", "system": UCUM, "code": "mm[Hg]"}
            parts.append({"code": concept(code), "valueQuantity": quantity})
            self.readings.append((signal, value))
        self._observation("vital-signs", start, common, concept("85354-9"), component=parts)

    def _survey(self, start, common):
        score = {"value": 2.0, "unit": "{score}", "system": UCUM, "code": "{score}"}
        self._observation("survey", start, common, concept("72514-3"), valueQuantity=score)
        smoking = {**concept((SNOMED, "266919005")), "text": "Never smoked tobacco (finding)"}
        self._observation("social-history", start, common, concept("72166-2"), valueCodeableConcept=smoking)
        answers = [
            {"code": concept(code), "valueCodeableConcept": concept((LOINC, "LA33-6"))} for code in ("56051-6", "56799-0")
        ]
        self._observation("survey", start, common, concept("93025-5"), component=answers)


def _time(time):
    """Return a time as Synthea writes it, with the offset of Boston in summer."""
    return (time - timedelta(hours=4)).replace(tzinfo=None).isoformat(timespec="milliseconds") + "-04:00"


def synthea_record(seed, encounters=3):
    """Return the record of a made-up patient."""
    life = _Life(seed, encounters)
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": life.entries}
    return Record(bundle, f"{SYNTHEA}|{life.patient_id}", sorted(life.readings), life.unused)


def hospital_information():
    """Return the bundle that is loaded before patients: organisations and practitioners, none of which is of use here."""
    entries = [
        {
            "fullUrl": f"urn:uuid:00000000-0000-4000-8000-00000000000{number}",
            "resource": {"resourceType": kind, "identifier": [{"system": SYNTHEA, "value": f"{kind.lower()}-1"}]},
            "request": {"method": "POST", "url": kind, "ifNoneExist": f"identifier={SYNTHEA}|{kind.lower()}-1"},
        }
        for number, kind in enumerate(("Organization", "Location", "Practitioner", "PractitionerRole"))
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}
