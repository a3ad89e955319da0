"""What clients read back: Observations, Patients and Encounters by id and by search, page by page, and never of other wards."""

import pandas as pd
import pytest

from tests.support.fhir_resources import LOINC, component, concept, observation, panel
from tests.support.in_process_server import running_in_process
from vigil.serving.fhir import search

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
IDENTIFIED = {"identifier": {"system": "urn:mrn", "value": "4711"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("reads")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(home) as running:
        register(running, "4711", "B4", gender="female")
        yield running


def register(server, name, ward, **more):
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": name}], **more}
    entries = [
        {
            "request": {"method": "PUT", "url": f"Patient?identifier=urn:mrn|{name}"},
            "resource": patient,
            "fullUrl": "urn:uuid:p",
        },
        {"request": {"method": "POST", "url": "Encounter"}, "resource": encounter("urn:uuid:p", ward)},
    ]
    answer = server.caller().post("/fhir", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text


def put(url):
    return {"method": "PUT", "url": url}


def encounter(subject, ward, **more):
    return {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"code": "IMP"},
        "subject": {"reference": subject},
        "location": [{"location": {"display": ward}}],
        **more,
    }


def send(server, resource, **more):
    resource = {name: part for name, part in resource.items() if name != "id"} | {"subject": IDENTIFIED, **more}
    answer = server.caller().post("/fhir/Observation", json=resource)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"].split("/")[3]


def find(server, kind="Observation", caller=None, **parameters):
    answer = (caller or server.caller()).get(f"/fhir/{kind}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def next_page(server, bundle):
    url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    return None if url is None else server.caller().get(url[url.index("/fhir/") :]).json()


def resources(bundle):
    return [entry["resource"] for entry in bundle.get("entry", [])]


def patient_id(server, name="4711"):
    return server.components.directory.ids.of_subject(server.components.pseudonyms.subject_key(name))


def test_an_observation_is_read_as_it_counts_by_the_id_that_the_client_got(server):
    identity = send(server, observation(value=98.6, code="8310-5", unit="[degF]"), effectiveDateTime="2026-01-31T08:00:00.25Z")
    answer = server.caller().get(f"/fhir/Observation/{identity}")
    assert answer.headers["ETag"] == 'W/"1"'
    found = answer.json()
    assert found["valueQuantity"] == {"value": 37, "unit": "Cel", "system": "http://unitsofmeasure.org", "code": "Cel"}
    assert (found["id"], found["status"], found["effectiveDateTime"]) == (identity, "final", "2026-01-31T08:00:00.250000Z")
    assert found["subject"] == {"reference": f"Patient/{patient_id(server)}"}
    (searched,) = [
        each for each in resources(find(server, patient=patient_id(server), code="8310-5")) if each["id"] == identity
    ]
    assert searched == found


def test_a_panel_is_one_observation_with_what_of_it_counts(server):
    at = {"effectiveDateTime": "2026-01-31T09:00:00Z"}
    identity = send(server, panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 70, "mm[Hg]"), **at))
    for code in ("85354-9", "8480-6", f"{LOINC}|8462-4"):
        (found,) = [each for each in resources(find(server, patient=patient_id(server), code=code)) if each["id"] == identity]
        assert found["code"]["coding"] == [{"system": LOINC, "code": "85354-9"}]
        values = {part["code"]["coding"][0]["code"]: part["valueQuantity"]["value"] for part in found["component"]}
        assert values == {"8480-6": 120, "8462-4": 70}
    corrected = panel(component("8480-6", 125, "mm[Hg]"), status="corrected", id=identity, **at) | {"subject": IDENTIFIED}
    assert server.caller().put(f"/fhir/Observation/{identity}", json=corrected).status_code == 200
    found = server.caller().get(f"/fhir/Observation/{identity}").json()
    assert (found["status"], found["meta"]["versionId"], found["valueQuantity"]["value"]) == ("corrected", "2", 125)


def test_what_was_retracted_is_not_found_and_what_was_deleted_is_gone(server):
    at = {"effectiveDateTime": "2026-01-31T10:00:00Z"}
    withdrawn, deleted = (send(server, observation(value=value, **at)) for value in (81, 82))
    resource = observation(value=81, id=withdrawn, status="entered-in-error", **at) | {"subject": IDENTIFIED}
    assert server.caller().put(f"/fhir/Observation/{withdrawn}", json=resource).status_code == 200
    assert server.caller().delete(f"/fhir/Observation/{deleted}").status_code == 204
    assert {withdrawn, deleted}.isdisjoint(each["id"] for each in resources(find(server, patient=patient_id(server))))
    assert server.caller().get(f"/fhir/Observation/{withdrawn}").json()["status"] == "entered-in-error"
    assert server.caller().get(f"/fhir/Observation/{deleted}").status_code == 410
    assert server.caller().get("/fhir/Observation/nobody").status_code == 404


def test_a_version_that_no_longer_counts_can_be_read_by_the_number_of_its_row(server):
    register(server, "rows", "B4")
    server.caller().post("/v1/observations", json=native("rows", 70, "final"))
    (old,) = resources(find(server, patient=patient_id(server, "rows")))
    server.caller().post("/v1/observations", json=native("rows", 75, "corrected"))
    (new,) = resources(find(server, patient=patient_id(server, "rows")))
    assert [each["valueQuantity"]["value"] for each in (old, new)] == [70, 75]
    assert [each["status"] for each in (old, new)] == ["final", "corrected"]
    again = server.caller().get(f"/fhir/Observation/{old['id']}").json()
    assert (again["status"], again["valueQuantity"]["value"]) == ("entered-in-error", 70)


def native(name, value, status):
    sent = {"message_id": "m1", "patient_id": name, "signal": "heart_rate", "value": value, "unit": "/min", "status": status}
    return {"observations": [sent | {"observed_at": "2026-02-01T08:00:00Z", "source": "gateway-7", "device_id": "monitor-1"}]}


@pytest.fixture(scope="module")
def series(server):
    """A patient with 25 readings at a minute each, of two signals, and a panel among them."""
    register(server, "series", "B4")
    subject = {"subject": {"identifier": {"system": "urn:mrn", "value": "series"}}}
    entries = []
    for minute in range(25):
        at = {"effectiveDateTime": f"2026-02-02T08:{minute:02}:00Z", "identifier": [{"system": "urn:m", "value": str(minute)}]}
        if minute == 9:
            one = panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 70, "mm[Hg]"), **at)
        else:
            one = observation(value=60 + minute, **at) if minute % 2 else observation("9279-1", 10 + minute, **at)
        one = {name: part for name, part in one.items() if name != "id"} | subject
        entries.append({"request": {"method": "POST", "url": "Observation"}, "resource": one})
    answer = server.caller().post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
    assert {entry["response"]["status"] for entry in answer.json()["entry"]} == {"201"}
    return patient_id(server, "series")


@pytest.mark.parametrize("count", [1, 2, 7, 26, 100])
@pytest.mark.parametrize("sort", ["_lastUpdated", "-_lastUpdated", "date", "-date"])
def test_pages_hold_everything_once_and_in_order(server, series, count, sort):
    found, bundle = [], find(server, patient=series, _count=count, _sort=sort)
    while bundle is not None:
        assert len(resources(bundle)) <= count
        assert all("series" not in link["url"] for link in bundle["link"])
        found += resources(bundle)
        bundle = next_page(server, bundle)
    times = [each["effectiveDateTime"] if sort.removeprefix("-") == "date" else each["meta"]["lastUpdated"] for each in found]
    assert len({each["id"] for each in found}) == len(found) == 25
    assert times == sorted(times, reverse=sort.startswith("-"))


def test_a_page_continues_where_it_ended_though_more_arrives(server, series):
    first = find(server, patient=series, _count=20)
    register(server, "late", "B4")
    send(server, observation(value=99, effectiveDateTime="2026-02-02T07:00:00Z"))
    second = next_page(server, first)
    assert len({each["id"] for each in resources(first) + resources(second)}) == 25


@pytest.mark.parametrize(
    ("parameters", "number"),
    [
        ({"date": "2026-02-02"}, 25),
        ({"date": "2026-02-03"}, 0),
        ({"date": "ge2026-02-02T08:20:00Z"}, 5),
        ({"date": "gt2026-02-02T08:20:00Z"}, 4),
        ({"date": ["ge2026-02-02T08:05:00Z", "lt2026-02-02T08:10:00Z"]}, 5),
        ({"date": "2026-02-02T08:05:00+00:00"}, 1),
        ({"date": "le2026-01"}, 0),
        ({"code": "9279-1"}, 13),
        ({"code": "9279-1,85354-9"}, 14),
        ({"code": "http://loinc.org|8867-4"}, 11),
        ({"code": "http://snomed.info/sct|8867-4"}, 0),
        ({"code": "149530"}, 11),
        ({"category": "laboratory"}, 0),
        ({"category": "vital-signs", "code": "9279-1"}, 13),
        ({"_lastUpdated": "gt2099"}, 0),
        ({"_lastUpdated": "ge2026"}, 25),
        ({"unknown": "x"}, 25),
    ],
)
def test_search_parameters_narrow_what_is_found(server, series, parameters, number):
    assert len(resources(find(server, patient=series, **parameters))) == number


@pytest.mark.parametrize(
    "query",
    ["", "date=2026-02-30&patient=x", "date=ap2026&patient=x", "_count=x&patient=x", "_count=-1&patient=x",
     "_sort=code&patient=x", "patient=a&patient=b", "patient=a,b", "subject=Patient/a,Patient/b", "code=1&code=2&patient=x",
     "_id=a&_id=b", "patient.identifier=urn:mrn|4711", "identifier=urn:mrn|4711"],
)  # fmt: skip
def test_a_search_that_cannot_be_understood_is_refused_without_repeating_it(server, query):
    answer = server.caller().get(f"/fhir/Observation?{query}")
    assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome")
    assert not any(sent in answer.text for sent in ("4711", "2026-02-30"))


@pytest.mark.parametrize("prefer", ["", "handling=lenient", "handling=strict"])
@pytest.mark.parametrize(
    "query",
    ["subject:identifier=urn:mrn|4711", "patient:Patient.identifier=urn:mrn|4711", "identifier:exact=urn:mrn|4711",
     "patient:exact=4711", "code:not=8867-4", "date:missing=true", "patient.name=4711", "subject:Patient.name=4711",
     "_has:Observation:patient:code=4711", "_id:not=4711"],
)  # fmt: skip
def test_a_modifier_or_chain_that_is_not_offered_is_refused_and_never_dropped(server, series, query, prefer):
    for kind in ("Observation", "Encounter", "Patient"):
        answer = server.caller().get(f"/fhir/{kind}?patient={series}&{query}", headers={"Prefer": prefer})
        assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome")
        assert "4711" not in answer.text
        form = server.caller().post(f"/fhir/{kind}/_search", content=query, headers=FORM | {"Prefer": prefer})
        assert form.status_code == 400


@pytest.mark.parametrize(
    "url", ["identifier=urn:mrn|4711", "patient.identifier=urn:mrn|4711", "subject:identifier=urn:mrn|4711"]
)
def test_an_identifier_in_the_url_of_a_search_by_form_is_refused(server, url):
    for kind in ("Patient", "Encounter", "Observation"):
        assert server.caller().post(f"/fhir/{kind}/_search?{url}", content="_count=1", headers=FORM).status_code == 400
    entries = [{"request": {"method": "GET", "url": f"Encounter?{url}"}}]
    answer = server.caller().post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
    assert answer.json()["entry"][0]["response"]["status"] == "400"


@pytest.mark.parametrize("name", ["_include", "_include:iterate", "_revinclude", "_revinclude:iterate"])
def test_what_would_only_add_resources_is_ignored_unless_the_client_is_strict(server, series, name):
    query = {"patient": series, name: "Observation:patient", "code": "9279-1"}
    assert len(resources(find(server, **query))) == 13
    strict = server.caller().get("/fhir/Observation", params=query, headers={"Prefer": "handling=strict"})
    assert strict.status_code == 400


def test_ids_are_narrowed_by_all_that_is_asked_for_beside_them(server, series):
    everything = resources(find(server, patient=series))
    by_time = [each["id"] for each in sorted(everything, key=lambda each: each["effectiveDateTime"])]
    panels = [each["id"] for each in everything if "component" in each]
    rates, ids = (
        [each["id"] for each in everything if each["code"]["text"] == "heart rate"],
        [each["id"] for each in everything],
    )
    for parameters, expected in (
        ({}, ids),
        ({"code": "8867-4"}, rates),
        ({"code": "85354-9"}, panels),
        ({"code": "8480-6"}, panels),
        ({"category": "laboratory"}, []),
        ({"category": "vital-signs", "date": "2026-02-02T08:09:00Z"}, panels),
        ({"date": "ge2026-02-02T08:20:00Z"}, [each for each in ids if each in by_time[20:]]),
        ({"date": "2026-02-03"}, []),
        ({"_lastUpdated": "lt2026-02-02"}, []),
        ({"_lastUpdated": "ge2026-02-02"}, ids),
        ({"_sort": "date"}, by_time),
        ({"_sort": "-date"}, by_time[::-1]),
        ({"patient": "nobody"}, []),
    ):
        found = resources(find(server, _id=",".join([*ids, "nobody"]), **parameters))
        assert [each["id"] for each in found] == expected, parameters


@pytest.mark.parametrize("kind", ["Observation", "Patient", "Encounter"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_ids_come_in_pages_too_each_once(server, series, kind, count):
    ids = [each["id"] for each in resources(find(server, kind, **({"patient": series} if kind == "Observation" else {})))][:3]
    found, bundle = [], find(server, kind, _id=",".join(ids), _count=count)
    while bundle is not None and len(found) <= len(ids):
        assert len(resources(bundle)) <= count
        found += [each["id"] for each in resources(bundle)]
        bundle = next_page(server, bundle)
    assert found == ids


@pytest.mark.parametrize("kind", ["Patient", "Encounter"])
def test_a_patient_and_their_stay_are_found_by_when_they_were_updated(server, series, kind):
    named = {"_id": series} if kind == "Patient" else {"patient": series}
    (found,) = resources(find(server, kind, **named))
    updated = found["meta"]["lastUpdated"]
    assert resources(find(server, kind, **named, _lastUpdated=updated)) == [found]
    assert resources(find(server, kind, **named, _lastUpdated=f"gt{updated}")) == []
    assert resources(find(server, kind, **named, _lastUpdated="lt2026")) == []


def test_an_order_that_is_not_offered_is_refused(server):
    caller = server.caller()
    for kind, sort, status in (
        ("Patient", "_lastUpdated", 200),
        ("Patient", "-_lastUpdated", 400),
        ("Encounter", "-_lastUpdated", 400),
        ("Group", "_lastUpdated", 400),
        ("Provenance", "-_lastUpdated", 400),
    ):
        assert caller.get(f"/fhir/{kind}?_sort={sort}").status_code == status, (kind, sort)


@pytest.mark.parametrize("asked", [{"_count": 0}, {"_summary": "count"}, {"_summary": "count", "_count": 1}])
def test_only_the_number_is_given_where_only_that_is_asked_for(server, series, asked):
    for kind, parameters, total in (
        ("Observation", {"patient": series}, 25),
        ("Observation", {"patient": series, "code": "9279-1"}, 13),
        ("Observation", {"patient": "nobody"}, 0),
        ("Patient", {"_id": series}, 1),
        ("Encounter", {"patient": series, "status": "finished"}, 0),
        ("RiskAssessment", {"patient": series}, 1),
    ):
        bundle = find(server, kind, **parameters, **asked)
        assert (bundle["total"], "entry" in bundle) == (total, False), kind
        assert [link["relation"] for link in bundle["link"]] == ["self"]
    assert len(resources(find(server, patient=series, _summary="false"))) == 25


def test_a_number_that_is_not_cheap_to_find_is_refused(server, series, monkeypatch):
    monkeypatch.setattr(search, "MOST", 24)
    answer = server.caller().get(f"/fhir/Observation?patient={series}&_summary=count")
    assert answer.status_code == 400
    assert "total" not in answer.json()


def test_a_comma_in_an_identifier_is_marked_and_one_that_is_not_separates_alternatives(server):
    register(server, "47,11", "B4")
    (found,) = resources(
        server.caller().post("/fhir/Patient/_search", content="identifier=urn:mrn|47%5C,11", headers=FORM).json()
    )
    assert found["identifier"][0]["value"] == "47,11"
    two = server.caller().post("/fhir/Patient/_search", content="identifier=urn:mrn|4711,urn:mrn|series", headers=FORM)
    assert two.status_code == 400


def test_unknown_parameters_are_refused_where_the_client_wants_that(server, series):
    strict = {"Prefer": "handling=strict"}
    assert server.caller().get(f"/fhir/Observation?patient={series}&unknown=1", headers=strict).status_code == 400
    assert server.caller().get(f"/fhir/Observation?patient={series}&_count=1", headers=strict).status_code == 200


def test_patients_are_found_by_identifier_in_a_body_and_by_id(server):
    caller = server.caller()
    (found,) = resources(caller.post("/fhir/Patient/_search", content="identifier=urn:mrn|4711", headers=FORM).json())
    assert found["identifier"] == [{"system": "urn:mrn", "value": "4711"}]
    assert (found["gender"], found["active"], found["id"]) == ("female", True, patient_id(server))
    assert caller.get(f"/fhir/Patient/{found['id']}").json() == found
    assert caller.get("/fhir/Patient", params={"identifier": "urn:mrn|4711"}).status_code == 400
    assert resources(find(server, "Patient", _id=f"{found['id']},x")) == [found]
    assert len(resources(find(server, "Patient"))) >= 3


def test_an_encounter_tells_ward_and_whether_the_stay_goes_on(server):
    register(server, "stay", "C1")
    (found,) = resources(find(server, "Encounter", patient=patient_id(server, "stay")))
    assert found["location"][0]["location"]["display"] == "C1"
    assert found["status"] == "in-progress"
    assert server.caller().get(f"/fhir/Encounter/{found['id']}").json() == found
    own = encounter(found["subject"]["reference"], "C2", id="visit-7")
    for status in ("in-progress", "finished"):
        assert server.caller().put("/fhir/Encounter/visit-7", json=own | {"status": status}).status_code == 200
    again = server.caller().get("/fhir/Encounter/visit-7").json()
    assert (again["id"], again["status"], again["location"][0]["location"]["display"]) == ("visit-7", "finished", "C2")
    assert resources(find(server, "Encounter", patient=patient_id(server, "stay"), status="in-progress")) == []


def test_a_merged_patient_names_the_one_in_whose_place_they_stand(server):
    for name in ("old", "new"):
        register(server, name, "B4")
    old = {"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "old"}]}
    link = [{"other": {"reference": f"Patient/{patient_id(server, 'new')}"}, "type": "replaced-by"}]
    assert server.caller().put("/fhir/Patient?identifier=urn:mrn|old", json=old | {"link": link}).status_code == 200
    found = server.caller().get(f"/fhir/Patient/{patient_id(server, 'old')}").json()
    assert found["active"] is False
    assert found["link"] == link
    assert patient_id(server, "old") not in [each["id"] for each in resources(find(server, "Patient"))]


def test_nobody_reads_what_is_in_other_wards(server, series):
    elsewhere = server.caller(wards=["C1"])
    assert resources(find(server, caller=elsewhere, patient=series)) == []
    reading = resources(find(server, patient=series))[0]["id"]
    visit = resources(find(server, "Encounter", patient=series))[0]["id"]
    for path in (f"Observation/{reading}", f"Patient/{series}", f"Encounter/{visit}"):
        assert elsewhere.get(f"/fhir/{path}").status_code == 404
    assert series not in [each["id"] for each in resources(find(server, "Patient", elsewhere))]
    assert resources(find(server, "Observation", elsewhere, _id=reading)) == []


def test_a_client_cannot_take_the_name_of_a_patient_of_another_ward(server):
    register(server, "owner", "B4")
    named = {"resourceType": "Patient", "id": "p-1", "identifier": [{"system": "urn:mrn", "value": "owner"}]}
    assert server.caller().put("/fhir/Patient/p-1", json=named).status_code == 200
    taken = named | {"identifier": [{"system": "urn:mrn", "value": "thief"}]}
    assert server.caller(wards=["C1"]).put("/fhir/Patient/p-1", json=taken).status_code == 403
    assert server.caller().get("/fhir/Patient/p-1").json()["identifier"][0]["value"] == "owner"


def test_codes_are_those_that_profiles_ask_for(server):
    identity = send(server, observation("59408-5", 97, "%", effectiveDateTime="2026-01-31T11:00:00Z"))
    found = server.caller().get(f"/fhir/Observation/{identity}").json()
    assert [coding["code"] for coding in found["code"]["coding"]] == ["59408-5", "2708-6"]
    assert found["category"] == [concept(("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs"))]


def test_a_status_of_the_wrong_type_is_refused(server):
    visit = encounter(f"Patient/{patient_id(server)}", "B4") | {"status": ["in-progress"]}
    assert server.caller().post("/fhir/Encounter", json=visit).status_code == 422


def test_urine_is_of_the_end_of_the_hours_in_which_it_was_collected(server):
    period = {"effectiveDateTime": None, "effectivePeriod": {"start": "2026-01-31T00:00:00Z", "end": "2026-01-31T08:00:00Z"}}
    resource = {name: part for name, part in observation("9187-6", 900, "mL", **period).items() if part is not None}
    assert (
        server.caller().get(f"/fhir/Observation/{send(server, resource)}").json()["effectiveDateTime"] == "2026-01-31T08:00:00Z"
    )
    mean = {name: part for name, part in observation(**period).items() if part is not None} | {"subject": IDENTIFIED}
    refused = server.caller().post("/fhir/Observation", json=mean)
    assert refused.json()["issue"][0]["details"]["text"] == "interval"


def test_a_batch_reads_after_it_has_written(server):
    register(server, "batch", "B4")
    mine = patient_id(server, "batch")
    resource = {name: part for name, part in observation().items() if name != "id"} | {
        "subject": {"reference": f"Patient/{mine}"}
    }
    urls = [f"Observation?patient={mine}", f"Patient/{mine}", "Patient/nobody", "Observation?date=x", "Claim/1"]
    entries = [{"request": {"method": "GET", "url": url}} for url in urls]
    entries.append({"request": {"method": "POST", "url": "Observation"}, "resource": resource})
    answer = server.caller().post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": entries}).json()
    assert [entry["response"]["status"] for entry in answer["entry"]] == ["200", "200", "404", "400", "404", "201"]
    assert answer["entry"][0]["resource"]["total"] == 1
    assert answer["entry"][1]["resource"]["id"] == mine
    sender = server.caller(["observations:write"])
    answer = sender.post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": entries}).json()
    assert [entry["response"]["status"] for entry in answer["entry"]] == [
        "403",
        "403",
        "403",
        "403",
        "404",
        "200",
    ]  # the same again


def test_an_observation_a_little_ahead_of_the_clock_is_read_back(server):
    ahead = (pd.Timestamp.now("UTC") + pd.Timedelta(seconds=3)).isoformat()
    resource = panel(component("8480-6", 111, "mm[Hg]"), component("8462-4", 66, "mm[Hg]"), effectiveDateTime=ahead)
    identity = send(server, resource)
    found = server.caller().get(f"/fhir/Observation/{identity}").json()
    assert [part["valueQuantity"]["value"] for part in found["component"]] == [111, 66]
    ahead = (pd.Timestamp.now("UTC") + pd.Timedelta(seconds=3)).isoformat()
    corrected = panel(component("8480-6", 112, "mm[Hg]"), component("8462-4", 67, "mm[Hg]"), effectiveDateTime=ahead)
    corrected |= {"id": identity, "subject": IDENTIFIED, "status": "corrected"}
    assert server.caller().put(f"/fhir/Observation/{identity}", json=corrected).status_code == 200
    found = server.caller().get(f"/fhir/Observation/{identity}").json()
    assert [part["valueQuantity"]["value"] for part in found["component"]] == [112, 67]
    searched = resources(find(server, patient=patient_id(server), code="85354-9", _count=1000))
    assert [each for each in searched if each["id"] == identity] == [found]


def test_a_ward_is_named_as_tokens_and_paths_can_name_it(server):
    register(server, "named", "Intensiv Süd / A")
    (found,) = resources(find(server, "Encounter", patient=patient_id(server, "named")))
    assert found["location"][0]["location"]["display"] == "Intensiv-Sud-A"
    mine = server.caller(wards=["Intensiv-Sud-A"])
    assert len(resources(find(server, "Encounter", mine, patient=patient_id(server, "named")))) == 1
    assert mine.get("/v1/ward/patients", params={"ward": "Intensiv-Sud-A"}).json()["known"]
    visit = encounter(f"Patient/{patient_id(server, 'named')}", "///")
    assert server.caller().post("/fhir/Encounter", json=visit).status_code == 422
