"""RFC 9457 problems: short however much is wrong, made from one table, which the documents show."""

from typing import get_args

import pytest

from tests.support import ROOT
from tests.support.in_process_server import observations_body, running_in_process
from vigil.serving.api import problems
from vigil.serving.api.problem_types import PROBLEM_TYPES, problem_table
from vigil.serving.api.problems import ERRORS_LISTED, unknown_patient
from vigil.serving.api.strict_route import StrictRoute
from vigil.serving.app import _ROUTERS
from vigil.serving.auth.tokens import RULES
from vigil.serving.records.not_recorded import NotRecordedError, Rule

API_PAGE = ROOT / "docs" / "api.md"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running_in_process(tmp_path_factory.mktemp("problems")) as server:
        yield server.caller()


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ({"value": [80]}, "value"),
        ({"value": "8" * 65}, "value"),
        ({"observed_at": "2" * 65}, "observed_at"),
        ({"mood": "good"}, ""),
    ],
)
def test_invalid_request_refuses_all_observations_until_the_invalid_one_is_left_out(client, fault, field):
    good, bad = observations_body("p", {"heart_rate": 80, "spo2": 97})["observations"]
    answer = client.post("/v1/observations", json={"observations": [good, bad | fault]})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert all(error["field"].startswith(f"observations.1.{field}".rstrip(".")) for error in answer.json()["errors"])
    assert client.post("/v1/observations", json={"observations": [good]}).json()["accepted"] == 1


@pytest.mark.parametrize(("value", "field"), [("8" * 64, "value"), ("97", "value"), (None, "value"), (True, "value")])
def test_quarantine_takes_a_well_formed_observation_and_the_rest_counts(client, value, field):
    good, bad = observations_body("p", {"heart_rate": 80, "spo2": value})["observations"]
    answer = client.post("/v1/observations", json={"observations": [good, bad]}).json()
    assert (answer["accepted"], answer["quarantined"], answer["results"][1]["field"]) == (1, 1, field)


def test_unknown_patient_names_both_feature_store_and_journal():
    assert "neither the feature store nor the journal knows" in unknown_patient().detail


@pytest.mark.parametrize(("empty", "errors"), [(1, 5), (5_000, 25_000)])
def test_invalid_request_counts_all_errors_and_lists_the_first(client, empty, errors):
    answer = client.post("/v1/observations", json={"observations": [{}] * empty})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert len(answer.json()["errors"]) == min(errors, ERRORS_LISTED)
    assert f"in {errors} places" in answer.json()["detail"]
    assert len(answer.content) < 10_000


OBSERVATION = """{"message_id": "m", "patient_id": "p", "signal": "spo2", "observed_at": "2026-01-31T08:00:00Z", %s}"""


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("observations", '{"observations": [%s]}' % (OBSERVATION % '"value": 98, "value": 84'), "observations.0.value"),
        ("observations", '{"observations": [%s]}' % (OBSERVATION % '"value": 98, "v\\u0061lue": 98'), "observations.0.value"),
        ("observations", '{"observations": [%s], "observations": []}' % (OBSERVATION % '"value": 98'), "observations"),
        ("patients", '{"patients": [{"patient_id": "p", "ward": "B4", "ward": "B5"}]}', "patients.0.ward"),
        ("risk", '{"patient_id": "p", "patient_id": "q"}', "patient_id"),
        ("risks", '{"patient_ids": ["p"], "patient_ids": ["q"]}', "patient_ids"),
        ("risk/observations", '{"patient_id": "p", "observations": [{"unit": "%", "unit": "1"}]}', "observations.0.unit"),
        ("risk/history", '{"patient_id": "p", "hours": 6, "hours": 24}', "hours"),
        ("risk/anomalies", '{"patient_id": "p", "as_of": null, "as_of": null}', "as_of"),
        ("visit-summary", '{"patient_id": "p", "hours": 6, "hours": 6}', "hours"),
        ("alarms/acknowledge", '{"alarm_id": "a", "alarm_id": "b"}', "alarm_id"),
        ("alarms/override", '{"alarm_id": "a", "reason": "other", "reason": "artefact"}', "reason"),
    ],
)
def test_json_key_that_is_repeated_is_refused_and_named(client, path, body, field):
    answer = client.post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"] == [{"field": field, "rule": "repeated", "expected": "only once"}]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"mrn-4711": 1, "mrn-4711": 2}', "body"),
        ('{"patients": [{"ward": "A"}, {"mrn-4711": 1, "mrn-4711": 2}]}', "patients.1"),
        ('{"mrn-4711": {"ward": "A", "ward": "B"}}', "body"),
        ('{"patients": {"mrn-4711": [{"ward": "A", "ward": "B"}]}}', "patients"),
    ],
)
def test_repeated_key_that_is_no_field_is_not_named(client, body, field):
    answer = client.post("/v1/patients", content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["errors"] == [{"field": field, "rule": "repeated", "expected": "each key only once"}]
    assert "mrn-4711" not in answer.text


def test_repeated_keys_are_all_counted_and_the_first_listed(client):
    patients = ", ".join(['{"ward": "A", "ward": "B", "age": 1, "age": 2, "ward": "C"}'] * 400)
    body = f'{{"patients": [{patients}]}}'
    answer = client.post("/v1/patients", content=body, headers={"Content-Type": "application/json"})
    assert len(answer.json()["errors"]) == ERRORS_LISTED
    assert "in 800 places" in answer.json()["detail"]


def test_equal_keys_of_several_objects_are_not_repeated(client):
    assert client.post("/v1/observations", json=observations_body("p", {"heart_rate": 80, "spo2": 97})).status_code == 200


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("alarms", "limit=1&limit=2", "limit"),
        ("alarms", "ward=A&status=open&w%61rd=A", "ward"),
        ("alarms", "status=open&status=", "status"),
        ("alarms", "before=2026-01-31T08:00:00Z&before=2026-01-30T08:00:00Z", "before"),
        ("ward/patients", "ward=A&ward=B", "ward"),
        ("ward/events", "ward=A&seconds=0&seconds=9", "seconds"),
    ],
)
def test_query_parameter_that_is_repeated_is_refused_and_named(client, path, query, field):
    answer = client.get(f"/v1/{path}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"] == [{"field": field, "rule": "repeated", "expected": "only once"}]


def test_every_route_of_the_api_is_strict():
    routes = [route for router in _ROUTERS for route in router.routes if route.path.startswith("/v1")]
    assert len(routes) >= 13
    assert all(isinstance(route, StrictRoute) for route in routes)


@pytest.mark.parametrize("path", ["alarms", "ward/events"])
def test_two_authorization_headers_are_refused(client, path):
    token = client.headers["authorization"]
    answer = client.get(f"/v1/{path}?ward=A", headers=[("Authorization", token), ("Authorization", token)])
    assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")


def test_method_not_allowed_says_which_methods_are(client):
    answer = client.get("/v1/risk")
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "method_not_allowed", "POST")


def test_problem_types_have_a_function_each_that_fills_their_detail():
    created = [
        *(problems.create_problem(code) for code in ("bad_request", "method_not_allowed")),
        problems.create_problem("invalid_request", count=1, listed=ERRORS_LISTED),
        *(problems.invalid_token(rule) for rule in RULES),
        problems.session_missing(),
        problems.csrf_token_missing(),
        problems.out_of_scope(["risk:read"]),
        problems.not_your_ward("ward"),
        problems.unknown_patient(),
        problems.no_readings(),
        problems.unknown_alarm(),
        problems.not_found(),
        problems.as_of_in_the_future(),
        problems.as_of_before_features(-1.5),
        problems.already_done("overridden"),
        problems.body_too_large(100),
        problems.encoded_body(),
        problems.unusable_observations([{"field": "value"}] * 50),
        problems.too_many_requests(10),
        problems.too_much_at_a_time(0.15),
        problems.busy(),
        problems.too_many_refusals(),
        problems.too_many_streams(20),
        problems.unexpected_error(),
        problems.overloaded(),
        problems.unavailable(),
        problems.no_keys(),
        *(problems.not_recorded(NotRecordedError(rule, "into")) for rule in get_args(Rule)),
    ]
    assert sorted(problem.code for problem in created) == sorted(PROBLEM_TYPES)
    for problem in created:
        assert (problem.status, problem.title) == (PROBLEM_TYPES[problem.code].status, PROBLEM_TYPES[problem.code].title)
        assert problem.detail.endswith(".")
        assert not set("{}`") & set(problem.detail)


def test_problem_table_in_the_documents_is_up_to_date():
    section = API_PAGE.read_text().split("\n## Errors\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    assert table == problem_table().splitlines(), "put serving.api.problem_types.problem_table() there"
