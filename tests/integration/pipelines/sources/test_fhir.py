"""The cohort of a FHIR export: the same as the ward it was made of, whatever the form in which it comes."""

import gzip
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from tests.support.fhir_resources import SNOMED, component, concept, observation, panel
from tests.support.fhir_ward import RenamedWard, write_export
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.check_cohort import check_cohort
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.sources.fhir import FhirCohort, spill

WARD = {"patients": 12, "patients_per_batch": 12, "every": 60}
COMPARED = ["subject_id", "signal", "observed_at", "recorded_at", "value", "device_id", "superseded_at"]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    write_export(folder, **WARD)
    return folder


def ingested(source, home):
    facts = ingest(source, Home(home))
    rows = Home(home).cohort.read("observations")[COMPARED].astype({"subject_id": str, "signal": str, "device_id": str})
    return facts, rows.sort_values(COMPARED, ignore_index=True)


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return ingested(RenamedWard(**WARD), tmp_path_factory.mktemp("native"))


def assert_alike(got, native):
    (facts, rows), (native_facts, native_rows) = got, native
    pd.testing.assert_frame_equal(rows, native_rows, check_dtype=False)
    assert (facts.subjects, facts.events, facts.retractions) == (
        native_facts.subjects,
        native_facts.events,
        native_facts.retractions,
    )
    assert native_facts.retractions > 0
    assert rows["superseded_at"].notna().any()


def test_its_observations_are_those_of_the_ward_it_was_made_of(export, native, tmp_path):
    got = ingested(open_source("fhir", export), tmp_path)
    assert_alike(got, native)
    assert got[0].quarantined_signals == native[0].quarantined_signals


def test_its_stays_and_outcomes_are_those_of_the_ward(export):
    (got,), (ward,) = FhirCohort(export).batches(), RenamedWard(**WARD).batches()
    own, other = (batch.stays.set_index("subject_id").sort_index() for batch in (got, ward))
    assert sorted(own.index) == sorted(other.index)
    other = other.reindex(own.index)
    for name in ("start", "end", "sex", "unit"):
        assert (own[name] == other[name]).all(), name
    assert (own["age"] - other["age"]).abs().max() < 0.1  # who returns is older by days
    onsets = [dict(zip(batch.outcomes["subject_id"], batch.outcomes["onset"], strict=True)) for batch in (got, ward)]
    assert onsets[0] == onsets[1]
    assert any("~" in name for name in own.index)


def test_loading_everything_twice_changes_nothing(export, native, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(export, folder)
    shutil.copytree(export, folder / "again", ignore=shutil.ignore_patterns("*.toml"))
    assert_alike(ingested(open_source("fhir", folder), tmp_path / "home"), native)
    assert_alike(ingested(open_source("fhir", folder), tmp_path / "home"), native)


def test_as_one_bundle_it_is_the_same(export, native, tmp_path):
    entries = []
    for path in sorted(export.glob("*.ndjson*")):
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        entries += [{"fullUrl": None, "resource": json.loads(line)} for line in text.splitlines()]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    (tmp_path / "all.json").write_text(json.dumps(bundle))
    shutil.copy(export / "fhir.toml", tmp_path)
    assert_alike(ingested(open_source("fhir", tmp_path), tmp_path / "home"), native)


def test_parts_on_the_disk_change_nothing(export, native, tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "_LEAST", 500)
    monkeypatch.setattr(spill, "_ROWS_A_FILE", 1)
    monkeypatch.setattr("vigil.pipelines.sources.fhir.cohort._STAYS_PER_BATCH", 4)
    largest = []
    flush = spill.Spill.flush
    monkeypatch.setattr(spill.Spill, "flush", lambda self: (largest.append(self._waiting), flush(self)))
    source = open_source("fhir", export)
    assert len(source) == 4
    assert_alike(ingested(source, tmp_path), native)
    assert max(largest) == 500
    assert len(largest) > 5


# Small exports, written from the specification.
PATIENT = {"resourceType": "Patient", "id": "12", "gender": "female", "birthDate": "1950"}


def encounter(identity="e1", patient="12", start="2026-01-31T00:00:00Z", end="2026-02-02T00:00:00Z", **more):
    period = {name: time for name, time in (("start", start), ("end", end)) if time}
    return {
        "resourceType": "Encounter",
        "id": identity,
        "status": "finished",
        "class": {"code": "IMP"},
        "subject": {"reference": f"Patient/{patient}"},
        "period": period,
    } | more


def condition(code="410429000", **more):
    return {
        "resourceType": "Condition",
        "id": "c1",
        "code": concept((SNOMED, code)),
        "subject": {"reference": "Patient/12"},
    } | more


def deletion(*urls, at=None):
    entries = [{"request": {"method": "DELETE", "url": url}} for url in urls]
    meta = {"meta": {"lastUpdated": at}} if at else {}
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries} | meta


def batch_of(folder, *resources, settings=""):
    """Write resources, one file a type, and return the one batch of the cohort."""
    for number, resource in enumerate(resources):
        kind = resource["resourceType"]
        place = folder / ("deleted" if kind == "Bundle" else ".")
        place.mkdir(exist_ok=True)
        with (place / f"{kind}.{number:03}.ndjson").open("a") as file:
            file.write(json.dumps(resource) + "\n\n")  # an empty line more
    (folder / "fhir.toml").write_text(settings)
    cohort = FhirCohort(folder)
    (batch,) = cohort.batches()
    return cohort, batch


def values(batch):
    rows = batch.observations
    return [tuple(row) for row in rows[["subject_id", "signal", "value", "refused"]].fillna("").to_numpy()]


@pytest.mark.parametrize(
    ("deleted", "meta", "left"),
    [
        ([], {}, 1),
        ([deletion("Observation/o1")], {}, 0),
        ([deletion("https://ehr.example/fhir/Observation/o1")], {}, 0),
        ([deletion("Observation/o2")], {}, 1),
        # what was written after its deletion is there again
        ([deletion("Observation/o1", at="2026-02-01T00:00:00Z")], {"lastUpdated": "2026-02-02T00:00:00Z"}, 1),
        ([deletion("Observation/o1", at="2026-02-01T00:00:00Z")], {"lastUpdated": "2026-01-31T00:00:00Z"}, 0),
        ([deletion("Observation/o1", at="2026-02-01T00:00:00Z")], {}, 0),
    ],
)
def test_what_was_deleted_is_no_part_of_it(tmp_path, deleted, meta, left):
    _, batch = batch_of(tmp_path, PATIENT, encounter(), observation(meta=meta), *deleted)
    assert len(values(batch)) == left
    assert batch.stays["subject_id"].tolist() == ["12~e1"]


def test_a_deleted_patient_has_no_stay_and_no_readings(tmp_path):
    other = {"resourceType": "Patient", "id": "13"}
    cohort, batch = batch_of(
        tmp_path, PATIENT, other, encounter(), encounter("e2", "13"), observation(), deletion("Patient/12")
    )
    assert batch.stays["subject_id"].tolist() == ["13~e2"]
    assert values(batch) == [("", "heart_rate", 80.0, "missing_subject")]
    assert cohort.left_out["Patient"] == {"deleted": 1}


def test_merged_patients_are_one(tmp_path):
    merged = {
        "resourceType": "Patient",
        "id": "B",
        "link": [{"type": "replaced-by", "other": {"reference": "Patient/12"}}],
    }
    of_merged = observation(id="o2", subject={"reference": "Patient/B"}, effectiveDateTime="2026-01-31T09:00:00Z")
    _, batch = batch_of(tmp_path, merged, PATIENT, encounter(), observation(), of_merged)
    assert values(batch) == [("12~e1", "heart_rate", 80.0, "")] * 2
    assert batch.stays[["sex", "age"]].round(1).to_numpy().tolist() == [[0.0, 75.6]]


@pytest.mark.parametrize(
    ("more", "settings", "onset", "known"),
    [
        ([], "", None, None),
        ([condition(onsetDateTime="2026-02-01T03:00:00Z")], "", None, None),  # no outcome unless configured
        ([condition(onsetDateTime="2026-02-01T03:00:00Z")], "410429000", "2026-02-01T03:00:00Z", True),
        ([condition(onsetDateTime="2026-02-01T03:00:00Z")], "41*", "2026-02-01T03:00:00Z", True),
        ([condition(onsetPeriod={"start": "2026-02-01T03:00:00Z"})], "410429000", "2026-02-01T03:00:00Z", True),
        # of a date it is not known when; what was recorded later is
        ([condition(onsetDateTime="2026-02-01", recordedDate="2026-02-01T05:00:00Z")], "41*", "2026-02-01T05:00:00Z", True),
        ([condition(onsetDateTime="2026-02-01")], "41*", "2026-02-02T00:00:00Z", False),
        ([condition(onsetDateTime="2026-03-01T00:00:00Z")], "41*", None, None),  # after the stay
        (
            [condition(onsetDateTime="2026-01-30T00:00:00Z", encounter={"reference": "Encounter/e1"})],
            "41*",
            "2026-01-31T00:00:00Z",
            False,
        ),
        (
            [
                condition(
                    onsetDateTime="2026-02-01T03:00:00Z",
                    verificationStatus=concept(("http://terminology.hl7.org/CodeSystem/condition-ver-status", "refuted")),
                )
            ],
            "41*",
            None,
            None,
        ),
        # the newest version counts
        (
            [
                condition(onsetDateTime="2026-02-01T03:00:00Z", meta={"versionId": "2"}),
                condition(onsetDateTime="2026-02-01T04:00:00Z", meta={"versionId": "1"}),
            ],
            "41*",
            "2026-02-01T03:00:00Z",
            True,
        ),
        ([PATIENT | {"deceasedDateTime": "2026-02-02T01:00:00Z"}], "", "2026-02-02T01:00:00Z", True),
        ([PATIENT | {"deceasedDateTime": "2026-06-02T01:00:00Z"}], "", None, None),
        ([PATIENT | {"deceasedDateTime": "2026-02-01"}], "", "2026-02-02T00:00:00Z", False),
        (
            [encounter(hospitalization={"dischargeDisposition": concept(("urn:d", "exp"))})],
            "",
            "2026-02-02T00:00:00Z",
            True,
        ),
    ],
)
def test_outcomes(tmp_path, more, settings, onset, known):
    text = f'[outcomes]\nconditions = ["{SNOMED}|{settings}"]' if settings else ""
    _, batch = batch_of(tmp_path, PATIENT, encounter(), observation(), *more, settings=text)
    expected = [] if onset is None else [["12~e1", pd.Timestamp(onset), known]]
    assert batch.outcomes[["subject_id", "onset", "onset_known"]].to_numpy().tolist() == expected


def located(name, start):
    return {"location": {"reference": f"Location/{name}"}, "period": {"start": start}}


def test_wards_and_parts_of_encounters(tmp_path):
    locations = [
        {"resourceType": "Location", "id": "w1", "name": "B4", "physicalType": concept(("urn:t", "wa"))},
        {"resourceType": "Location", "id": "bed", "name": "B4-2", "partOf": {"reference": "Location/w1"}},
        {"resourceType": "Location", "id": "icu", "name": "ICU", "physicalType": concept(("urn:t", "wa"))},
    ]
    whole = encounter(location=[located("bed", "2026-01-31T02:00:00Z")])
    part = encounter(
        "e2",
        start="2026-02-01T06:00:00Z",
        partOf={"reference": "Encounter/e1"},
        location=[located("icu", "2026-02-01T06:00:00Z")],
    )
    of_part = observation(encounter={"reference": "Encounter/e2"})
    _, batch = batch_of(tmp_path, PATIENT, *locations, whole, part, of_part, settings='[outcomes]\nwards = ["ICU"]')
    assert batch.stays[["subject_id", "unit"]].to_numpy().tolist() == [["12~e1", "B4"]]
    assert batch.stays["unit_admitted_at"].tolist() == [pd.Timestamp("2026-01-31T02:00:00Z")]
    assert batch.outcomes["onset"].tolist() == [pd.Timestamp("2026-02-01T06:00:00Z")]
    assert values(batch)[0][0] == "12~e1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"class": {"code": "AMB"}}, "of another class, or it did not take place"),
        ({"status": "planned"}, "of another class, or it did not take place"),
        ({"period": {"start": "2026-01-31"}}, "period.start is no instant"),
        ({"period": {"start": "2026-01-31T00:00:00Z", "end": "2026-01-30T00:00:00Z"}}, "ends before it starts"),
        ({"subject": {"reference": "Patient/99"}}, "of an unknown patient"),
    ],
)
def test_encounters_that_are_no_stays_are_counted(tmp_path, change, reason):
    cohort, batch = batch_of(tmp_path, PATIENT, encounter() | change, observation())
    assert batch.stays.empty
    assert cohort.left_out["Encounter"] == {reason: 1}
    assert values(batch)[0][0] == "12"  # of the patient, and of no stay


def test_encounter_without_a_class_is_a_stay(tmp_path):
    without = {name: part for name, part in encounter().items() if name != "class"}
    _, batch = batch_of(tmp_path, PATIENT, without, observation())
    assert values(batch)[0][0] == "12~e1"


def test_a_stay_that_goes_on_ends_with_its_last_reading(tmp_path):
    late = observation(id="o2", effectiveDateTime="2026-02-07T00:00:00Z")
    _, batch = batch_of(tmp_path, PATIENT, encounter(end=None), observation(), late)
    assert batch.stays["end"].tolist() == [pd.Timestamp("2026-02-07T00:00:00Z")]


def test_without_encounters_the_record_of_a_patient_is_one_stay(tmp_path):
    _, batch = batch_of(tmp_path, PATIENT, observation(), observation(id="o2", effectiveDateTime="2026-02-07T00:00:00.5Z"))
    (stay,) = batch.stays.to_dict("records")
    assert (stay["subject_id"], stay["start"], stay["end"]) == (
        "12",
        pd.Timestamp("2026-01-31T08:00:00Z"),
        pd.Timestamp("2026-02-07T00:00:00.5Z"),
    )
    assert round(stay["age"], 1) == 75.6


def test_readings_without_an_encounter_go_to_the_stay_of_their_time(tmp_path):
    times = ["2026-01-30T12:00:00Z", "2026-01-31T12:00:00Z", "2026-02-05T12:00:00Z"]
    readings = [observation(id=f"o{n}", effectiveDateTime=time) for n, time in enumerate(times)]
    later = encounter("e2", start="2026-02-05T00:00:00Z", end="2026-02-06T00:00:00Z")
    retracted = {name: part for name, part in readings[1].items() if name not in ("effectiveDateTime", "valueQuantity")}
    retracted |= {"status": "entered-in-error", "issued": "2026-02-20T00:00:00Z"}
    _, batch = batch_of(tmp_path, PATIENT, encounter(), later, *readings, retracted)
    assert batch.observations["subject_id"].tolist() == ["12", "12~e1", "12~e2", "12~e1"]


def test_what_was_refused_is_quarantined_with_its_place_in_the_file(tmp_path):
    readings = [observation(), observation(id="o2", effectiveDateTime="2026-01-31"), observation(id="o3", code="8289-1")]
    settings = "deidentified = true"
    cohort, _ = batch_of(tmp_path, PATIENT, encounter(), *readings, settings=settings)
    ingest(cohort, Home(tmp_path / "home"))
    (row,) = Home(tmp_path / "home").cohort.read("quarantine").to_dict("records")
    assert (row["reason"], row["path"]) == ("imprecise_time", "Observation.effective.ofType(dateTime)")
    assert (row["file"], row["line"], row["value"]) == ("Observation.003.ndjson", 1, "80.0")
    assert cohort.left_out == {"Observation": {"http://loinc.org|8289-1": 1}}  # of no signal


def test_a_source_of_other_words_is_declared(tmp_path):
    readings = [observation([("urn:local", "BZ")], 6.1, None), observation(id="o2", code="8867-4")]
    readings[0]["valueQuantity"] = {"value": 6.1}
    settings = 'codes = { "urn:local|BZ" = "glucose" }\n[default]\nunits = { glucose = "mmol/L" }'
    cohort, _ = batch_of(tmp_path, PATIENT, encounter(), *readings, settings=settings)
    assert check_cohort(cohort).signals["glucose"].median == 109.9


def test_patients_are_known_by_an_identifier_if_that_is_declared(tmp_path):
    patient = PATIENT | {"identifier": [{"system": "urn:mrn", "value": "M 12"}]}
    settings = 'patient_system = "urn:mrn"\nbase_urls = ["https://ehr.example/fhir/"]'
    absolute = observation(subject={"reference": "https://ehr.example/fhir/Patient/12"})
    _, batch = batch_of(tmp_path, patient, encounter(), absolute, settings=settings)
    assert values(batch) == [("M 12~e1", "heart_rate", 80.0, "")]


def test_bundles_refer_by_urn(tmp_path):
    uuid = "urn:uuid:00000000-1111-4222-8333-44445555666"
    resources = [
        PATIENT,
        encounter(subject={"reference": f"{uuid}0"}),
        panel(
            component("8480-6", 120, "mm[Hg]"),
            component("8462-4", 80, "mm[Hg]"),
            subject={"reference": f"{uuid}0"},
            encounter={"reference": f"{uuid}1"},
        ),
    ]
    entries = [{"fullUrl": f"{uuid}{n}", "resource": resource} for n, resource in enumerate(resources)]
    (tmp_path / "patient.json").write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}))
    (batch,) = FhirCohort(tmp_path / "patient.json").batches()
    assert [row[:3] for row in values(batch)] == [("12~e1", "systolic_bp", 120.0), ("12~e1", "diastolic_bp", 80.0)]


def test_devices_have_the_name_of_their_identifier(tmp_path):
    device = {"resourceType": "Device", "id": "d1", "identifier": [{"system": "urn:serial", "value": "SN-7"}]}
    _, batch = batch_of(tmp_path, PATIENT, encounter(), device, observation(device={"reference": "Device/d1"}))
    assert batch.observations["device_id"].tolist() == ["SN-7"]


def test_a_result_counts_from_when_it_was_issued(tmp_path):
    readings = [
        observation(),
        observation(id="o2", issued="2026-01-31T09:00:00Z"),
        observation(id="o3", effectiveDateTime="2026-01-31T08:00:00.5Z", issued="2026-01-31T08:00:00Z"),  # cut to seconds
    ]
    _, batch = batch_of(tmp_path, PATIENT, encounter(), *readings)
    late = (batch.observations["recorded_at"] - batch.observations["observed_at"]) / pd.Timedelta(hours=1)
    assert late.tolist() == [0, 1, 0]


def test_large_files_make_more_batches_of_whole_patients(tmp_path, monkeypatch):
    monkeypatch.setattr("vigil.pipelines.sources.fhir.cohort._BYTES_PER_BATCH", 100)
    others = [PATIENT | {"id": name} for name in ("13", "14")]
    of_others = [encounter(f"e{name}", name) for name in ("13", "14")]
    readings = [observation(), observation(id="o2", subject={"reference": "Patient/13"})]
    for resource in (
        PATIENT,
        *others,
        encounter(),
        encounter("e2", start="2026-03-01T00:00:00Z", end=None),
        *of_others,
        *readings,
    ):
        with (tmp_path / f"{resource['resourceType']}.ndjson").open("a") as file:
            file.write(json.dumps(resource) + "\n")
    batches = list(FhirCohort(tmp_path).batches())
    assert [batch.stays["subject_id"].tolist() for batch in batches] == [["12~e1", "12~e2"], ["13~e13"], ["14~e14"]]
    assert [len(batch.observations) for batch in batches] == [1, 1, 0]
    facts = ingest(FhirCohort(tmp_path), Home(tmp_path / "home"))
    assert (facts.subjects, facts.observations) == (4, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("colour = 1", "colour: Extra inputs are not permitted; the top level has name"),
        ('codes = { "8867-4" = "heart_rate" }', "expected system|code"),
        ('codes = { "a|b" = "mood" }', "mood is no signal"),
        ('task = "mood"', "mood is no task"),
        ("name = ", "expected TOML"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, settings, message):
    (tmp_path / "fhir.toml").write_text(settings)
    with pytest.raises(SourceError, match=message.replace("|", r"\|")):
        FhirCohort(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "expected the files of a FHIR"),
        ("Patient.ndjson", b'{"resourceType": "Pat', "Patient.ndjson: line 1: no JSON"),
        ("Patient.ndjson", b"\n[1]\n", "Patient.ndjson: line 2: no JSON object"),
        ("Patient.ndjson", b'{"resourceType": "Patient", "x": NaN}', "line 1: no JSON"),
        ("Patient.ndjson", b"[" * 100_000, "line 1: no JSON"),
        ("Patient.ndjson.gz", gzip.compress(b'{"resourceType": "Patient"}' * 99, mtime=0)[:-9], "cut off, or no gzip"),
        ("Encounter.ndjson", b'{"resourceType": "Encounter"}', "no Patient that can be used"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        list(FhirCohort(tmp_path).batches())


def test_a_file_of_observations_holds_nothing_else(tmp_path):
    lines = [json.dumps(each) for each in (observation(), PATIENT | {"id": "99"})]
    (tmp_path / "Observation.ndjson").write_text("\n".join(lines))
    (tmp_path / "Patient.ndjson").write_text("\ufeff" + json.dumps(PATIENT))
    with pytest.raises(SourceError, match=r"Observation.ndjson: line 2: no Observation"):
        list(FhirCohort(tmp_path).batches())


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="not there"):
        open_source("fhir", tmp_path / "x")
    with pytest.raises(SourceError, match="--data is missing"):
        open_source("fhir", None)


def test_numbers_are_exact(tmp_path):
    readings = [observation(id=f"o{n}", code="8310-5", value=36 + n / 100, unit="Cel") for n in range(100)]
    _, batch = batch_of(tmp_path, PATIENT, encounter(), *readings)
    assert np.array_equal(batch.observations["value"].to_numpy(float), 36 + np.arange(100) / 100)
