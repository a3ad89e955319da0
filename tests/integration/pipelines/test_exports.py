"""Exports: what goes out as MEDS or OMOP comes back as it was, other programs can read it, and no identifier is in it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from meds import CodeMetadataSchema, DataSchema, DatasetMetadataSchema, LabelSchema, SubjectSplitSchema
from typer.testing import CliRunner

import vigil
from vigil.features.declarations import OWN_UNITS
from vigil.features.errors import VigilError
from vigil.features.observations import check
from vigil.features.pseudonyms import KEY_BYTES, open_pseudonyms
from vigil.features.signals import SIGNALS
from vigil.models.cohort import assign_splits, index_times, label_index_times, patient_of
from vigil.models.own_tasks import TaskSettings
from vigil.pipelines.cli.main import app
from vigil.pipelines.cohort_store import CohortStore, NoCohortError
from vigil.pipelines.exports import export_cohort
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.check_cohort import check_cohort
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.sources import Batch, Source, SourceError, open_source
from vigil.serving.identity.identities import Identities

START = pd.Timestamp("2026-01-31T08:00:00Z").as_unit("us")
HOUR, TIME = pd.Timedelta(hours=1), "datetime64[us, UTC]"
OWN = TaskSettings(name="icu_transfer", outcome="transfer to intensive care", horizon_hours=2, cut_off="negative")
PATIENTS = ("Anna-Berg", "Carl-Dahl", "Eva-Falk", "Gerd-Holm", "Ida-Juhl", "Karl-Lund", "Mia-Nord", "Olaf-Palm")


class Ward(Source):
    """A cohort with everything that a home can hold, in two batches; the stays of some patients are in both."""

    name, simulated, deidentified, shifted_dates, declared = "ward-b4", False, False, False, OWN_UNITS
    task, own_task = OWN.task(), OWN

    def __len__(self):
        return 2

    def batches(self):
        yield self._batch([f"{name}~1" for name in PATIENTS])
        yield self._batch([f"{name}~2" for name in PATIENTS[:3]])

    def _batch(self, subjects):
        number = np.arange(len(subjects))
        start = START + pd.to_timedelta(number * 7, unit="D")
        stays = pd.DataFrame(
            {
                "subject_id": subjects,
                "start": start.as_unit("us"),
                "end": (start + 5 * HOUR).as_unit("us"),
                "unit_admitted_at": pd.Series(start - HOUR, dtype=TIME).where(number % 2 == 0),
                "hospital_admitted_at": pd.Series(start - pd.Timedelta(microseconds=1), dtype=TIME).where(number % 3 > 0),
                "age": np.where(number % 3 == 1, np.nan, 63 + number / 7),
                "sex": np.where(number % 3 == 2, np.nan, number % 2),
                "site": pd.Series(["north", None], dtype="string").take(number % 2).array,
                "insurance": pd.Series(["private", None, "public"], dtype="string").take(number % 3).array,
                "deprivation": np.where(number % 4 == 1, np.nan, 1 + number / 3),
                "unit": pd.Series(["B4//east", None, "B5"], dtype="string").take(number % 3).array,
            }
        )
        outcomes = pd.DataFrame(
            {
                "subject_id": subjects[:2],
                "onset": pd.Series(start[:2] + 3 * HOUR, dtype=TIME),
                "kind": ["transfer", "OUTCOME//odd"],
                "onset_known": [True, False],
            }
        )
        return Batch(pd.concat([_readings(*pair) for pair in zip(subjects, start, strict=True)]), stays, outcomes)


def _readings(subject, start):
    """One reading of every signal, bounds, a correction, a retraction, and one that came twice."""
    rng = np.random.default_rng(len(subject))
    rows = [
        {"signal": name, "value": str(round(signal.low + rng.random() * (signal.high - signal.low), 2 * (not signal.coded)))}
        for name, signal in SIGNALS.items()
    ]
    rows += [{"signal": "glucose", "value": "<40"}, {"signal": "body_temperature", "value": ">42"}]
    frame = pd.DataFrame(rows).assign(message_id=[f"m{number}" for number in range(len(rows))], status="final", version=1)
    frame["observed_at"] = start + pd.to_timedelta(np.arange(len(rows)) * 123.456789, unit="s")
    frame["recorded_at"] = frame["observed_at"] + pd.Timedelta(minutes=5)
    corrected = frame.iloc[:3].assign(value=["81", "17", "97"], status="corrected", version=2)
    retracted = frame.iloc[5:6].assign(status="retracted", version=2)
    later = pd.concat([corrected, retracted])
    later["recorded_at"] += 2 * HOUR
    rows = pd.concat([frame, later, frame.iloc[7:8]], ignore_index=True)
    return rows.assign(subject_id=subject, device_id=[None, *["monitor 7"] * (len(rows) - 1)], source="gateway-1")


def read(home, table):
    """Return a table of a cohort in an order and in types of its own."""
    rows = CohortStore(home).read(table)
    if table == "observations" and "superseded_at" not in rows:
        rows["superseded_at"] = pd.Series(pd.NaT, rows.index, dtype=TIME)
    times = [name for name in rows if str(rows[name].dtype).startswith("datetime64")]
    rows[times] = rows[times].astype(TIME)
    texts = rows.columns.difference([*times, "value", "age", "sex", "deprivation", "onset_known"])
    rows[texts] = rows[texts].astype(object).where(rows[texts].notna(), None)
    return rows.sort_values(sorted(rows.columns), ignore_index=True)


def assert_alike(one, other, tables=("observations", "stays", "outcomes")):
    for table in tables:
        pd.testing.assert_frame_equal(read(one, table), read(other, table), check_like=True)


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    home = tmp_path_factory.mktemp("ward")
    open_pseudonyms(home, bytes(KEY_BYTES))  # a random key might put all eight patients into one split
    facts = ingest(Ward(), Home(home), now=START + pd.Timedelta(days=365))
    assert facts.observations > 11 * len(SIGNALS)
    assert facts.quarantined == {"duplicate_message": 11}
    superseded = read(home, "observations")["superseded_at"].notna()
    assert superseded.sum() >= 11 * 4
    return home


@pytest.fixture(scope="module")
def meds(ward, tmp_path_factory):
    out = tmp_path_factory.mktemp("meds")
    exported = export_cohort(Home(ward), "meds", out)
    assert (exported.patients, exported.stays, exported.outcomes) == (8, 11, 4)
    return out


def events(folder):
    return pd.concat([pd.read_parquet(path) for path in sorted((folder / "data").rglob("*.parquet"))], ignore_index=True)


def test_meds_import_is_the_inverse_of_export(ward, meds, tmp_path):
    facts = ingest(open_source("meds", meds), Home(tmp_path))
    assert (facts.source, facts.simulated, facts.task, facts.quarantined) == ("ward-b4", False, "icu_transfer", {})
    assert_alike(ward, tmp_path)
    assert Home(tmp_path).cohort.task == OWN.task()
    assert Identities(tmp_path).subjects() == set()  # an export names no patient
    assert not open_pseudonyms(tmp_path).is_open  # nor are these de-identified
    again = tmp_path / "again"
    export_cohort(Home(tmp_path), "meds", again)
    first, second = (events(folder).sort_values(["stay", "code", "time"], ignore_index=True) for folder in (meds, again))
    pd.testing.assert_frame_equal(first, second)


def test_meds_splits_are_those_of_vigil(ward, meds):
    stays = read(ward, "stays")["subject_id"]
    splits = pd.read_parquet(meds / "metadata/subject_splits.parquet").set_index("subject_id")["split"]
    assert len(splits) == 8
    own = events(meds).drop_duplicates("stay").set_index("stay")["subject_id"]
    assert own.map(splits)[stays].tolist() == assign_splits(stays).tolist()
    assert set(splits) == {"train", "held_out"}
    for path in (meds / "data").rglob("*.parquet"):
        assert set(pd.read_parquet(path)["subject_id"].map(splits)) == {path.parent.name}
    assert own.groupby(own.index.map(patient_of)).nunique().tolist() == [1] * 8  # one number a patient
    assert (own > 0).all()


def test_meds_export_satisfies_its_schemas(meds):
    shards = sorted((meds / "data").rglob("*.parquet"))
    seen = set()
    for path in shards:
        table = pq.read_table(path)
        DataSchema.validate(table)
        rows = table.to_pandas()
        subject = rows["subject_id"]
        assert (subject != subject.shift()).sum() == subject.nunique()  # contiguous
        assert not seen & set(subject)  # and in one shard
        seen |= set(subject)
        for _, times in rows.groupby("subject_id")["time"]:
            static = times.isna().sum()
            assert times.iloc[:static].isna().all()
            assert times.iloc[static:].is_monotonic_increasing
    SubjectSplitSchema.validate(pq.read_table(meds / "metadata/subject_splits.parquet"))
    codes = pq.read_table(meds / "metadata/codes.parquet")
    CodeMetadataSchema.validate(codes)
    assert set(codes["code"].to_pylist()) == set(events(meds)["code"])
    assert all(codes["description"].to_pylist())
    LabelSchema.validate(pq.read_table(meds / "labels/icu_transfer.parquet"))
    described = json.loads((meds / "metadata/dataset.json").read_text())
    DatasetMetadataSchema.validate(described)
    extensions = {name for kind, names in described.items() if kind.endswith("_columns") for name in names}
    core = {"subject_id", "time", "code", "numeric_value", "text_value"}
    assert set(pq.read_schema(shards[0]).names) - core == extensions


def test_meds_events_say_what_counts(meds):
    rows = events(meds)
    superseded = rows["code"].str.startswith("SUPERSEDED//")
    assert (superseded == rows["superseded_at"].notna()).all()
    counted = rows[rows["code"] == "LOINC//8867-4//min"]
    assert counted["numeric_value"].tolist() == [81.0] * 11  # the corrections
    assert rows.loc[rows["code"].str.startswith("SEX//"), "time"].isna().all()
    assert set(rows["code"][rows["code"].str.startswith("OUTCOME")]) == {"OUTCOME//transfer", "OUTCOME_BY//OUTCOME//odd"}


def test_meds_labels_are_those_of_training(ward, meds):
    store = CohortStore(ward)
    index = label_index_times(index_times(store.read("stays")), store.read("outcomes"), OWN.task()).dropna(subset="label")
    number = events(meds).drop_duplicates("stay").set_index("stay")["subject_id"]
    expected = sorted(
        (number[subject], at.tz_localize(None), label == 1)
        for subject, at, label in index[["subject_id", "index_time", "label"]].itertuples(index=False)
    )
    labels = pd.read_parquet(meds / "labels/icu_transfer.parquet")
    assert sorted(labels.itertuples(index=False, name=None)) == expected
    assert 0 < labels["boolean_value"].sum() < len(labels)


@pytest.mark.parametrize("written", ["meds", "omop"])
def test_no_identifier_leaves_the_home(ward, tmp_path, written):
    export_cohort(Home(ward), written, tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".parquet":  # compressed
            content += pd.read_parquet(path).to_csv().encode()
        assert not any(name.encode() in content for name in PATIENTS), path


def test_omop_import_is_the_inverse_of_export_but_for_superseded_values(ward, tmp_path):
    exported = export_cohort(Home(ward), "omop", tmp_path / "out")
    ingest(open_source("omop", tmp_path / "out"), Home(tmp_path / "home"))
    assert_alike(ward, tmp_path / "home", ("stays", "outcomes"))
    counts = read(ward, "observations")
    counts = counts[counts["superseded_at"].isna()].reset_index(drop=True)
    assert exported.observations == len(counts)
    pd.testing.assert_frame_equal(counts, read(tmp_path / "home", "observations"), check_like=True)


def test_the_shipped_omop_mapping_reads_an_export(tmp_path):
    deaths = TaskSettings(name="ward_death", outcome="death", horizon_hours=24)
    source = Ward()
    source.task, source.own_task = deaths.task(), deaths
    known = lambda batch: replace(batch, outcomes=batch.outcomes.assign(onset_known=True))  # noqa: E731
    source.batches = lambda: map(known, Ward.batches(source))
    ingest(source, Home(tmp_path / "home"), now=START + pd.Timedelta(days=365))
    out = tmp_path / "out"
    export_cohort(Home(tmp_path / "home"), "omop", out)
    (out / "vigil.json").unlink()  # so it is one like any other
    other = open_source("omop", out)
    (batch,) = other.batches()
    checked = check(batch.observations, declared=other.declared)
    assert checked.quarantined["reason"].unique().tolist() in ([], ["duplicate_reading"])  # oxygen that follows from FiO2
    visits = pd.read_parquet(out / "visit_occurrence.parquet")
    names = dict(
        zip(
            visits["person_id"].astype(str) + "~" + visits["visit_occurrence_id"].astype(str),
            visits["visit_source_value"],
            strict=True,
        )
    )
    columns = ["subject_id", "signal", "observed_at", "value"]
    counts = read(tmp_path / "home", "observations")
    counts = counts.loc[counts["superseded_at"].isna(), columns].sort_values(columns, ignore_index=True)
    back = checked.accepted[columns].assign(
        subject_id=checked.accepted["subject_id"].astype(object).map(names), signal=checked.accepted["signal"].astype(object)
    )
    pd.testing.assert_frame_equal(back.sort_values(columns, ignore_index=True), counts)
    stays = batch.stays.assign(subject_id=batch.stays["subject_id"].astype(object).map(names)).sort_values("subject_id")
    expected = read(tmp_path / "home", "stays").sort_values("subject_id")
    for name in ("subject_id", "start", "end"):
        assert stays[name].tolist() == expected[name].tolist()
    assert set(batch.outcomes["onset"]) == set(read(tmp_path / "home", "outcomes")["onset"])


def test_a_meds_data_set_of_others_is_read_by_its_loinc_codes(tmp_path):
    rows = [
        (7, None, "GENDER//F", None),
        (7, "1950-01-31 08:00", "MEDS_BIRTH", None),
        (7, "2020-01-31 08:00", "HOSPITAL_ADMISSION//EW EMER.", None),
        (7, "2020-01-31 09:00", "LAB//220045//bpm", 80.0),
        (7, "2020-01-31 09:30", "LOINC//8310-5//[degF]", 98.6),
        (7, "2020-01-31 10:00", "LAB//50813//mmol/L", 2.1),
        (7, "2020-02-01 08:00", "HOSPITAL_DISCHARGE//DIED", None),
        (7, "2020-02-01 08:00", "MEDS_DEATH", None),
        (7, "2020-03-01 08:00", "LAB//220045//bpm", 90.0),
    ]
    frame = pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"])
    frame = frame.assign(time=pd.to_datetime(frame["time"]), numeric_value=frame["numeric_value"].astype("float32"))
    parents = {"LAB//220045//bpm": ["LOINC/8867-4"], "LAB//50813//mmol/L": ["LOINC/2524-7", "SNOMED/1"]}
    codes = pd.DataFrame({"code": frame["code"].unique()})
    codes["parent_codes"] = codes["code"].map(parents)
    for path, table in (("data/train/0", frame.iloc[:5]), ("data/train/1", frame.iloc[5:]), ("metadata/codes", codes)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(tmp_path / f"{path}.parquet")
    result = check_cohort(open_source("meds", tmp_path))
    assert (result.stays, result.events, result.known["age"], result.known["sex"]) == (1, 1, 1, 1)
    signals = {name: (signal.accepted, signal.median) for name, signal in result.signals.items() if signal.accepted}
    assert signals == {"heart_rate": (1, 80.0), "body_temperature": (1, 37.0), "lactate": (1, 2.1)}


def test_an_export_that_was_changed_is_refused_or_quarantined(meds, tmp_path):
    shard = next((meds / "data" / "train").glob("*.parquet"))
    changes = {
        "no pseudonyms": lambda rows: rows.assign(stay="Anna-Berg"),
        "a stay has two": lambda rows: pd.concat([rows, rows]),
    }
    for number, (message, change) in enumerate(changes.items()):
        folder = tmp_path / str(number)
        (folder / "data/train").mkdir(parents=True)
        (folder / "vigil.json").write_bytes((meds / "vigil.json").read_bytes())
        change(pd.read_parquet(shard)).to_parquet(folder / "data/train/0.parquet")
        with pytest.raises(SourceError, match=message):
            list(open_source("meds", folder).batches())
    folder = tmp_path / "implausible"
    (folder / "data/train").mkdir(parents=True)
    (folder / "vigil.json").write_bytes((meds / "vigil.json").read_bytes())
    rows = pd.read_parquet(shard)
    rows.loc[rows["code"] == "LOINC//8867-4//min", "numeric_value"] = np.float32(900)
    rows.loc[rows["code"] == "LOINC//9279-1//min", "code"] = "LOINC//0//min"
    rows.to_parquet(folder / "data/train/0.parquet")
    source = open_source("meds", folder)
    facts = ingest(source, Home(tmp_path / "home"))
    assert set(facts.quarantined_signals) == {"heart_rate"}
    assert next(iter(source.left_out.values())).keys() == {"LOINC//0//min"}
    (folder / "vigil.json").write_text((meds / "vigil.json").read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(SourceError, match="format 9; expected 1"):
        open_source("meds", folder)


def test_the_command_exports_and_refuses_what_it_cannot(ward, tmp_path):
    def export(*options):
        return CliRunner().invoke(app, ["cohort", "export", *map(str, options)])

    done = export("--home", ward, "--format", "omop", "--out", tmp_path / "out", "--json", tmp_path / "facts.json")
    assert done.exit_code == 0
    assert "8 patients, 11 stays" in done.output
    assert json.loads((tmp_path / "facts.json").read_text())["stays"] == 11
    with pytest.raises(VigilError, match="holds files; name a new folder"):
        export_cohort(Home(ward), "meds", tmp_path / "out")
    with pytest.raises(VigilError, match="expected one of meds, omop"):
        export_cohort(Home(ward), "fhir", tmp_path / "other")
    with pytest.raises(NoCohortError):
        export_cohort(Home(tmp_path / "nothing"), "meds", tmp_path / "other")
    assert not Path(tmp_path / "other").exists()


def test_the_mimic_demo_goes_out_and_comes_back(mimic4_demo_meds, tmp_path):
    table = pq.read_table(mimic4_demo_meds / "meds_events.parquet")
    (tmp_path / "mimic/data").mkdir(parents=True)
    pq.write_table(table.rename_columns(["subject_id", "time", "code", "numeric_value"]), tmp_path / "mimic/data/0.parquet")
    ingest(open_source(None, tmp_path / "mimic", Path("mimic4_meds")), Home(tmp_path / "home"))
    for written in ("meds", "omop"):
        export_cohort(Home(tmp_path / "home"), written, tmp_path / written)
        ingest(open_source(written, tmp_path / written), Home(tmp_path / f"home_{written}"))
        assert_alike(tmp_path / "home", tmp_path / f"home_{written}")


def test_the_python_interface_exports_and_reads_back(ward, tmp_path):
    vigil.Home(ward).export(tmp_path / "out")
    cohort = vigil.read_cohort("meds", tmp_path / "out")
    assert set(cohort.stays["subject_id"]) == set(read(ward, "stays")["subject_id"])
    counted = cohort.observations.groupby(["subject_id", "signal"], observed=True)["value"].sum()
    own = CohortStore(ward).read("observations").groupby(["subject_id", "signal"], observed=True)["value"].sum()
    assert counted.sort_index().tolist() == own.sort_index().tolist()
