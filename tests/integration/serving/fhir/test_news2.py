"""NEWS2 as an Observation: the sum, the points of each component, and what is missing."""

from dataclasses import replace

import pytest

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from vigil.models.bedside import Component, ScoreTerms
from vigil.serving.fhir.news2 import NEWS2_CODE, to_news2_observation

COMPLETE = {**SICK, "on_oxygen": 1, "consciousness": 0, "body_temperature": 37}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("news2")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(home) as running:
        caller = running.caller()
        for patient, values, age in (("part", SICK, 70), ("whole", COMPLETE, 70), ("child", SICK, 4)):
            caller.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": "A", "age": age}]})
            caller.post("/v1/observations", json=observations_body(patient, values)).raise_for_status()
        running.rescore()
        yield running


def report_of(server, patient):
    (report,) = server.components.risk_service.by_subject([server.components.pseudonyms.subject_key(patient)])
    return report


def points(resource):
    return {
        component["code"]["coding"][0]["code"]: component.get("valueQuantity", {}).get("value")
        for component in resource["component"]
    }


def test_whole_score_has_the_points_of_each_component(server):
    resource = to_news2_observation(report_of(server, "whole"), "Patient/x", ["Observation/a"])
    assert resource["code"]["coding"][0]["code"] == NEWS2_CODE
    assert resource["valueQuantity"] == {
        "value": 14,
        "unit": "score",
        "system": "http://unitsofmeasure.org",
        "code": "{score}",
    }
    assert points(resource) == {
        "1104301000000104": 3,
        "1104311000000102": 3,
        "1104331000000105": 2,
        "1104341000000101": 3,
        "1104351000000103": 3,
        "1104361000000100": 0,
        "1104371000000107": 0,
    }
    assert sum(points(resource).values()) == resource["valueQuantity"]["value"]
    assert resource["derivedFrom"] == [{"reference": "Observation/a"}]
    assert "note" not in resource


def test_score_with_missing_components_is_the_least_it_can_be(server):
    resource = to_news2_observation(report_of(server, "part"), "Patient/x")
    assert (resource["valueQuantity"]["comparator"], resource["valueQuantity"]["value"]) == (">=", 12)
    missing = [component for component in resource["component"] if "dataAbsentReason" in component]
    assert len(missing) == 3
    assert all("valueQuantity" not in component for component in missing)
    assert resource["note"] == [{"text": "with what is missing up to 20"}]
    assert "derivedFrom" not in resource


def test_scale_2_has_a_code_of_its_own_and_an_old_value_says_so(server):
    report = report_of(server, "whole")
    components = {**report.risk.components, "heart_rate": Component(None, 80.0, 13.0, is_expired=True)}
    terms = ScoreTerms(report.risk.terms.carry_hours, 2)
    resource = to_news2_observation(replace(report, risk=replace(report.risk, terms=terms, components=components)), "Patient/x")
    assert "1104321000000108" in points(resource)
    assert "1104311000000102" not in points(resource)
    (pulse,) = [one for one in resource["component"] if one["code"]["coding"][0]["code"] == "1104351000000103"]
    assert pulse["dataAbsentReason"]["text"] == "the value is too old to count"


def test_score_that_does_not_apply_or_has_no_component_has_no_value(server):
    child = to_news2_observation(report_of(server, "child"), "Patient/x")
    report = report_of(server, "part")
    unknown = {signal: Component(None) for signal in report.risk.components}
    nothing = to_news2_observation(replace(report, risk=replace(report.risk, components=unknown, news2=0)), "Patient/x")
    assert [resource["dataAbsentReason"]["coding"][0]["code"] for resource in (child, nothing)] == ["not-applicable", "unknown"]
    assert not {"valueQuantity", "component"} & (child.keys() | nothing.keys())


def find(server, caller=None, **parameters):
    answer = (caller or server.caller()).get("/fhir/Observation", params=parameters)
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


def patient(server, name):
    return server.components.directory.reference(server.components.pseudonyms.subject_key(name))


def test_present_score_is_found_by_its_code_and_read_by_its_id(server):
    (found,) = find(server, patient=patient(server, "whole"), code=f"http://snomed.info/sct|{NEWS2_CODE}")
    assert found["valueQuantity"]["value"] == 14
    assert server.caller().get(f"/fhir/Observation/{found['id']}").json() == found
    assert find(server, _id=found["id"]) == [found]
    assert find(server, _id=found["id"], patient=patient(server, "part")) == []
    for narrowed in ({"code": "8867-4"}, {"category": "vital-signs"}, {"date": "lt2020"}, {"_lastUpdated": "gt2100"}):
        assert find(server, _id=found["id"], **narrowed) == [], narrowed
    assert find(server, _id=found["id"], code=NEWS2_CODE, category="survey", date="ge2020") == [found]
    form = {"patient.identifier": "urn:mrn|whole", "code": NEWS2_CODE}
    assert server.caller().post("/fhir/Observation/_search", data=form).json()["entry"][0]["resource"] == found


def test_score_is_derived_from_the_readings_that_it_sums(server):
    (found,) = find(server, patient=patient(server, "whole"), code=NEWS2_CODE)
    readings = [server.caller().get(f"/fhir/{one['reference']}") for one in found["derivedFrom"]]
    assert [reading.status_code for reading in readings] == [200] * 7
    assert {reading.json()["subject"]["reference"] for reading in readings} == {patient(server, "whole")}


def test_score_comes_with_readings_only_if_its_code_is_asked_for(server):
    whole = patient(server, "whole")
    of_code = {resource["code"]["coding"][0]["code"] for resource in find(server, patient=whole, code=f"{NEWS2_CODE},8867-4")}
    assert of_code == {NEWS2_CODE, "8867-4"}
    assert not [resource for resource in find(server, patient=whole) if resource["id"].startswith("news2-")]
    assert find(server, patient=whole, code=NEWS2_CODE, category="vital-signs") == []
    assert len(find(server, patient=whole, code=NEWS2_CODE, category="survey")) == 1
    assert find(server, patient=whole, code=NEWS2_CODE, date="lt2020") == []
    assert find(server, patient=whole, code=NEWS2_CODE, _lastUpdated="gt2100") == []


def test_past_score_keeps_its_points(server):
    caller = server.caller()
    for name, terms in (("former", {}), ("scale-2", {"spo2_scale": 2})):
        caller.post("/v1/patients", json={"patients": [{"patient_id": name, "ward": "A", "age": 70}]})
        caller.post("/v1/observations", json=observations_body(name, COMPLETE)).raise_for_status()
        if terms:
            body = {"patient_id": name, "because": "COPD, ordered on the round", **terms}
            caller.post("/v1/patients/terms", json=body).raise_for_status()
        server.rescore()
        (before,) = find(server, patient=patient(server, name), code=NEWS2_CODE)
        caller.post("/v1/observations", json=observations_body(name, WELL)).raise_for_status()
        server.rescore()
        (after,) = find(server, patient=patient(server, name), code=NEWS2_CODE)
        assert after["valueQuantity"]["value"] < before["valueQuantity"]["value"]
        assert caller.get(f"/fhir/Observation/{before['id']}").json() == before
    code = {component["code"]["coding"][0]["code"]: component for component in before["component"]}
    assert code["1104321000000108"]["valueQuantity"]["value"] == 2  # 85 % by scale 2


def test_score_of_others_is_not_found(server):
    (found,) = find(server, patient=patient(server, "whole"), code=NEWS2_CODE)
    elsewhere = server.caller(wards=["C1"], subject="another ward")
    assert find(server, elsewhere, patient=patient(server, "whole"), code=NEWS2_CODE) == []
    assert elsewhere.get(f"/fhir/Observation/{found['id']}").status_code == 404
    assert server.caller().get("/fhir/Observation/news2-none").status_code == 404
    assert server.caller(scopes=["ward:read"]).get(f"/fhir/Observation/{found['id']}").status_code == 403
