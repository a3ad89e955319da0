"""What Vigil exports comes in again: the exports of a live ward are a cohort with the observations that count there."""

import pandas as pd
import pytest

from tests.integration.serving.fhir.test_exports import start
from tests.integration.serving.fhir.test_reads import encounter, native, register, send
from tests.support.fhir_resources import SNOMED, component, concept, observation, panel
from tests.support.in_process_server import running_in_process
from vigil.features.kernel.plan import UNBOUNDED
from vigil.pipelines.sources.fhir import FhirCohort

CONTENT = ["patient", "signal", "observed_at", "value", "device_id"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("exported")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(home) as running:
        yield running


def download(server, folder, **parameters):
    """Write the files of an export as a bulk client does, and return its time."""
    caller = server.caller()
    url = start(server, "Patient/$export", **parameters)
    server.write_exports()
    manifest = caller.get(url).json()
    for name in ("output", "deleted"):
        (folder / name).mkdir(parents=True)
        for file in manifest[name]:
            (folder / name / file["url"].rpartition("/")[2]).write_bytes(caller.get(file["url"]).content)
    return manifest["transactionTime"]


def of_journal(server, names):
    """Return the observations that count now, of the signals that are measured."""
    frames = []
    for name in names:
        subject = server.components.pseudonyms.subject_key(name)
        with server.components.journal.snapshot() as journal:
            rows = journal.observations(-1, UNBOUNDED, subject)
        frames.append(rows.assign(patient=server.components.directory.ids.of_subject(subject)))
    return in_order(pd.concat(frames))


def of_cohort(folder):
    """Return the observations of a cohort after the check that every cohort passes."""
    from vigil.features.observations import check

    batches = list(FhirCohort(folder).batches())
    accepted = pd.concat([check(batch.observations).accepted for batch in batches])
    stays = pd.concat([batch.stays for batch in batches])
    assert set(accepted["subject_id"]) <= set(stays["subject_id"])
    return in_order(accepted.assign(patient=accepted["subject_id"].str.partition("~")[0]))


def in_order(observations):
    rows = observations[CONTENT].astype({"device_id": object, "signal": str, "patient": str})
    return rows.sort_values(CONTENT[:4]).reset_index(drop=True)


def test_exports_of_a_ward_are_a_cohort_with_its_observations(server, tmp_path):
    for name in ("4711", "4712"):
        register(server, name, "B4", gender="female")
        reference = server.components.directory.reference(server.components.pseudonyms.subject_key(name))
        admitted = encounter(reference, "B4", period={"start": "2026-01-30T12:00:00Z"})
        assert server.caller().post("/fhir/Encounter", json=admitted).status_code < 300
    at = {"effectiveDateTime": "2026-01-31T08:00:00.25Z"}
    send(server, observation(value=98.6, code="8310-5", unit="[degF]", **at))
    withdrawn = send(server, observation(value=81, identifier=[{"system": "urn:m", "value": "1"}], **at))
    send(server, panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 70, "mm[Hg]"), **at))
    alert = {"valueCodeableConcept": concept((SNOMED, "248234008")), "effectiveDateTime": "2026-01-31T08:01:00Z"}
    send(server, observation("80288-4", None, **alert))
    below = {"value": 0.3, "comparator": "<", "system": "http://unitsofmeasure.org", "code": "ng/mL"}
    send(server, observation("10839-9", below, device={"identifier": {"value": "lab-1"}}, **at))
    for value, message in ((70, "m1"), (75, "m2")):
        sent = native("4712", value, "final")
        sent["observations"][0]["message_id"] = message
        server.caller().post("/v1/observations", json=sent)
    fio2 = native("4712", 40, "final")
    fio2["observations"][0] |= {"signal": "fio2", "unit": "%", "message_id": "f"}
    server.caller().post("/v1/observations", json=fio2)
    since = download(server, tmp_path / "1")
    assert server.caller().delete(f"/fhir/Observation/{withdrawn}").status_code == 204
    corrected = native("4712", 77, "corrected")
    server.caller().post("/v1/observations", json=corrected)
    expected = of_journal(server, ["4711", "4712"])
    assert len(expected) == 9
    download(server, tmp_path / "2", _since=since)
    pd.testing.assert_frame_equal(of_cohort(tmp_path), expected, check_dtype=False)
