"""The main job on a small ward: its results and files, resumption, and training step by step."""

import io
import json
import os
import re
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow.feather import write_feather
from sklearn.base import clone

from tests.support.evaluation_sections import answered, examination
from vigil.features.pseudonyms import open_pseudonyms
from vigil.features.store.client import Store, StoreError
from vigil.models.alarms.timeline import AlarmTimeline
from vigil.models.cohort import split_of
from vigil.models.domain import DomainOfUse
from vigil.models.registry import Registry
from vigil.models.tasks import AlarmTarget
from vigil.models.training.candidate_models import score_model, small_cohort_model
from vigil.models.training.members import TooFewEventsError
from vigil.models.training.risk_model import RiskModel
from vigil.pipelines.cohort_store import CohortFacts, CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs import behaviour
from vigil.pipelines.jobs.build_features import build
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.jobs.run import NoChampionError, ResumableSteps, run
from vigil.pipelines.jobs.train import REFERENCE, Trained, fit, read_labelled_index, train
from vigil.pipelines.operations.server import ServerError
from vigil.pipelines.sources.simulated import SimulatedWard
from vigil.serving.identity.identities import Identities
from vigil.serving.records.prediction_log import PredictionLog

MODELS = ["all_signals", "physiology", "workflow", "clock", "vital_signs", "logistic", "news2", "qsofa", "sirs", "mews"]


def stay_identifiers():
    return [
        name for batch in SimulatedWard(patients=220, patients_per_batch=60).batches() for name in batch.stays["subject_id"]
    ]


def test_run_leaves_the_files_of_every_job(chain):
    result, home = chain
    assert result.facts.subjects == len(stay_identifiers()) > 220  # some of the 220 patients have several stays
    assert result.facts.events > 20
    assert result.index_times > 5000
    assert result.prediction["model"]["version"] == "1"
    databases = ["mlflow.db", "predictions.db", "feast/online.db"]
    reports = ["reports/drift.html", "reports/drift.json", "reports/evaluation.json", "reports/evaluation.html"]
    reports += ["reports/evaluation.png", "reports/model_card.md"]
    for file in (*databases, *reports, "feature_store.yaml", "logs/serve.log"):
        assert (home / file).stat().st_size > 0, file
    assert home.stat().st_mode & 0o077 == 0  # it holds patients' data


def test_run_stores_or_quarantines_every_reading_of_the_source(chain):
    result, _ = chain
    delivered = sum(len(batch.observations) for batch in SimulatedWard(patients=220, patients_per_batch=60).batches())
    facts = result.facts
    assert facts.observations + facts.retractions + sum(facts.quarantined.values()) == delivered
    assert set(facts.quarantined) == {"duplicate_message", "implausible", "superseded"}


def test_run_evaluates_all_baselines_and_the_model_beats_them(chain):
    result, home = chain
    assert list(result.metrics) == MODELS
    auroc = {name: values["auroc"] for name, values in result.metrics.items()}
    assert 1 > auroc["all_signals"] > auroc["news2"] > auroc["clock"] - 0.1
    assert auroc["all_signals"] > auroc["clock"] + 0.15
    report = json.loads((home / "reports/evaluation.json").read_text())
    assert report["simulated"] is True
    assert report["models"] == result.metrics


def test_run_logs_parameters_metrics_artifacts_and_gates_to_mlflow(chain):
    result, home = chain
    registry = Registry(home)
    run = registry.client.get_run(result.trained.run_id)
    assert run.data.tags["simulated"] == "true"
    assert len(run.data.params["data_digest"]) == 32
    assert run.data.params["feature_service"] == "vital_signs_v3"
    assert run.data.metrics["all_signals.auroc"] == result.metrics["all_signals"]["auroc"]
    artifacts = {file.path for file in registry.client.list_artifacts(result.trained.run_id)}
    assert {"features.json", "thresholds.json", "certificate.json", "evaluation.html", "model_card.md", REFERENCE} <= artifacts
    gates = registry.load_dictionary(result.trained.run_id, "first_version.json")["gates"]
    assert [(gate["name"], gate["passed"]) for gate in gates] == [("vignettes", True), ("directions", True)]
    version = registry.client.get_model_version_by_alias("deterioration", "champion")
    assert (str(version.version), version.tags["simulated"]) == ("1", "true")
    assert set(registry.load_run_models(result.trained.run_id)) == set(MODELS)


def contents(path):
    """Yield the bytes of a file, also unpacked."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        unpacked = io.BytesIO()
        write_feather(pq.read_table(path), unpacked, compression="uncompressed")
        yield unpacked.getvalue()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())


def files_with(names, folder):
    """Return the files below a folder that hold one of the names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files if any(name in content for content in contents(path) for name in names)]


def test_home_holds_patient_identifiers_in_identities_db_only(chain):
    _, home = chain
    assert {path.name.removesuffix("-wal") for path in files_with([b"sim-0"], home)} == {"identities.db"}
    pseudonyms = open_pseudonyms(home)
    assert pseudonyms.is_open  # the patients are simulated
    patients = {pseudonyms.subject_key(name): name for name in stay_identifiers()}
    assert set(CohortStore(home).read("stays")["subject_id"]) == set(patients)
    assert Identities(home).find(patients) == patients


def test_mlflow_and_reports_hold_no_subject_key(chain):
    result, home = chain
    reference = Registry(home).load_table(result.trained.run_id, REFERENCE)
    assert not {"patient_id", "index_time", "device_id"} & set(reference.columns)
    assert reference["subject_id"].dtype.kind == "i"  # a number, not a key
    pseudonyms = [name.encode() for name in CohortStore(home).read("stays")["subject_id"]]
    assert files_with(pseudonyms, home / "cohort" / "stays")  # proves that the search works
    assert not files_with(pseudonyms, home / "mlartifacts")
    assert not files_with(pseudonyms, home / "reports")
    assert not any(name in (home / "mlflow.db").read_bytes() for name in pseudonyms)


def test_prediction_log_holds_exactly_the_held_out_patients_inside_the_domain_of_use(chain):
    result, home = chain
    model = Registry(home).load("deterioration").model
    cohort = CohortStore(home)
    last = Store(home).read_training_frame(read_labelled_index(cohort, "held_out"), cohort.task.feature_service)
    last = last.drop_duplicates("subject_id", keep="last")
    may_speak = last["hours_since_reading"].notna() & ~model.domain_.outside(last)
    logged = PredictionLog(home).with_features(model_name="deterioration", features=model.features)
    last_of_the_run = logged["prediction_id"] == result.prediction["prediction_id"]
    during_the_run = logged[logged["made_at"] <= logged.loc[last_of_the_run, "made_at"].item()]
    held_out = {patient for patient in cohort.read("stays")["subject_id"] if split_of(patient) == "held_out"}
    assert set(last["subject_id"]) == held_out
    assert set(during_the_run["subject_id"]) == set(last["subject_id"][may_speak])
    assert may_speak.mean() > 0.8
    assert result.drift.assessment.patients == may_speak.sum()


def test_training_steps_read_only_patients_of_their_split(home, tmp_path, monkeypatch):
    """Held-out patients reach nothing that is fitted or chosen. A first version is examined on them, and could be refused."""
    seen = {"read": set(), "fit": set(), "threshold": set(), "domain": set(), "examined": set()}
    ways = []

    class RecordingStore(Store):
        def read_training_frame(self, rows, service):
            seen["read"] |= set(rows["subject_id"])
            return super().read_training_frame(rows, service)

    def fit(self, X, y, groups, augmented):
        seen["fit"] |= set(X["subject_id"]) | set(groups)
        for way in augmented:  # computed from these rows of these patients
            for known in ("age", "hours_in_unit"):
                np.testing.assert_array_equal(way.features[known], X[known].to_numpy(np.float32)[way.rows])
        ways.append([way.way for way in augmented])
        return original_fit(self, X, y, groups, augmented)

    def watch(frame):
        seen["threshold"] |= set(frame["subject_id"])
        return original_watch(frame)

    def domain(X, groups, **how):
        seen["domain"] |= set(groups)
        return original_domain(X, groups, **how)

    def examine(answer, risk, views, observations, index):
        seen["examined"] |= set(observations["subject_id"]) | set(index["subject_id"])
        return original_examine(answer, risk, views, observations, index)

    original_fit, original_watch, original_domain = RiskModel.cross_fit, AlarmTimeline.from_frame, DomainOfUse.fit
    original_examine = behaviour.examine_behaviour
    monkeypatch.setattr(DomainOfUse, "fit", domain)
    monkeypatch.setattr(behaviour, "examine_behaviour", examine)
    opened = Home(home)
    opened.features, opened.registry = RecordingStore(home), Registry(tmp_path)
    monkeypatch.setattr(RiskModel, "cross_fit", fit)
    monkeypatch.setattr(AlarmTimeline, "from_frame", watch)
    train(opened)
    split = {patient: split_of(patient) for patient in CohortStore(home).read("stays")["subject_id"]}
    splits_seen = {step: {split[patient] for patient in patients} for step, patients in seen.items()}
    assert splits_seen == {
        "read": {"train"}, "fit": {"train"}, "threshold": {"train"}, "domain": {"train"}, "examined": {"held_out"},
    }  # fmt: skip
    assert ways[0] == ["changed_habits", "changed_habits", "late_start", "last_set"]
    assert ways[-1] == []  # a score alone


def test_drift_of_the_training_ward_is_none(chain):
    assert chain[0].drift.status == 0
    assert not chain[0].drift.assessment.prediction_drifted


def test_train_again_registers_a_challenger_with_the_same_data_digest(chain, own_home):
    result, _ = chain
    registry = Registry(own_home)
    newest = int(registry.latest_version("deterioration"))
    again = train(Home(own_home))
    assert (int(again.version), again.alias) == (newest + 1, "challenger")
    digests = [registry.client.get_run(run).data.params["data_digest"] for run in (result.trained.run_id, again.run_id)]
    assert digests[0] == digests[1]
    assert registry.load("deterioration").version == "1"  # the champion stays until it is beaten


def test_train_refuses_features_of_a_former_cohort(tmp_path):
    ingest(SimulatedWard(patients=3), Home(tmp_path))
    build(Home(tmp_path))
    ingest(SimulatedWard(patients=4), Home(tmp_path))
    with pytest.raises(StoreError, match="create it first: vigil features"):
        train(Home(tmp_path))


def test_register_makes_a_champion_if_a_crash_left_none(home, tmp_path):
    fitted = Registry(home).load("deterioration").model
    registry = Registry(tmp_path)
    registry.client.create_registered_model("deterioration")  # as far as the crashed run came
    with registry.run("deterioration") as run_id:
        sample = pd.DataFrame(0.0, index=range(3), columns=fitted.features).astype("float32")
        registry.log_models({"lightgbm": fitted}, sample)
    assert registry.register(run_id, "lightgbm", "deterioration", {})[1] == "champion"
    assert registry.load("deterioration").model.thresholds_ == fitted.thresholds_


@pytest.fixture
def quickly_trained(monkeypatch):
    """Train one small model only."""
    features = ["age", "hours_in_unit", "heart_rate_last_24h", "heart_rate_count_24h", "news2"]
    small = small_cohort_model(features, seed=1)
    monkeypatch.setattr("vigil.pipelines.jobs.train.candidates", lambda *_, **__: {"all_signals": clone(small)})


@pytest.mark.usefixtures("quickly_trained")
def test_first_version_that_fails_a_gate_of_behaviour_is_challenger_and_the_next_may_be_champion(home, tmp_path, monkeypatch):
    opened = Home(home)
    opened.registry = registry = Registry(tmp_path)
    too_low = answered({("septic_shock", "none"): ("band_too_low", "band low, no alarm by NEWS2")})
    monkeypatch.setattr("vigil.pipelines.jobs.train.examine_held_out_behaviour", lambda *_: examination(vignettes=too_low))
    first = train(opened)
    assert (first.version, first.alias) == ("1", "challenger")
    assert not registry.has_champion("deterioration")
    assert first.refused.startswith(
        "version 1 of deterioration is challenger and there is no champion, gate vignettes: found septic_shock (none): band "
        "low, no alarm by NEWS2, expected band at least high, an alarm by NEWS2; "
    )
    assert "; expected no answer too low" in first.refused
    assert "; what to do: look at the answer to each vignette" in first.refused
    assert first.refused.endswith("until a version passes (vigil promote), the server gives NEWS2")
    tags = registry.client.get_model_version("deterioration", "1").tags
    assert (tags["refused_by"], tags["simulated"]) == ("vignettes", "true")
    logged = registry.load_dictionary(first.run_id, "first_version.json")["gates"]
    assert [(gate["name"], gate["passed"]) for gate in logged] == [("vignettes", False), ("directions", True)]

    monkeypatch.setattr("vigil.pipelines.jobs.train.examine_held_out_behaviour", lambda *_: examination())
    second = train(opened)
    assert (second.version, second.alias, second.refused) == ("2", "champion", None)
    monkeypatch.setattr(
        "vigil.pipelines.jobs.train.examine_held_out_behaviour", lambda *_: pytest.fail("promotion examines a later version")
    )
    third = train(opened)
    assert (third.version, third.alias, third.refused) == ("3", "challenger", None)


def test_run_ends_with_one_error_if_the_first_version_is_refused(tmp_path, monkeypatch):
    done = []
    facts = CohortFacts("simulated", True, "deterioration", 1, 0, 9, {})
    monkeypatch.setattr("vigil.pipelines.cohort_store.CohortStore.facts", facts)
    trained = Trained(
        "deterioration", "1", "challenger", "run", "version 1 of deterioration is challenger, gate directions: ..."
    )
    for stage, returned in (
        ("ingest", facts),
        ("build", SimpleNamespace(index_times=3)),
        ("train", trained),
        ("evaluate", {}),
        ("materialize", 3),
    ):
        monkeypatch.setattr(
            f"vigil.pipelines.jobs.run.{stage}", lambda *_, stage=stage, returned=returned, **__: done.append(stage) or returned
        )
    with pytest.raises(NoChampionError, match=r"gate directions: \.\.\.; the run ends before its prediction and drift report"):
        run(SimulatedWard(patients=1), Home(tmp_path))
    assert done == ["ingest", "build", "train", "evaluate", "materialize"]


def test_run_resumes_where_it_was_interrupted(tmp_path, monkeypatch):
    facts = CohortFacts("simulated", True, "deterioration", 1, 0, 9, {})
    results = {
        "ingest": facts,
        "build": SimpleNamespace(index_times=3),
        "train": Trained("deterioration", "1", "champion", "run"),
        "evaluate": {"all_signals": {"auroc": 0.8, "slope": float("nan")}},
        "materialize": 3,
        "_predict_held_out": "a subject key",
        "predict_over_http": {"probability": 0.5},
        "run_drift": None,
    }
    done, fails = [], {"evaluate"}

    def stage(name):
        def work(*_, **__):
            if name in fails:
                raise ServerError(f"{name} was cut off")
            done.append(name)
            if name == "ingest":
                CohortStore(tmp_path).folder.mkdir(exist_ok=True)
                CohortStore(tmp_path).finish(facts)
            return results[name]

        return work

    for name in results:
        monkeypatch.setattr(f"vigil.pipelines.jobs.run.{name}", stage(name))
    ward = SimulatedWard(patients=1)
    with pytest.raises(ServerError, match="evaluate was cut off"):
        run(ward, Home(tmp_path))
    assert done == ["ingest", "build", "train"]
    done.clear()
    fails = {"predict_over_http"}
    result = run(ward, Home(tmp_path))  # it still has a result to show
    assert done == ["evaluate", "materialize", "_predict_held_out", "run_drift"]
    assert (result.prediction, result.trained) == (None, results["train"])
    assert "one prediction over HTTP: predict_over_http was cut off; what is done is kept" in result.problem
    done.clear()
    fails = set()
    result = run(ward, Home(tmp_path))
    assert done == ["predict_over_http", "run_drift"]
    assert (result.prediction, result.problem, result.index_times) == ({"probability": 0.5}, None, 3)
    assert not (tmp_path / "run.json").exists()
    done.clear()
    run(ward, Home(tmp_path))
    assert done == list(results)  # after a finished run every step is done again


@pytest.mark.parametrize("other", ["patients", "cohort", "text"])
def test_resumable_steps_ignore_results_of_another_run(tmp_path, other):
    (tmp_path / "cohort").mkdir()
    CohortStore(tmp_path).finish(CohortFacts("simulated", True, "deterioration", 1, 0, 9, {}))
    assert ResumableSteps(Home(tmp_path), SimulatedWard(patients=1)).do("a", lambda: 1) == 1
    assert ResumableSteps(Home(tmp_path), SimulatedWard(patients=1)).do("a", lambda: 2) == 1
    if other == "cohort":
        os.utime(tmp_path / "cohort" / "cohort.json", (1, 1))
    elif other == "text":
        (tmp_path / "run.json").write_text("{")
    assert ResumableSteps(Home(tmp_path), SimulatedWard(patients=2 if other == "patients" else 1)).do("a", lambda: 2) == 2


def test_alarm_guarantee_counts_the_alarms_of_the_safety_net(home):
    """Alarms of the safety net count against the budget. If they leave none for the model, the artefact says so."""
    cohort = CohortStore(home)
    frame = Store(home).read_training_frame(read_labelled_index(cohort, "train"), cohort.task.feature_service)
    without = frame.rename(columns={"news2": "another_name"})
    models = {}
    for name, rows, allowed in (("net", frame, 0.5), ("no net", without, 0.5), ("spent", frame, 0.001)):
        models[name] = score_model("heart_rate_last_24h", hourly=True, seed=1)
        fit(models[name], rows, replace(cohort.task, alarm_target=AlarmTarget(allowed, 0.01)))
    assert models["net"].thresholds_["high"] > models["no net"].thresholds_["high"]
    assert models["spent"].certificate_ is None
    assert re.fullmatch(
        r"the safety net alone sounds 0\.\d\d of 0\.001 alarms per patient-day, so none are left for the model",
        models["spent"].metadata_["no_promise"],
    )
    assert "no_promise" not in models["net"].metadata_


def test_train_refuses_a_ward_with_too_few_events(tmp_path):
    ingest(SimulatedWard(patients=2), Home(tmp_path))
    build(Home(tmp_path))
    with pytest.raises(TooFewEventsError, match="hold . of the 2 classes of outcome; a larger cohort is needed"):
        train(Home(tmp_path))
