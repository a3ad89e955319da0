"""What is wrong with a request is said in few words, however much is wrong."""

import pytest

from serving.api.problems import ERRORS_LISTED, unknown_patient
from tests.serving.inside import running_inside, sent


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running_inside(tmp_path_factory.mktemp("problems")) as inside:
        yield inside.caller()


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ({"value": [80]}, "value"),
        ({"value": "8" * 65}, "value"),
        ({"observed_at": "2" * 65}, "observed_at"),
        ({"mood": "good"}, ""),
    ],
)
def test_a_fault_of_form_refuses_the_request_and_the_rest_is_taken_without_the_item(client, fault, field):
    good, bad = sent("p", {"heart_rate": 80, "spo2": 97})["observations"]
    answer = client.post("/v1/observations", json={"observations": [good, bad | fault]})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert all(error["field"].startswith(f"observations.1.{field}".rstrip(".")) for error in answer.json()["errors"])
    assert client.post("/v1/observations", json={"observations": [good]}).json()["accepted"] == 1


@pytest.mark.parametrize(("value", "field"), [("8" * 64, "value"), ("97", "value"), (None, "value"), (True, "value")])
def test_what_has_the_form_of_a_reading_is_put_aside_and_the_rest_counts(client, value, field):
    good, bad = sent("p", {"heart_rate": 80, "spo2": value})["observations"]
    answer = client.post("/v1/observations", json={"observations": [good, bad]}).json()
    assert (answer["accepted"], answer["quarantined"], answer["results"][1]["field"]) == (1, 1, field)


def test_who_is_not_known_is_not_known_anywhere():
    assert "neither the feature store nor the journal knows" in unknown_patient().detail


@pytest.mark.parametrize(("empty", "errors"), [(1, 5), (5_000, 25_000)])
def test_of_many_errors_the_first_are_listed_and_all_counted(client, empty, errors):
    answer = client.post("/v1/observations", json={"observations": [{}] * empty})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert len(answer.json()["errors"]) == min(errors, ERRORS_LISTED)
    assert f"in {errors} places" in answer.json()["detail"]
    assert len(answer.content) < 10_000
