"""What holds for every route under ``/fhir``: errors are outcomes, XML and other versions are refused, patients are found."""

import pytest

from tests.support.in_process_server import observations_body, running_in_process
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.outcomes import MEDIA_TYPE


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("fhir")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\nbase_urls = ["https://ehr.example/fhir/"]\n')
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VIGIL_URL", "https://vigil.example")
        with running_in_process(home) as running:
            yield running


def outcome_of(answer, status):
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    content = answer.json()
    assert content["resourceType"] == "OperationOutcome"
    return content["issue"]


def test_metadata_needs_no_token(server):
    answer = server.stranger().get("/fhir/metadata")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert (answer.json()["resourceType"], answer.json()["fhirVersion"]) == ("CapabilityStatement", "4.0.1")


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Accept": "application/fhir+xml"}, ""),
        ({"Accept": "text/html"}, ""),
        ({"Accept": "application/fhir+json; fhirVersion=5.0"}, ""),
        ({}, "?_format=xml"),
    ],
)
def test_another_form_is_not_acceptable(server, headers, query):
    (issue,) = outcome_of(server.stranger().get(f"/fhir/metadata{query}", headers=headers), 406)
    assert issue["code"] == "not-supported"


@pytest.mark.parametrize(
    "accept", ["*/*", "application/*", "application/json", "application/fhir+json; fhirVersion=4.0, text/html"]
)
def test_json_of_r4_is_acceptable(server, accept):
    assert server.stranger().get("/fhir/metadata", headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize(
    "wanted", ["application/fhir+json", "application/fhir%2Bjson", "json", "application/fhir+json;+fhirVersion=4.0"]
)
def test_a_plus_in_the_format_need_not_be_encoded(server, wanted):
    assert server.stranger().get(f"/fhir/metadata?_format={wanted}").status_code == 200
    assert server.stranger().get(f"/fhir/metadata?_format={wanted.replace('json', 'xml')}").status_code == 406


def test_problem_of_the_api_is_an_outcome_here(server):
    (issue,) = outcome_of(server.stranger().get("/fhir/Patient/1"), 401)
    assert issue["code"] == "login"
    assert "bearer token" in issue["diagnostics"]
    assert server.stranger().get("/fhir/Patient/1").headers["www-authenticate"] == "Bearer"


def test_error_names_the_document_of_this_door(server):
    (issue,) = outcome_of(server.caller().delete("/fhir/metadata"), 405)
    assert "/fhir/metadata" in issue["diagnostics"]
    assert "openapi" not in issue["diagnostics"]


def find(server, key):
    directory: Directory = server.components.directory
    return directory.find(key)


def test_patients_are_found_by_every_key(server):
    server.caller().post("/v1/observations", json=observations_body("4711", {"heart_rate": 70}))
    directory = server.components.directory
    own = directory.reference(server.components.pseudonyms.subject_key("4711"))
    directory.remember("4711", ["https://ehr.example/fhir/Patient/12", "urn:other|99"])
    for key in (
        "urn:mrn|4711",
        own,
        f"https://vigil.example/fhir/{own}",
        "Patient/12",
        "https://ehr.example/fhir/Patient/12",
        "urn:other|99",
    ):
        assert find(server, key) == "4711", key
    for key in (
        "urn:mrn|",
        "Patient/4711",
        "https://evil.example/fhir/Patient/12",
        f"https://evil.example/fhir/{own}",
        "urn:other|98",
        "",
    ):
        assert find(server, key) is None, key


def test_name_that_moves_stands_for_the_other_patient(server):
    server.caller().post("/v1/observations", json=observations_body("a", {"heart_rate": 70}))
    server.caller().post("/v1/observations", json=observations_body("b", {"heart_rate": 70}))
    server.components.directory.remember("a", ["Patient/77"])
    server.components.directory.remember("b", ["Patient/77"])
    assert find(server, "Patient/77") == "b"
