"""Versions of Observations: what the version before said no longer counts, and what is refused changes nothing."""

import itertools

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.serving.fhir.test_inbound import (
    bundle,
    counting,
    encounter,
    entry,
    identified,
    identity_of,
    reading,
    send,
    subject,
)
from tests.support.fhir_resources import component, concept, panel
from tests.support.in_process_server import running_in_process

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("versions")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(home) as running:
        yield running


@pytest.fixture
def name():
    """The identifier of a new patient."""
    return f"p{next(NUMBERS)}"


@pytest.fixture
def other(server, name):
    """Another client."""
    return server.caller(subject=f"another client of {name}")


def changed(resource, value=None, **more):
    own = resource | more
    return own if value is None else own | {"valueQuantity": own["valueQuantity"] | {"value": value}}


def read(server, identity):
    return server.caller().get(f"/fhir/Observation/{identity}").json()


def test_deletion_by_another_client_retracts(server, name, other):
    identity = identity_of(send(server, "POST", "/Observation", reading(name)))
    assert send(server, "DELETE", f"/Observation/{identity}", caller=other).status_code == 204
    assert counting(server, name) == []


def test_correction_by_another_client_supersedes(server, name, other):
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))
    send(server, "PUT", f"/Observation/{identity}", changed(own, 99, id=identity, status="corrected"), other)
    assert counting(server, name) == [("heart_rate", 99.0)]
    send(server, "PUT", f"/Observation/{identity}", changed(own, id=identity, status="entered-in-error"), other)
    assert counting(server, name) == []


def test_an_id_that_another_client_took_for_another_patient_is_a_conflict(server, name, other):
    identity = f"1001-{name}"
    send(server, "PUT", f"/Observation/{identity}", reading(name, id=identity))
    answer = send(server, "PUT", f"/Observation/{identity}", reading(f"{name}-too", id=identity), other)
    assert answer.status_code == 409
    assert "POST with an identifier" in answer.json()["issue"][0]["diagnostics"]
    assert counting(server, f"{name}-too") == []


def test_deletion_is_newer_than_all_that_the_client_numbered(server, name):
    identity = f"numbered-{name}"
    send(server, "PUT", f"/Observation/{identity}", reading(name, id=identity, meta={"versionId": "7"}))
    assert send(server, "DELETE", f"/Observation/{identity}").status_code == 204
    assert counting(server, name) == []
    send(server, "PUT", f"/Observation/{identity}", reading(name, 77, id=identity))
    assert counting(server, name) == [("heart_rate", 77.0)]


def test_a_version_without_a_number_is_newer_than_those_that_the_client_numbered(server, name, other):
    identity = f"numbered-{name}"
    own = reading(name, id=identity)
    send(server, "PUT", f"/Observation/{identity}", own | {"meta": {"versionId": "7"}})
    send(server, "PUT", f"/Observation/{identity}", changed(own, 90), other)
    assert counting(server, name) == [("heart_rate", 90.0)]


def test_a_final_version_after_a_correction_that_came_first_counts(server, name):
    identity = f"corrected-{name}"
    own = reading(name, id=identity, status="corrected", issued="2026-01-31T08:00:00Z")
    send(server, "PUT", f"/Observation/{identity}", own)
    send(server, "PUT", f"/Observation/{identity}", changed(own, 91, status="final"))
    assert counting(server, name) == [("heart_rate", 91.0)]


def test_an_old_version_changes_neither_what_counts_nor_the_resource(server, name):
    identity = f"late-{name}"
    own = reading(name, id=identity)
    for number, value in ((1, 71), (3, 73)):
        send(server, "PUT", f"/Observation/{identity}", changed(own, value, meta={"versionId": str(number)}))
    answer = send(server, "PUT", f"/Observation/{identity}", changed(own, 72, meta={"versionId": "2"}))
    assert (answer.status_code, answer.headers["ETag"], answer.json()["resourceType"]) == (200, 'W/"2"', "OperationOutcome")
    assert counting(server, name) == [("heart_rate", 73.0)]
    assert read(server, identity)["valueQuantity"]["value"] == 73


def test_a_version_that_is_refused_leaves_the_one_before(server, name):
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))
    implausible = changed(own, 990, id=identity, effectiveDateTime="2026-01-31T07:00:00Z")
    answer = send(server, "PUT", f"/Observation/{identity}", implausible, If_Match='W/"1"')
    assert answer.status_code == 422
    shown = read(server, identity)
    assert (shown["meta"]["versionId"], shown["status"], shown["valueQuantity"]["value"]) == ("1", "final", 80)
    mended = changed(implausible, 99)
    assert send(server, "PUT", f"/Observation/{identity}", mended, If_Match='W/"1"').headers["ETag"] == 'W/"2"'
    assert counting(server, name) == [("heart_rate", 99.0)]


def test_a_journal_that_cannot_be_written_leaves_the_version_before(server, name, monkeypatch):
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))

    async def fail(*_):
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(server.components.fhir._writer._ingestion, "accept", fail)
        assert send(server, "PUT", f"/Observation/{identity}", changed(own, 99, id=identity)).status_code == 500
    assert read(server, identity)["meta"]["versionId"] == "1"
    assert send(server, "PUT", f"/Observation/{identity}", changed(own, 99, id=identity)).headers["ETag"] == 'W/"2"'
    assert counting(server, name) == [("heart_rate", 99.0)]


def test_the_same_version_sent_again_stays_the_same_version(server, name):
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))
    new = changed(own, 88, id=identity, status="corrected")
    answers = [send(server, "PUT", f"/Observation/{identity}", new) for _ in range(3)]
    assert [answer.headers["ETag"] for answer in answers] == ['W/"2"'] * 3
    assert counting(server, name) == [("heart_rate", 88.0)]


def test_a_corrected_code_retracts_the_reading_of_the_wrong_one(server, name):
    own = reading(name, 20)
    identity = identity_of(send(server, "POST", "/Observation", own))
    right = changed(own, id=identity, status="corrected", code=concept("9279-1"))
    assert send(server, "PUT", f"/Observation/{identity}", right).status_code == 200
    assert counting(server, name) == [("respiratory_rate", 20.0)]


def test_a_corrected_code_that_cannot_be_used_retracts_nothing(server, name):
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))
    wrong = changed(own, 300, id=identity, status="corrected", code=concept("9279-1"))
    assert send(server, "PUT", f"/Observation/{identity}", wrong).status_code == 422
    assert counting(server, name) == [("heart_rate", 80.0)]


def test_a_component_that_a_version_no_longer_has_is_retracted(server, name):
    own = reading(name, 95, code="59408-5", component=[component("3150-6", 40, "%")])
    own["valueQuantity"] |= {"unit": "%", "code": "%"}
    identity = identity_of(send(server, "POST", "/Observation", own))
    assert ("fio2", 40.0) in counting(server, name)
    without = {key: value for key, value in own.items() if key != "component"}
    send(server, "PUT", f"/Observation/{identity}", without | {"id": identity, "status": "corrected"})
    assert [signal for signal, _ in counting(server, name)] == ["spo2"]


def test_a_panel_that_was_not_taken_after_all_retracts_its_components(server, name):
    own = panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 80, "mm[Hg]"), id=f"bp-{name}", subject=subject(name))
    send(server, "PUT", f"/Observation/bp-{name}", own)
    absent = {key: value for key, value in own.items() if key != "component"} | {"status": "corrected"}
    absent["dataAbsentReason"] = {"coding": [{"code": "not-performed"}]}
    assert send(server, "PUT", f"/Observation/bp-{name}", absent).status_code == 200
    assert counting(server, name) == []


@pytest.mark.parametrize("status", ["preliminary", "final", "amended", "corrected"])
def test_the_status_is_read_back_as_it_was_sent(server, name, status):
    identity = identity_of(send(server, "POST", "/Observation", reading(name, status=status)))
    assert read(server, identity)["status"] == status


def test_a_preliminary_result_that_becomes_final_is_final(server, name):
    own = reading(name, identifier=identified(name), status="preliminary")
    identity = identity_of(send(server, "POST", "/Observation", own))
    answer = send(server, "POST", "/Observation", changed(own, 84, status="final"))
    assert (answer.status_code, identity_of(answer), answer.headers["ETag"]) == (200, identity, 'W/"2"')
    assert (read(server, identity)["status"], counting(server, name)) == ("final", [("heart_rate", 84.0)])


def test_an_identifier_that_is_sent_again_with_a_correction_is_a_new_version(server, name):
    own = reading(name, identifier=identified(name))
    identity = identity_of(send(server, "POST", "/Observation", own))
    answer = send(server, "POST", "/Observation", changed(own, 95, status="corrected"))
    assert (answer.status_code, identity_of(answer), answer.headers["ETag"]) == (200, identity, 'W/"2"')
    assert counting(server, name) == [("heart_rate", 95.0)]
    assert send(server, "POST", "/Observation", changed(own, status="entered-in-error")).headers["ETag"] == 'W/"3"'
    assert counting(server, name) == []


@pytest.mark.parametrize("in_one_batch", [False, True])
def test_observations_that_share_an_identifier_are_resources_of_their_own(server, name, in_one_batch):
    first = reading(name, identifier=identified(name))
    second = changed(first, 20, code=concept("9279-1"))
    if in_one_batch:
        sent = bundle("batch", entry("POST", "Observation", first), entry("POST", "Observation", second))
        locations = [each["response"]["location"] for each in send(server, "POST", "", sent).json()["entry"]]
        ids = [location.split("/")[1] for location in locations]
    else:
        ids = [identity_of(send(server, "POST", "/Observation", each)) for each in (first, second)]
    assert len(set(ids)) == 2
    assert counting(server, name) == [("heart_rate", 80.0), ("respiratory_rate", 20.0)]
    assert [identity_of(send(server, "POST", "/Observation", each)) for each in (first, second)] == ids
    assert send(server, "DELETE", f"/Observation/{ids[1]}").status_code == 204
    assert counting(server, name) == [("heart_rate", 80.0)]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_reading_that_no_client_sent_as_a_resource_cannot_be_changed_as_one(server, name, method):
    sent = {"message_id": name, "patient_id": name, "signal": "heart_rate", "value": 77, "unit": "/min", "source": "gateway"}
    sent |= {"observed_at": reading(name)["effectiveDateTime"]}
    assert server.caller().post("/v1/observations", json={"observations": [sent]}).status_code == 200
    patient = server.components.directory.reference(server.components.pseudonyms.subject_key(name))
    (found,) = server.caller().get("/fhir/Observation", params={"patient": patient}).json()["entry"]
    identity = found["resource"]["id"]
    own = reading(name, id=identity, status="entered-in-error")
    answer = send(server, method, f"/Observation/{identity}", own if method == "PUT" else None)
    assert answer.status_code == (405 if method == "PUT" else 404)
    assert counting(server, name) == [("heart_rate", 77.0)]


def test_a_transaction_with_an_entry_that_fails_stores_nothing(server, name):
    kept = reading(name, id=f"kept-{name}")
    send(server, "PUT", f"/Observation/kept-{name}", kept)
    new = entry("POST", "Observation", reading(name, 66))
    failing = [
        entry("DELETE", f"Observation/unknown-{name}"),
        entry("PUT", f"Observation/kept-{name}", reading(f"{name}-too", id=f"kept-{name}")),
    ]
    for each, status in zip(failing, (404, 422), strict=True):
        answer = send(server, "POST", "", bundle("transaction", new, each))
        assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")
        assert "Bundle.entry[1]" in answer.json()["issue"][0]["expression"]
        assert counting(server, name) == [("heart_rate", 80.0)]


def test_a_transaction_that_deletes_in_another_ward_is_refused_whole(server, name):
    send(server, "POST", "/Encounter", encounter(subject(name), "B4"))
    identity = identity_of(send(server, "POST", "/Observation", reading(name)))
    elsewhere = server.caller(wards=["C1"], subject=f"a client of {name} elsewhere")
    new = entry("POST", "Observation", reading(f"{name}-new"))
    answer = send(server, "POST", "", bundle("transaction", new, entry("DELETE", f"Observation/{identity}")), elsewhere)
    assert answer.status_code == 403
    assert counting(server, f"{name}-new") == []


def test_a_condition_of_a_transaction_meets_the_version_that_it_names(server, name):
    own = reading(name, identifier=identified(name))
    send(server, "POST", "/Observation", own)
    update = entry("PUT", f"Observation?identifier=urn:x|{name}", changed(own, 99))
    update["request"]["ifMatch"] = 'W/"1"'
    assert send(server, "POST", "", bundle("transaction", update)).status_code == 200
    assert counting(server, name) == [("heart_rate", 99.0)]


ID, CLIENT, VALUE = st.integers(0, 1), st.integers(0, 1), st.integers(60, 63)
CODES = {"8867-4": "heart_rate", "9279-1": "respiratory_rate"}
CHANGES = st.one_of(
    st.tuples(st.just("put"), CLIENT, ID, st.sampled_from(sorted(CODES)), VALUE, st.none() | st.integers(1, 6)),
    st.tuples(st.just("refuse"), CLIENT, ID),
    st.tuples(st.just("error"), CLIENT, ID),
    st.tuples(st.just("delete"), CLIENT, ID),
)


class Model:
    """What should count: of each resource what its newest version says, by the rules of docs/fhir.md."""

    def __init__(self):
        self.said, self.number = {}, {}

    def take(self, identity, said, number=None):
        newest = self.number.get(identity, 0)
        if number is None:  # what corrects something that never came is its second version
            number = newest if newest and self.said[identity] == said else newest + 1 + (not newest and said == "error")
        if number > newest:
            self.said[identity], self.number[identity] = said, number

    def counting(self):
        return sorted((CODES[said[0]], float(said[1])) for said in self.said.values() if said not in ("error", "deleted"))


@settings(max_examples=15, deadline=None)
@given(changes=st.lists(CHANGES, min_size=3, max_size=12))
def test_what_counts_is_what_the_newest_version_of_each_resource_says(server, changes):
    number, model = next(NUMBERS), Model()
    patient, clients = f"p{number}", [server.caller(subject=f"client {each} of p{number}") for each in range(2)]
    times = [(pd.Timestamp.now("UTC") - pd.Timedelta(minutes=10 + each)).isoformat() for each in range(2)]
    for kind, client, place, *rest in changes:
        identity = f"o-{number}-{place}"
        own = reading(patient, id=identity, effectiveDateTime=times[place])
        path = f"/Observation/{identity}"
        if kind == "put":
            code, value, version = rest
            resource = changed(own, value, code=concept(code)) | (
                {} if version is None else {"meta": {"versionId": f"{version}"}}
            )
            assert send(server, "PUT", path, resource, clients[client]).status_code in (200, 201)
            model.take(identity, (code, value), version)
        elif kind == "refuse":
            assert send(server, "PUT", path, changed(own, 990), clients[client]).status_code == 422
        elif kind == "error":
            assert send(server, "PUT", path, changed(own, status="entered-in-error"), clients[client]).status_code in (200, 201)
            model.take(identity, "error")
        elif identity in model.number:
            assert send(server, "DELETE", path, caller=clients[client]).status_code == 204
            model.take(identity, "deleted")
        assert counting(server, patient) == model.counting()
