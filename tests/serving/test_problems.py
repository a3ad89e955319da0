"""What is wrong with a request is said in few words, however much is wrong."""

import pytest

from serving.problems import ERRORS_LISTED
from tests.serving.inside import running_inside


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running_inside(tmp_path_factory.mktemp("problems")) as inside:
        yield inside.caller()


@pytest.mark.parametrize(("empty", "errors"), [(1, 5), (5_000, 25_000)])
def test_of_many_errors_the_first_are_listed_and_all_counted(client, empty, errors):
    answer = client.post("/v1/observations", json={"observations": [{}] * empty})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert len(answer.json()["errors"]) == min(errors, ERRORS_LISTED)
    assert f"in {errors} places" in answer.json()["detail"]
    assert len(answer.content) < 10_000
