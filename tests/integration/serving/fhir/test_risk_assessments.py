"""RiskAssessment: percent, range, horizon, what made it, and what is said where there is no probability."""

from dataclasses import replace

import pandas as pd
import pytest

from tests.support.in_process_server import SICK, observations_body, running_in_process
from vigil.models.tasks import TASKS
from vigil.serving.fhir.risk_assessments import to_risk_assessment

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("risks")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(home) as running:
        caller = running.caller()
        caller.post("/v1/patients", json={"patients": [{"patient_id": "4711", "ward": "B4", "age": 70}]})
        caller.post("/v1/observations", json=observations_body("4711", SICK))
        running.rescore()
        yield running


def reference(server):
    return server.components.directory.reference(server.components.pseudonyms.subject_key("4711"))


def by_form(server, caller=None, **parameters):
    caller = server.caller() if caller is None else caller
    return caller.post(
        "/fhir/RiskAssessment/_search", data={key.replace("__", "."): v for key, v in parameters.items()}, headers=FORM
    )


def test_risk_is_found_by_id_and_by_identifier_and_names_the_patient_by_the_id_only(server):
    identity = reference(server)
    answers = [
        server.caller().get("/fhir/RiskAssessment", params={"patient": identity}),
        server.caller().get("/fhir/RiskAssessment", params={"subject": identity.removeprefix("Patient/")}),
        by_form(server, patient__identifier="urn:mrn|4711"),
    ]
    for answer in answers:
        assert answer.status_code == 200
        (entry,) = answer.json()["entry"]
        assert entry["resource"]["subject"] == {"reference": identity}
        assert "4711" not in answer.text.replace(entry["resource"]["id"], "")


def test_without_a_model_there_is_no_probability_and_the_reason(server):
    (entry,) = by_form(server, patient__identifier="urn:mrn|4711").json()["entry"]
    resource = entry["resource"]
    (prediction,) = resource["prediction"]
    assert "probabilityDecimal" not in prediction
    assert prediction["qualitativeRisk"]["coding"][0]["code"] == "high"
    assert "meta" not in resource
    assert any(note["text"] == "no probability: no model is in use" for note in resource["note"])
    start, end = (pd.Timestamp(prediction["whenPeriod"][name]) for name in ("start", "end"))
    assert end - start == pd.Timedelta(hours=12)


def test_probability_is_a_percentage_and_the_range_a_prediction_of_its_own(server):
    subject = server.components.pseudonyms.subject_key("4711")
    (report,) = server.components.risk_service.by_subject([subject])
    risk = replace(report.risk, basis="model", probability=0.345678, band="medium", findings=())
    resource = to_risk_assessment(replace(report, risk=risk, range=(0.25, 0.5)), "Patient/x")
    first, second = resource["prediction"]
    assert first["probabilityDecimal"] == 34.57
    assert first["qualitativeRisk"]["coding"][0]["code"] == "moderate"
    assert "probabilityDecimal" not in second
    assert second["probabilityRange"]["low"] == {"value": 25.0, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
    assert resource["meta"]["security"][0]["code"] == "AIAST"


def test_period_of_a_risk_for_the_rest_of_the_stay_has_no_end(server):
    (report,) = server.components.risk_service.by_subject([server.components.pseudonyms.subject_key("4711")])
    (prediction,) = to_risk_assessment(replace(report, task=TASKS["mortality"]), "Patient/x")["prediction"]
    assert prediction["whenPeriod"].keys() == {"start"}


@pytest.mark.parametrize("query", ["", "patient=a&patient=b", "patient.identifier=urn:mrn|4711", "code=x"])
def test_search_without_one_patient_is_refused(server, query):
    answer = server.caller().get(f"/fhir/RiskAssessment?{query}")
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_unknown_parameters_are_refused_if_the_client_is_strict(server):
    query = {"patient": reference(server), "code": "x"}
    strict = server.caller().get("/fhir/RiskAssessment", params=query, headers={"Prefer": "handling=strict"})
    assert (strict.status_code, server.caller().get("/fhir/RiskAssessment", params=query).status_code) == (400, 200)


def test_others_see_nothing(server):
    elsewhere = server.caller(wards=["C1"], subject="another ward")
    assert by_form(server, elsewhere, patient__identifier="urn:mrn|4711").json()["total"] == 0
    assert by_form(server, patient__identifier="urn:mrn|nobody").json()["total"] == 0
    assert by_form(server, server.caller(scopes=["ward:read"]), patient__identifier="urn:mrn|4711").status_code == 403
