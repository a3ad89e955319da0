"""The whole chain on a small ward: what it makes, where it lies, and that a second run is a challenger."""

import io
import json
import zipfile

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow.feather import write_feather

from features.pseudonyms import open_pseudonyms
from features.store.client import Store, StoreError
from models.cohort import split_of
from models.evaluation.alarms import Watch
from models.registry import Registry
from models.risk_model import RiskModel, TooFewEventsError
from pipelines.build import build
from pipelines.cohort_store import CohortStore
from pipelines.ingest import ingest
from pipelines.sources.simulated import SimulatedWard
from pipelines.train import REFERENCE, train
from serving.identities import Identities
from serving.prediction_log import PredictionLog

MODELS = ["all_signals", "physiology", "workflow", "clock", "vital_signs", "logistic", "news2", "qsofa", "sirs", "mews"]


def test_every_stage_left_its_result(chain):
    outcome, home = chain
    assert outcome.facts.subjects == 220
    assert outcome.facts.events > 20
    assert outcome.index_times > 5000
    assert outcome.prediction["model"]["version"] == "1"
    databases = ["mlflow.db", "predictions.db", "feast/online.db"]
    reports = ["reports/drift.html", "reports/drift.json", "reports/evaluation.json", "reports/evaluation.html"]
    reports += ["reports/evaluation.png", "reports/model_card.md"]
    for made in (*databases, *reports, "feature_store.yaml", "logs/serve.log"):
        assert (home / made).stat().st_size > 0, made
    assert home.stat().st_mode & 0o077 == 0  # it holds patients' data


def test_nothing_is_lost_between_source_and_cohort(chain):
    outcome, _ = chain
    delivered = sum(len(batch.observations) for batch in SimulatedWard(patients=220, patients_per_batch=60).batches())
    assert outcome.facts.observations + sum(outcome.facts.quarantined.values()) == delivered
    assert set(outcome.facts.quarantined) == {"duplicate_message", "implausible"}


def test_the_model_beats_its_baselines_and_they_are_all_there(chain):
    outcome, home = chain
    assert list(outcome.metrics) == MODELS
    auroc = {name: values["auroc"] for name, values in outcome.metrics.items()}
    assert 1 > auroc["all_signals"] > auroc["news2"] > auroc["clock"] - 0.1
    assert auroc["all_signals"] > auroc["clock"] + 0.15
    report = json.loads((home / "reports/evaluation.json").read_text())
    assert report["simulated"] is True
    assert report["models"] == outcome.metrics


def test_mlflow_holds_the_run(chain):
    outcome, home = chain
    registry = Registry(home)
    run = registry.client.get_run(outcome.trained.run_id)
    assert run.data.tags["simulated"] == "true"
    assert len(run.data.params["data_digest"]) == 32
    assert run.data.params["feature_service"] == "vital_signs_v2"
    assert run.data.metrics["all_signals.auroc"] == outcome.metrics["all_signals"]["auroc"]
    artifacts = {file.path for file in registry.client.list_artifacts(outcome.trained.run_id)}
    assert {"features.json", "thresholds.json", "certificate.json", "evaluation.html", "model_card.md", REFERENCE} <= artifacts
    version = registry.client.get_model_version_by_alias("deterioration", "champion")
    assert (str(version.version), version.tags["simulated"]) == ("1", "true")
    assert set(registry.load_run_models(outcome.trained.run_id)) == set(MODELS)


def texts(path):
    """What a file says, unpacked too."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        unpacked = io.BytesIO()
        write_feather(pq.read_table(path), unpacked, compression="uncompressed")
        yield unpacked.getvalue()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())


def mention(names, folder):
    """The files below a folder in which one of the names is."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if any(name in text for text in texts(path) for name in names)]


def test_no_identifier_is_in_the_home_but_where_it_is_kept(chain):
    _, home = chain
    assert {path.name.removesuffix("-wal") for path in mention([b"sim-0"], home)} == {"identities.db"}
    pseudonyms = open_pseudonyms(home)
    assert pseudonyms.is_open  # they are simulated: everybody may have the same splits
    patients = {pseudonyms.of(f"sim-{number:06}"): f"sim-{number:06}" for number in range(220)}
    assert set(CohortStore(home).read("stays")["subject_id"]) == set(patients)
    assert Identities(home).of(patients) == patients


def test_nobody_is_in_mlflow_or_the_reports_even_by_pseudonym(chain):
    outcome, home = chain
    reference = Registry(home).table(outcome.trained.run_id, REFERENCE)
    assert not {"patient_id", "index_time", "device_id"} & set(reference.columns)
    assert reference["subject_id"].dtype.kind == "i"  # a number of nobody's
    pseudonyms = [name.encode() for name in CohortStore(home).read("stays")["subject_id"]]
    assert mention(pseudonyms, home / "cohort" / "stays")  # so they would be found
    assert not mention(pseudonyms, home / "mlartifacts")
    assert not mention(pseudonyms, home / "reports")
    assert not any(name in (home / "mlflow.db").read_bytes() for name in pseudonyms)


def test_the_prediction_log_holds_exactly_the_held_out_patients(chain):
    outcome, home = chain
    model = Registry(home).load("deterioration").model
    logged = PredictionLog(home).read(model_name="deterioration", features=model.features)
    last_of_the_run = logged["prediction_id"] == outcome.prediction["prediction_id"]
    during_the_run = logged[logged["made_at"] <= logged.loc[last_of_the_run, "made_at"].item()]
    patients = set(CohortStore(home).read("stays")["subject_id"])
    held_out = {patient for patient in patients if split_of(patient) == "held_out"}
    assert set(during_the_run["patient_id"]) == held_out
    assert outcome.drift.judgement.patients == len(held_out)


def test_each_step_of_training_sees_only_the_patients_it_may(home, tmp_path, monkeypatch):
    """Held-out patients reach nothing."""
    seen = {"asked": set(), "fit": set(), "threshold": set()}

    class Watched(Store):
        def training_frame(self, rows, service):
            seen["asked"] |= set(rows["subject_id"])
            return super().training_frame(rows, service)

    def fit(self, X, y, groups, elsewhere):
        seen["fit"] |= set(X["subject_id"]) | set(groups) | set(elsewhere["subject_id"])
        return original_fit(self, X, y, groups, elsewhere)

    def watch(frame):
        seen["threshold"] |= set(frame["subject_id"])
        return original_watch(frame)

    original_fit, original_watch = RiskModel.cross_fit, Watch.of
    monkeypatch.setattr("pipelines.train.Store", Watched)
    monkeypatch.setattr("pipelines.train.Registry", lambda _: Registry(tmp_path))
    monkeypatch.setattr(RiskModel, "cross_fit", fit)
    monkeypatch.setattr(Watch, "of", watch)
    train(home)
    split = {patient: split_of(patient) for patient in CohortStore(home).read("stays")["subject_id"]}
    splits_seen = {step: {split[patient] for patient in patients} for step, patients in seen.items()}
    assert splits_seen == {"asked": {"train"}, "fit": {"train"}, "threshold": {"train"}}


def test_the_same_ward_has_not_drifted(chain):
    assert chain[0].drift.status == 0
    assert not chain[0].drift.judgement.prediction_drifted


def test_a_second_model_is_a_challenger_with_the_same_digest(chain):
    outcome, home = chain
    registry = Registry(home)
    newest = int(registry.latest_version("deterioration"))
    again = train(home)
    assert (int(again.version), again.alias) == (newest + 1, "challenger")
    digests = [registry.client.get_run(run).data.params["data_digest"] for run in (outcome.trained.run_id, again.run_id)]
    assert digests[0] == digests[1]
    assert registry.load("deterioration").version == "1"  # the champion stays until it is beaten


def test_a_new_cohort_cannot_be_learned_from_old_features(tmp_path):
    ingest(SimulatedWard(patients=3), tmp_path)
    build(tmp_path)
    ingest(SimulatedWard(patients=4), tmp_path)
    with pytest.raises(StoreError, match="make one first: vigil features"):
        train(tmp_path)


def test_a_model_left_without_champion_by_a_crash_gets_one(home, tmp_path):
    fitted = Registry(home).load("deterioration").model
    registry = Registry(tmp_path)
    registry.client.create_registered_model("deterioration")  # as far as the crashed run came
    with registry.run("deterioration") as run_id:
        sample = pd.DataFrame(0.0, index=range(3), columns=fitted.features).astype("float32")
        registry.log_models({"lightgbm": fitted}, sample)
    assert registry.register(run_id, "lightgbm", "deterioration", {})[1] == "champion"
    assert registry.load("deterioration").model.thresholds_ == fitted.thresholds_


def test_a_ward_too_small_to_learn_from_says_so(tmp_path):
    ingest(SimulatedWard(patients=6), tmp_path)
    build(tmp_path)
    with pytest.raises(TooFewEventsError, match="hold . of the 2 classes of outcome; a larger cohort is needed"):
        train(tmp_path)
