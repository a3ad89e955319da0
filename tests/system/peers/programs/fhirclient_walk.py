"""The walk of a record system through the FHIR routes, with the R4 models of fhirclient. Prints what it got as JSON."""

import json
import os
import sys
import time

from fhirclient.models.bundle import Bundle
from fhirclient.models.capabilitystatement import CapabilityStatement
from fhirclient.models.encounter import Encounter
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirclient.models.riskassessment import RiskAssessment
from fhirclient.server import FHIRServer
from requests import HTTPError


class Bearer:
    """Signs requests with a token that is at hand."""

    ready = True

    def can_sign_headers(self):
        return True

    def signed_headers(self, headers):
        return {**(headers or {}), "Authorization": f"Bearer {os.environ['TOKEN']}"}


sent = json.loads(sys.argv[1])
server = FHIRServer(None, f"{os.environ['URL']}/fhir")
server.auth = Bearer()
said = {"fhir_version": CapabilityStatement.read_from("metadata", server).fhirVersion}

patient = Patient(Patient(sent["patient"]).create(server))
said["patient"] = patient.id
said["encounter"] = Encounter(Encounter(sent["encounter"]).create(server)).id
observation = Observation(Observation(sent["observations"][0]).create(server))
said["observation"] = observation.id

condition = {"If-None-Exist": f"identifier={sent['identifier']}", "Authorization": f"Bearer {os.environ['TOKEN']}"}
again = server.session.post(f"{server.base_uri}Observation", json=sent["observations"][0], headers=condition)
said["created_again"] = again.status_code == 201
update = server.put_json(f"Patient?identifier={sent['patient_identifier']}", sent["patient"])
said["patient_created_again"] = update.status_code == 201

observation.valueQuantity.value += 1
observation.status = "corrected"
said["version_after_update"] = Observation(observation.update(server)).meta.versionId
Observation(Observation(sent["mistaken"]).create(server)).delete(server)

try:
    Observation(sent["refused"]).create(server)
except HTTPError as error:
    said["refused"] = error.response.json()["issue"][0]["details"]["text"]

for kind in ("batch", "transaction"):
    answer = Bundle(Bundle(sent[kind]).create(server))
    said[kind] = [entry.response.status for entry in answer.entry]

deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    found = RiskAssessment.where({"patient": f"Patient/{patient.id}"}).perform_resources(server)
    if found and found[0].prediction[0].qualitativeRisk.text == sent["band"]:
        break
    time.sleep(0.2)
said["risks"] = [risk.prediction[0].qualitativeRisk.text for risk in found]
said["subject"] = found[0].subject.reference if found else None
print(json.dumps(said))
