"""Exports of many resources at once: what they hold, who gets them, and how they end."""

import gzip
import json
import shutil
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from tests.integration.serving.fhir.test_reads import encounter, native, register, send
from tests.support.fhir_resources import component, observation, panel
from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from vigil.pipelines.operations.retention import retention
from vigil.serving.fhir.exports import content, files, output, writer
from vigil.serving.records import connection_tables
from vigil.serving.records.database import open_database
from vigil.serving.records.exports import Exports

ASYNC = {"Prefer": "respond-async", "Accept": "application/fhir+json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("exports")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(home) as running:
        register(running, "4711", "B4", gender="female")
        register(running, "elsewhere", "C1")
        at = {"effectiveDateTime": "2026-01-31T08:00:00.25Z"}
        send(running, observation(value=98.6, code="8310-5", unit="[degF]", **at))
        send(running, panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 70, "mm[Hg]"), **at))
        running.caller().post("/v1/observations", json=native("4711", 70, "final"))
        running.caller().post("/v1/observations", json=native("elsewhere", 71, "final"))
        yield running


def group_of(server, ward="B4", caller=None):
    entries = (caller or server.caller()).get("/fhir/Group").json().get("entry", [])
    return next(entry["resource"]["id"] for entry in entries if entry["resource"]["name"] == ward)


def start(server, path, caller=None, **parameters):
    answer = (caller or server.caller()).get(f"/fhir/{path}", params=parameters, headers=ASYNC)
    assert answer.status_code == 202, answer.text
    return answer.headers["Content-Location"]


def export(server, path, caller=None, **parameters):
    """Export, and return the manifest, the resources by type and id, and what is gone."""
    caller = caller or server.caller()
    url = start(server, path, caller, **parameters)
    assert caller.get(url).status_code == 202
    assert server.write_exports() == 1
    answer = caller.get(url)
    assert answer.status_code == 200, answer.text
    manifest = answer.json()
    told = {}
    for file in manifest["output"]:
        lines = caller.get(file["url"]).text.splitlines()
        assert len(lines) == file["count"]
        for resource in map(json.loads, lines):
            name = (resource["resourceType"], resource["id"])
            assert name not in told
            assert resource["resourceType"] == file["type"]
            told[name] = resource
    gone = set()
    for file in manifest["deleted"]:
        assert file["type"] == "Bundle"
        for bundle in map(json.loads, caller.get(file["url"]).text.splitlines()):
            assert bundle["type"] == "transaction"
            assert {entry["request"]["method"] for entry in bundle["entry"]} == {"DELETE"}
            gone |= {tuple(entry["request"]["url"].split("/")) for entry in bundle["entry"]}
    assert gone.isdisjoint(told)
    return manifest, told, gone


def test_a_group_holds_what_can_be_read_of_the_patients_of_its_ward(server):
    manifest, told, gone = export(server, f"Group/{group_of(server)}/$export")
    assert gone == set()
    assert manifest["requiresAccessToken"] is True
    assert manifest["request"].endswith(f"/fhir/Group/{group_of(server)}/$export")
    assert {kind for kind, _ in told} == {"Patient", "Encounter", "Observation"}
    assert len(told) == 5
    for (kind, identity), resource in told.items():
        assert server.caller().get(f"/fhir/{kind}/{identity}").json() == resource


def test_exports_of_all_wards_and_of_a_caller_s_wards(server):
    whole = export(server, "$export")[1]
    assert whole.keys() == export(server, "Patient/$export")[1].keys()
    own = export(server, "Patient/$export", server.caller(wards=["C1", "D1"]))[1]
    assert own.keys() == export(server, f"Group/{group_of(server, 'C1')}/$export")[1].keys()
    assert len(own) == 3
    assert own.keys() < whole.keys()


def test_alarms_are_told_with_what_was_done_about_them(server):
    caller = server.caller()
    register(server, "sick", "A1")
    register(server, "well", "A1")
    caller.post("/v1/observations", json=observations_body("sick", SICK))
    server.rescore()
    path = f"Group/{group_of(server, 'A1')}/$export"
    first, told, _ = export(server, path, _type="DetectedIssue")
    ((_, identity),) = told
    assert told["DetectedIssue", identity] == caller.get(f"/fhir/DetectedIssue/{identity}").json()
    caller.post("/v1/alarms/acknowledge", json={"alarm_id": identity}).raise_for_status()
    later = export(server, path, _type="DetectedIssue", _since=first["transactionTime"])[1]
    assert later.keys() == told.keys()
    assert len(later["DetectedIssue", identity]["mitigation"]) == 1
    assert "DetectedIssue" not in {kind for kind, _ in export(server, path, server.caller(scopes=("ward:read",)))[1]}


def test_the_last_risk_of_each_patient_is_told_as_it_is_read_and_replaces_the_one_before(server):
    caller = server.caller()
    register(server, "risky", "A2")
    path = f"Group/{group_of(server, 'A2')}/$export"
    caller.post("/v1/observations", json=observations_body("risky", WELL))
    server.rescore()
    first, told, _ = export(server, path, _type="RiskAssessment")
    ((_, before),) = told
    assert told["RiskAssessment", before] == caller.get(f"/fhir/RiskAssessment/{before}").json()
    caller.post("/v1/observations", json=observations_body("risky", SICK))
    server.rescore()
    _, told, gone = export(server, path, _type="RiskAssessment", _since=first["transactionTime"])
    ((_, last),) = told
    assert gone == {("RiskAssessment", before)}
    assert told["RiskAssessment", last]["prediction"][0]["qualitativeRisk"]["text"] == "high"
    assert caller.get(f"/fhir/RiskAssessment/{before}").status_code == 200
    assert export(server, path, _type="RiskAssessment")[1] == told


def test_an_export_of_all_wards_holds_patients_who_were_never_registered(server):
    sent = native("unknown", 72, "final")
    assert server.caller().post("/v1/observations", json=sent).status_code == 200
    told = export(server, "$export")[1]
    (patient,) = [each for each in told.values() if each.get("identifier") == [{"system": "urn:mrn", "value": "unknown"}]]
    readings = [each for each in told.values() if each.get("subject") == {"reference": f"Patient/{patient['id']}"}]
    assert [each["valueQuantity"]["value"] for each in readings] == [72]


def test_a_group_is_a_ward_with_its_members(server):
    register(server, "left", "G1")
    register(server, "stays", "G1")
    stay = encounter("", "G1") | {"status": "finished"}
    stay["subject"] = {"identifier": {"system": "urn:mrn", "value": "left"}}
    assert server.caller().post("/fhir/Encounter", json=stay).status_code in (200, 201)
    group = server.caller().get(f"/fhir/Group/{group_of(server, 'G1')}").json()
    assert (group["type"], group["actual"], group["name"], group["quantity"]) == ("person", True, "G1", 1)
    ids = server.components.directory.ids
    keys = {name: f"Patient/{ids.of_subject(server.components.pseudonyms.subject_key(name))}" for name in ("left", "stays")}
    assert {member["entity"]["reference"]: member.get("inactive", False) for member in group["member"]} == {
        keys["left"]: True,
        keys["stays"]: False,
    }
    listed = [entry["resource"] for entry in server.caller().get("/fhir/Group").json()["entry"]]
    assert all("member" not in each for each in listed)
    assert "G1" not in group["id"]


def test_groups_of_other_wards_are_unknown(server):
    elsewhere = server.caller(wards=["C1"])
    assert [entry["resource"]["name"] for entry in elsewhere.get("/fhir/Group").json()["entry"]] == ["C1"]
    assert elsewhere.get(f"/fhir/Group/{group_of(server)}").status_code == 404
    assert elsewhere.get(f"/fhir/Group/{group_of(server)}/$export", headers=ASYNC).status_code == 404
    assert elsewhere.get("/fhir/$export", headers=ASYNC).status_code == 403


@pytest.mark.parametrize(
    ("query", "prefer", "status"),
    [
        ("", "", 400),
        ("", "handling=strict", 400),
        ("_outputFormat=csv", "respond-async", 400),
        ("_since=2026-01-31", "respond-async", 400),
        ("_since=4711", "respond-async", 400),
        ("_since=2026-01-31T08:00:00Z&_since=2026-01-31T08:00:00Z", "respond-async", 400),
        ("_type=Condition", "respond-async", 400),
        ("_type=Patient,Condition", "respond-async, handling=strict", 400),
        ("_typeFilter=Patient%3Fname%3D4711", "respond-async", 400),
        ("_typeFilter=Observation%3Fpatient%3D4711", "respond-async", 400),
        ("_typeFilter=Observation%3F", "respond-async", 400),
        ("patient=Patient/4711", "respond-async", 400),
        ("_elements=id", "respond-async, handling=strict", 400),
        ("4711=4711", "respond-async; handling=strict", 400),
    ],
)
def test_what_is_not_understood_is_refused_without_repeating_it(server, query, prefer, status):
    answer = server.caller().get(f"/fhir/Patient/$export?{query}", headers={"Prefer": prefer})
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")
    assert "4711" not in answer.text


def test_what_is_ignored_is_said_in_the_list_of_errors(server):
    caller = server.caller()
    lenient = "respond-async, handling=lenient"
    for path, prefer, told in (
        ("Patient/$export?_elements=id&4711=1&_outputFormat=ndjson", "respond-async", ["_elements", "a parameter that"]),
        ("Patient/$export?_type=Patient,Condition&patient=4711", lenient, ["patient", "_type, in part"]),
        ("Patient/$export?_typeFilter=Patient%3Fname%3D4711", "respond-async,handling=lenient", ["_typeFilter"]),
    ):
        url = caller.get(f"/fhir/{path}", headers={"Prefer": prefer}).headers["Content-Location"]
        server.write_exports()
        manifest = caller.get(url).json()
        (file,) = manifest["error"]
        issues = [json.loads(line)["issue"][0] for line in caller.get(file["url"]).text.splitlines()]
        assert {each["severity"] for each in issues} == {"warning"}
        assert [each["diagnostics"].startswith(name) for each, name in zip(issues, told, strict=True)] == [True] * len(told)
        assert "4711" not in json.dumps(manifest) + json.dumps(issues)


def test_parameters_come_as_a_resource_too(server):
    parameter = [{"name": "_type", "valueString": "Patient"}, {"name": "_since", "valueInstant": "2026-01-31T08:00:00+01:00"}]
    body = {"resourceType": "Parameters", "parameter": parameter}
    caller = server.caller()
    url = caller.post(f"/fhir/Group/{group_of(server)}/$export", json=body, headers=ASYNC).headers["Content-Location"]
    server.write_exports()
    manifest = caller.get(url).json()
    assert [(file["type"], file["count"]) for file in manifest["output"]] == [("Patient", 1)]
    assert "_type=Patient&_since=2026-01-31T08%3A00%3A00%2B01%3A00" in manifest["request"]
    for wrong in ({"resourceType": "Patient"}, body | {"parameter": [4711]}, body | {"parameter": {}}):
        answer = caller.post("/fhir/$export", json=wrong, headers=ASYNC)
        assert (answer.status_code, "4711" in answer.text) == (400, False)


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        (["Observation?category=social-history%2Cvital-signs,Observation?code=nothing"], 3),
        (["Observation?code=8310-5"], 1),
        (["Observation?code=8310-5", "Observation?code=85354-9&date=2026-01-31"], 2),
        (["Observation?date=2026-02-01"], 1),
    ],
)
def test_a_filter_chooses_observations(server, filters, number):
    told = export(server, f"Group/{group_of(server)}/$export", _type="Observation", _typeFilter=filters)[1]
    assert len(told) == number


def test_only_types_that_the_token_may_read_are_exported(server):
    patients = server.caller(scopes=("ward:read",))
    assert {kind for kind, _ in export(server, "Patient/$export", patients)[1]} == {"Patient", "Encounter"}
    for path in ("Patient/$export?_type=Observation", "Patient/$export?_type=Patient,Observation"):
        answer = patients.get(f"/fhir/{path}", headers=ASYNC)
        assert answer.status_code == 403
        assert "system/Observation.rs" in answer.text
    assert server.caller(scopes=("alarms:write",)).get("/fhir/Patient/$export", headers=ASYNC).status_code == 403


def test_files_are_for_the_client_that_asked_and_its_token_s_scopes_and_wards(server):
    caller = server.caller(subject="one")
    url = start(server, f"Group/{group_of(server)}/$export", caller)
    server.write_exports()
    file = next(file["url"] for file in caller.get(url).json()["output"] if file["type"] == "Observation")
    assert caller.get(file).status_code == 200
    assert server.caller(subject="one", wards=["B4"]).get(file).status_code == 200
    for other in (server.caller(subject="two"), server.caller(subject="one", wards=["C1"])):
        assert {other.get(address).status_code for address in (url, file)} == {404}
        assert other.delete(url).status_code == 404
    assert server.caller(subject="one", scopes=("ward:read",)).get(file).status_code == 403
    assert server.stranger().get(file).status_code == 401
    for name in ("lock", "..%2Flock", "Observation.2.ndjson", "Observation.1.ndjson.gz"):
        assert caller.get(f"{url}/{name}").status_code == 404
    whole = start(server, "$export", caller)
    server.write_exports()
    assert server.caller(subject="one", wards=["B4"]).get(whole).status_code == 404


@pytest.mark.parametrize(
    ("accepted", "is_gzip"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("identity", False), ("gzip;q=0, br", False), ("", False)],
)
def test_files_are_gzipped_where_the_client_can_read_that(server, accepted, is_gzip):
    caller = server.caller()
    url = start(server, f"Group/{group_of(server)}/$export", _type="Observation")
    server.write_exports()
    (file,) = caller.get(url).json()["output"]
    with caller.stream("GET", file["url"], headers={"Accept-Encoding": accepted}) as answer:
        assert answer.headers.get("content-encoding") == ("gzip" if is_gzip else None)
        assert answer.headers["content-type"] == "application/fhir+ndjson"
        sent = b"".join(answer.iter_raw())
    text = gzip.decompress(sent) if is_gzip else sent
    assert [json.loads(line)["resourceType"] for line in text.splitlines()] == ["Observation"] * file["count"]


def test_a_client_has_two_exports_under_way_at_most(server):
    caller = server.caller(subject="eager")
    urls = [start(server, "Patient/$export", caller) for _ in range(2)]
    answer = caller.get("/fhir/Patient/$export", headers=ASYNC)
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (429, "throttled")
    assert answer.headers["Retry-After"] == "1"
    assert server.caller(subject="other").get("/fhir/Patient/$export", headers=ASYNC).status_code == 202
    assert caller.delete(urls[0]).status_code == 202
    assert caller.get(urls[0]).status_code == 404
    urls.append(start(server, "Patient/$export", caller))
    waiting = caller.get(urls[1])
    assert (waiting.status_code, waiting.headers["Retry-After"], waiting.headers["X-Progress"]) == (202, "1", "waiting")
    assert server.write_exports() == 3


def test_an_export_is_removed_with_its_files(server):
    caller = server.caller()
    url = start(server, "Patient/$export")
    server.write_exports()
    answer = caller.get(url)
    as_of = datetime.fromisoformat(answer.json()["transactionTime"])
    kept = parsedate_to_datetime(answer.headers["Expires"]) - as_of
    assert timedelta(hours=23.9) < kept < timedelta(hours=24.1)
    file = answer.json()["output"][0]["url"]
    folder = server.home / "exports" / url.rpartition("/")[2]
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert caller.delete(url).status_code == 202
    assert {caller.get(address).status_code for address in (url, file)} == {404}
    assert caller.delete(url).status_code == 404
    assert not folder.exists()


def test_what_has_expired_is_gone_with_its_files(server, monkeypatch):
    caller = server.caller()
    url = start(server, "Patient/$export")
    with monkeypatch.context() as patched:
        patched.setattr(writer, "KEPT", timedelta(0))
        server.write_exports()
    folder = server.home / "exports" / url.rpartition("/")[2]
    assert folder.exists()
    assert caller.get(url).status_code == 404
    (server.home / "exports" / "unknown").mkdir()
    assert retention(server.home, 4000).rows["connections.db exports"] == 1
    assert not folder.exists()
    assert not (server.home / "exports" / "unknown").exists()


def test_an_export_without_its_files_is_gone(server):
    """As in a home that was restored from a backup, which leaves them out."""
    url = start(server, "Patient/$export")
    server.write_exports()
    shutil.rmtree(server.home / "exports" / url.rpartition("/")[2])
    assert server.caller().get(url).status_code == 404


def test_a_full_disk_is_said_and_the_next_export_works(server, monkeypatch):
    caller = server.caller()
    with monkeypatch.context() as patched:
        patched.setattr(files, "is_nearly_full", lambda _: True)
        answer = caller.get("/fhir/Patient/$export", headers=ASYNC)
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (503, "transient")
    url = start(server, "Patient/$export")
    with monkeypatch.context() as patched:
        patched.setattr(files, "is_nearly_full", lambda _: True)
        patched.setattr(writer, "_LOOK_SECONDS", 0)
        assert server.write_exports() == 0
    answer = caller.get(url)
    assert (answer.status_code, answer.json()["resourceType"]) == (500, "OperationOutcome")
    assert "free space" in answer.json()["issue"][0]["diagnostics"]
    assert not (server.home / "exports" / url.rpartition("/")[2]).exists()
    export(server, "Patient/$export")


def test_an_export_that_fails_is_said_without_what_it_held(server, monkeypatch, caplog):
    def fail(*_):
        raise ValueError("patient 4711")
        yield

    url = start(server, "Patient/$export")
    monkeypatch.setitem(content.KINDS, "Observation", fail)
    assert server.write_exports() == 0
    answer = server.caller().get(url)
    assert answer.status_code == 500
    assert "start it again" in answer.text
    assert "ValueError" in caplog.text
    assert "4711" not in answer.text + caplog.text


def test_an_export_that_was_left_unfinished_is_begun_again_but_not_for_ever(server):
    url = start(server, "Patient/$export")
    exports = Exports(open_database(server.home, connection_tables.SCHEMA))
    exports.begin()  # and the process dies
    assert server.caller().get(url).status_code == 202
    assert server.write_exports() == 1
    assert server.caller().get(url).status_code == 200
    url = start(server, "Patient/$export")
    for _ in range(3):
        exports.begin()
    assert server.write_exports() == 0
    answer = server.caller().get(url)
    assert (answer.status_code, "ended each time" in answer.text) == (500, True)


def test_a_writer_that_is_stopped_leaves_the_export_to_the_next(server, monkeypatch):
    url = start(server, "Patient/$export")
    monkeypatch.setattr(writer, "_LOOK_SECONDS", 0)
    for _ in range(5):  # as often as the server is restarted
        with pytest.raises(writer.StoppedError):
            server.write_exports(lambda: True)
    assert server.caller().get(url).status_code == 202
    assert server.write_exports() == 1


def test_an_export_that_is_cancelled_while_it_is_written_leaves_nothing(server, monkeypatch):
    url = start(server, "Patient/$export")
    monkeypatch.setattr(writer, "_LOOK_SECONDS", 0)

    def cancel():
        server.caller().delete(url)
        return False

    assert server.write_exports(cancel) == 0
    assert server.caller().get(url).status_code == 404
    assert not (server.home / "exports" / url.rpartition("/")[2]).exists()


def test_only_one_process_writes(server):
    url = start(server, "Patient/$export")
    with files.ExportFiles(server.home).lock() as is_ours:
        assert is_ours
        assert server.write_exports() == 0
    assert server.caller().get(url).status_code == 202
    assert server.write_exports() == 1


def test_what_is_recorded_while_an_export_is_written_is_not_in_it(server, monkeypatch):
    register(server, "busy", "B9")
    subject = {"subject": {"identifier": {"system": "urn:mrn", "value": "busy"}}}
    caller = server.caller()

    def put(identity, minute, **more):
        at = {"effectiveDateTime": f"2026-02-03T08:{minute:02}:00Z"}
        resource = observation(id=identity, **at, **more) | subject
        assert caller.put(f"/fhir/Observation/{identity}", json=resource).status_code < 300

    for number in range(3):
        put(f"busy-{number}", number)
    before = export(server, f"Group/{group_of(server, 'B9')}/$export")[1]
    patients = content.KINDS["Patient"]

    def meanwhile(*arguments):
        put("busy-0", 0, value=90, status="corrected")
        put("busy-1", 1, status="entered-in-error")
        put("busy-3", 3)
        assert caller.delete("/fhir/Observation/busy-2").status_code == 204
        yield from patients(*arguments)

    with monkeypatch.context() as patched:
        patched.setitem(content.KINDS, "Patient", meanwhile)
        first, told, gone = export(server, f"Group/{group_of(server, 'B9')}/$export")
    values = {each["effectiveDateTime"]: each["valueQuantity"]["value"] for each in told.values() if "valueQuantity" in each}
    assert values == {f"2026-02-03T08:0{number}:00Z": 80 for number in range(3)}
    assert told["Observation", "busy-0"] == before["Observation", "busy-0"]
    _, later, gone = export(server, f"Group/{group_of(server, 'B9')}/$export", _since=first["transactionTime"])
    copy = {name: each for name, each in (told | later).items() if name not in gone}
    assert copy == export(server, f"Group/{group_of(server, 'B9')}/$export")[1]
    assert [name[1] for name in copy if name[0] == "Observation"] == ["busy-0", "busy-3"]


def test_large_exports_have_several_files_and_bundles(server, monkeypatch):
    monkeypatch.setattr(output, "LINES", 2)
    monkeypatch.setattr(output, "ENTRIES", 2)
    monkeypatch.setattr(writer, "_MEMBERS", 1)
    register(server, "large", "B8")
    for number in range(5):
        sent = native("large", 60 + number, "final")
        sent["observations"][0] |= {"message_id": str(number)}
        server.caller().post("/v1/observations", json=sent)
    first, told, _ = export(server, f"Group/{group_of(server, 'B8')}/$export", _type="Observation")
    assert [file["count"] for file in first["output"]] == [2, 2, 1]
    for number in range(3):
        sent = native("large", 60 + number, "retracted")
        sent["observations"][0] |= {"message_id": str(number)}
        server.caller().post("/v1/observations", json=sent)
    second, later, gone = export(server, f"Group/{group_of(server, 'B8')}/$export", _since=first["transactionTime"])
    assert later == {}
    assert [file["count"] for file in second["deleted"]] == [2]
    assert len(gone) == 3
    assert gone < told.keys()


def test_metadata_names_the_operations(server):
    statement = server.stranger().get("/fhir/metadata").json()
    assert statement["instantiates"] == ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"]
    (rest,) = statement["rest"]
    operations = {each["type"]: each.get("operation") for each in rest["resource"]}
    base = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"
    assert operations["Group"] == [{"name": "export", "definition": f"{base}/group-export"}]
    assert operations["Patient"] == [{"name": "export", "definition": f"{base}/patient-export"}]
    assert rest["operation"] == [{"name": "export", "definition": f"{base}/export"}]
