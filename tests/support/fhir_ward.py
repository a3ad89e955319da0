"""The simulated ward as the folder of a FHIR bulk export, and the same ward as a native source."""

import gzip
import json
from dataclasses import replace
from datetime import timedelta

import pandas as pd

from tests.support.fhir_resources import LOINC, SNOMED, concept, quantity
from vigil.features.signals import SIGNALS
from vigil.pipelines.sources import Source
from vigil.pipelines.sources.simulated import SimulatedWard

OUTCOME = (SNOMED, "271299001")
SETTINGS = f"""
name = "fhir-ward"
task = "deterioration"
deidentified = true

[outcomes]
death = false
conditions = ["{OUTCOME[0]}|{OUTCOME[1]}"]
"""
STATUSES = {"final": "final", "corrected": "corrected", "retracted": "entered-in-error"}
ACVPU = ("248234008", "130987000", "300202002", "450847001", "422768004")


class RenamedWard(Source):
    """The simulated ward under the names that its FHIR export gives: every stay is of a patient and an encounter."""

    name, simulated, deidentified, shifted_dates = "fhir-ward", True, True, False

    def __init__(self, every=1, **ward):
        self.every = every
        self.ward = SimulatedWard(**ward)
        self.task, self.declared = self.ward.task, self.ward.declared

    def __len__(self):
        return len(self.ward)

    def batches(self):
        for batch in self.ward.batches():
            tables = {
                name: getattr(batch, name).assign(subject_id=lambda table: table["subject_id"].map(rename))
                for name in ("observations", "stays", "outcomes")
            }
            observations = thin(tables["observations"], self.every).assign(source="fhir-ward")
            yield replace(batch, **tables | {"observations": observations})


def thin(observations, every):
    """Return the readings of one minute in so many, with all versions of each."""
    minute = observations["observed_at"].dt.floor("min").dt.tz_localize(None).to_numpy("datetime64[m]").astype(int)
    by_nurses = observations["device_id"].astype(str).str.startswith(("chart", "trolley", "thermometer"))
    return observations[(minute % every == 0) | by_nurses]


def rename(subject):
    return f"{subject.partition('~')[0]}~{encounter_of(subject)}"


def encounter_of(subject):
    return "e-" + subject.replace("~", "-")


def write_export(folder, every=1, **ward):
    """Write the export of a simulated ward (:func:`thin`), half of it gzipped, and its settings."""
    folder.mkdir(exist_ok=True)
    files = {name: [] for name in ("Patient", "Encounter", "Condition", "Device", "Observation")}
    for batch in SimulatedWard(**ward).batches():
        for stay in batch.stays.itertuples():
            if not stay.subject_id.endswith("~2"):
                files["Patient"].append(patient_of(stay))
            files["Encounter"].append(encounter(stay))
        for outcome in batch.outcomes.itertuples():
            files["Condition"].append(condition(outcome))
        devices = sorted(set(batch.observations["device_id"].dropna()))
        files["Device"] += [{"resourceType": "Device", "id": name} for name in devices]
        files["Observation"] += [observation_of(row) for row in thin(batch.observations, every).itertuples()]
    for name, resources in files.items():
        lines = "".join(json.dumps(resource) + "\n" for resource in resources)
        if name == "Observation":
            half = len(resources) // 2
            text = lines.splitlines(keepends=True)
            (folder / "Observation.000.ndjson").write_text("".join(text[:half]))
            (folder / "Observation.001.ndjson.gz").write_bytes(gzip.compress("".join(text[half:]).encode(), 1))
        else:
            (folder / f"{name}.ndjson").write_text(lines)
    (folder / "fhir.toml").write_text(SETTINGS)


def instant(time):
    return time.isoformat().replace("+00:00", "Z")


def patient_of(stay):
    born = (stay.start - timedelta(days=stay.age * 365.25)).date()
    gender = {0.0: "female", 1.0: "male"}[stay.sex]
    return {
        "resourceType": "Patient",
        "id": stay.subject_id.partition("~")[0],
        "gender": gender,
        "birthDate": born.isoformat(),
    }


def encounter(stay):
    return {
        "resourceType": "Encounter",
        "id": encounter_of(stay.subject_id),
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": f"Patient/{stay.subject_id.partition('~')[0]}"},
        "period": {"start": instant(stay.start), "end": instant(stay.end)},
        "location": [{"location": {"display": stay.unit}}],
    }


def condition(outcome):
    return {
        "resourceType": "Condition",
        "id": "c-" + encounter_of(outcome.subject_id),
        "code": concept(OUTCOME),
        "subject": {"reference": f"Patient/{outcome.subject_id.partition('~')[0]}"},
        "encounter": {"reference": f"Encounter/{encounter_of(outcome.subject_id)}"},
        "onsetDateTime": instant(outcome.onset),
    }


def observation_of(row):
    """Return one version of a reading. Patients with odd numbers name no encounter, so that time tells the stay."""
    patient = row.subject_id.partition("~")[0]
    signal = SIGNALS[row.signal]
    resource = {
        "resourceType": "Observation",
        "id": row.message_id,
        "meta": {"versionId": str(row.version)} if not pd.isna(row.version) else {},
        "status": STATUSES[row.status],
        "code": concept((LOINC, signal.loinc) if signal.loinc else ("urn:vigil:signal", signal.name)),
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": instant(row.observed_at),
        "issued": instant(row.recorded_at),
        "device": {"reference": f"Device/{row.device_id}"},
    }
    if int(patient[-1]) % 2 == 0:
        resource["encounter"] = {"reference": f"Encounter/{encounter_of(row.subject_id)}"}
    if pd.isna(row.value):
        return resource
    if signal.name == "consciousness":
        return resource | {"valueCodeableConcept": concept((SNOMED, ACVPU[int(row.value)]))}
    if signal.loinc is None:
        return resource | {"valueInteger": int(row.value)}
    return resource | {"valueQuantity": quantity(float(row.value), signal.unit)}
