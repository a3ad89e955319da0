"""The walk of a record system through the FHIR routes, with fhirpy. Prints what it got as JSON."""

import json
import os
import sys
import time

from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome

sent = json.loads(sys.argv[1])
client = SyncFHIRClient(f"{os.environ['URL']}/fhir", authorization=f"Bearer {os.environ['TOKEN']}")
said = {"fhir_version": client.execute("metadata", method="get")["fhirVersion"]}

patient = client.resource("Patient", **sent["patient"])
patient.save()
said["patient"] = patient.id
encounter = client.resource("Encounter", **sent["encounter"])
encounter.save()
said["encounter"] = encounter.id

observation = client.resource("Observation", **sent["observations"][0])
observation.save()
said["observation"] = observation.id
search = client.resources("Observation").search(identifier=sent["identifier"])
_, is_new = search.get_or_create(client.resource("Observation", **sent["observations"][0]))
said["created_again"] = is_new

changed = client.resource("Patient", **sent["patient"])
_, is_new = client.resources("Patient").search(identifier=sent["patient_identifier"]).update(changed)
said["patient_created_again"] = is_new

observation["valueQuantity"]["value"] += 1
observation["status"] = "corrected"
observation.save()
said["version_after_update"] = observation["meta"]["versionId"]
mistaken = client.resource("Observation", **sent["mistaken"])
mistaken.save()
mistaken.delete()

try:
    client.resource("Observation", **sent["refused"]).save()
except OperationOutcome as error:
    said["refused"] = error.resource["issue"][0]["details"]["text"]

for kind in ("batch", "transaction"):
    bundle = client.resource("Bundle", **sent[kind])
    bundle.save()
    said[kind] = [entry["response"]["status"] for entry in bundle["entry"]]

deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    found = client.resources("RiskAssessment").search(patient=f"Patient/{patient.id}").fetch()
    if found and found[0].get_by_path(["prediction", 0, "qualitativeRisk", "text"]) == sent["band"]:
        break
    time.sleep(0.2)
said["risks"] = [risk.get_by_path(["prediction", 0, "qualitativeRisk", "text"]) for risk in found]
said["subject"] = found[0]["subject"]["reference"] if found else None
print(json.dumps(said))
