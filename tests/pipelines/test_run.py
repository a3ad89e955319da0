"""The whole chain on a small ward: what it makes, where it lies, and that a second run is a challenger."""

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

import pipelines.jobs.behaviour
from features.pseudonyms import open_pseudonyms
from features.store.client import Store, StoreError
from models.alarms.timeline import Watch
from models.cohort import split_of
from models.domain import DomainOfUse
from models.registry import Registry
from models.tasks import Promise
from models.training.candidate_models import few_records, score_alone
from models.training.risk_model import RiskModel, TooFewEventsError
from pipelines.cohort_store import CohortStore, Facts
from pipelines.jobs.build_features import build
from pipelines.jobs.ingest import ingest
from pipelines.jobs.run import NoChampionError, Steps, run
from pipelines.jobs.train import REFERENCE, Trained, fit, labelled_index, train
from pipelines.operations.server import ServerError
from pipelines.sources.simulated import SimulatedWard
from serving.identity.identities import Identities
from serving.records.prediction_log import PredictionLog
from tests.models.behaviour.examined import answered, examination

MODELS = ["all_signals", "physiology", "workflow", "clock", "vital_signs", "logistic", "news2", "qsofa", "sirs", "mews"]


def stay_names():
    return [
        name for batch in SimulatedWard(patients=220, patients_per_batch=60).batches() for name in batch.stays["subject_id"]
    ]


def test_every_stage_left_its_result(chain):
    outcome, home = chain
    assert outcome.facts.subjects == len(stay_names()) > 220  # some of the 220 patients come back
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
    assert run.data.params["feature_service"] == "vital_signs_v3"
    assert run.data.metrics["all_signals.auroc"] == outcome.metrics["all_signals"]["auroc"]
    artifacts = {file.path for file in registry.client.list_artifacts(outcome.trained.run_id)}
    assert {"features.json", "thresholds.json", "certificate.json", "evaluation.html", "model_card.md", REFERENCE} <= artifacts
    gates = registry.dictionary(outcome.trained.run_id, "first_version.json")["gates"]
    assert [(gate["name"], gate["passed"]) for gate in gates] == [("vignettes", True), ("directions", True)]
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
    patients = {pseudonyms.of(name): name for name in stay_names()}
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


def test_the_prediction_log_holds_exactly_the_held_out_patients_of_whom_the_model_may_speak(chain):
    outcome, home = chain
    model = Registry(home).load("deterioration").model
    cohort = CohortStore(home)
    last = Store(home).training_frame(labelled_index(cohort, "held_out"), cohort.task.feature_service)
    last = last.drop_duplicates("subject_id", keep="last")
    may_speak = last["hours_since_reading"].notna() & ~model.domain_.outside(last)
    logged = PredictionLog(home).read(model_name="deterioration", features=model.features)
    last_of_the_run = logged["prediction_id"] == outcome.prediction["prediction_id"]
    during_the_run = logged[logged["made_at"] <= logged.loc[last_of_the_run, "made_at"].item()]
    held_out = {patient for patient in cohort.read("stays")["subject_id"] if split_of(patient) == "held_out"}
    assert set(last["subject_id"]) == held_out
    assert set(during_the_run["patient_id"]) == set(last["subject_id"][may_speak])
    assert may_speak.mean() > 0.8
    assert outcome.drift.judgement.patients == may_speak.sum()


def test_each_step_of_training_sees_only_the_patients_it_may(home, tmp_path, monkeypatch):
    """Held-out patients reach nothing that is fitted or chosen; a first version is examined on them, and could be refused."""
    seen = {"asked": set(), "fit": set(), "threshold": set(), "domain": set(), "examined": set()}
    ways = []

    class Watched(Store):
        def training_frame(self, rows, service):
            seen["asked"] |= set(rows["subject_id"])
            return super().training_frame(rows, service)

    def fit(self, X, y, groups, augmented):
        seen["fit"] |= set(X["subject_id"]) | set(groups)
        for way in augmented:  # made of these rows of these patients
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

    original_fit, original_watch, original_domain = RiskModel.cross_fit, Watch.of, DomainOfUse.fit
    original_examine = pipelines.jobs.behaviour.examine_behaviour
    monkeypatch.setattr(DomainOfUse, "fit", domain)
    monkeypatch.setattr("pipelines.jobs.behaviour.examine_behaviour", examine)
    monkeypatch.setattr("pipelines.jobs.train.Store", Watched)
    monkeypatch.setattr("pipelines.jobs.train.Registry", lambda _: Registry(tmp_path))
    monkeypatch.setattr(RiskModel, "cross_fit", fit)
    monkeypatch.setattr(Watch, "of", watch)
    train(home)
    split = {patient: split_of(patient) for patient in CohortStore(home).read("stays")["subject_id"]}
    splits_seen = {step: {split[patient] for patient in patients} for step, patients in seen.items()}
    assert splits_seen == {
        "asked": {"train"}, "fit": {"train"}, "threshold": {"train"}, "domain": {"train"}, "examined": {"held_out"},
    }  # fmt: skip
    assert ways[0] == ["changed_habits", "changed_habits", "late_start", "last_set"]
    assert ways[-1] == []  # a score alone


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


@pytest.fixture
def quickly_trained(monkeypatch):
    """Training of one small model."""
    features = ["age", "hours_in_unit", "heart_rate_last_24h", "heart_rate_count_24h", "news2"]
    small = few_records(features, seed=1)
    monkeypatch.setattr("pipelines.jobs.train.variants", lambda *_, **__: {"all_signals": clone(small)})


@pytest.mark.usefixtures("quickly_trained")
def test_a_first_version_that_fails_a_gate_of_behaviour_is_challenger_and_the_next_may_be_crowned(home, tmp_path, monkeypatch):
    registry = Registry(tmp_path)
    monkeypatch.setattr("pipelines.jobs.train.Registry", lambda _: registry)
    too_low = answered({("septic_shock", "none"): ("band_too_low", "band low, no alarm by NEWS2")})
    monkeypatch.setattr("pipelines.jobs.train.behaviour_of", lambda *_: examination(vignettes=too_low))
    first = train(home)
    assert (first.version, first.alias) == ("1", "challenger")
    assert not registry.has_champion("deterioration")
    assert first.refused.startswith(
        "version 1 of deterioration is challenger and there is no champion, gate vignettes: found septic_shock (none): band "
        "low, no alarm by NEWS2, expected band at least high, an alarm by NEWS2; "
    )
    assert "; expected no answer too low" in first.refused
    assert "; what to do: see what each vignette was answered" in first.refused
    assert first.refused.endswith("until a version passes (vigil promote), the server gives NEWS2")
    tags = registry.client.get_model_version("deterioration", "1").tags
    assert (tags["refused_by"], tags["simulated"]) == ("vignettes", "true")
    kept = registry.dictionary(first.run_id, "first_version.json")["gates"]
    assert [(gate["name"], gate["passed"]) for gate in kept] == [("vignettes", False), ("directions", True)]

    monkeypatch.setattr("pipelines.jobs.train.behaviour_of", lambda *_: examination())
    second = train(home)
    assert (second.version, second.alias, second.refused) == ("2", "champion", None)
    monkeypatch.setattr("pipelines.jobs.train.behaviour_of", lambda *_: pytest.fail("promotion examines a later version"))
    third = train(home)
    assert (third.version, third.alias, third.refused) == ("3", "challenger", None)


def test_run_ends_clearly_where_the_first_version_is_refused(tmp_path, monkeypatch):
    done = []
    facts = Facts("simulated", True, "deterioration", 1, 0, 9, {})
    monkeypatch.setattr("pipelines.jobs.run.CohortStore.facts", facts)
    trained = Trained(
        "deterioration", "1", "challenger", "run", "version 1 of deterioration is challenger, gate directions: ..."
    )
    for stage, result in (
        ("ingest", facts),
        ("build", SimpleNamespace(index_times=3)),
        ("train", trained),
        ("evaluate", {}),
        ("materialize", 3),
    ):
        monkeypatch.setattr(
            f"pipelines.jobs.run.{stage}", lambda *_, stage=stage, result=result, **__: done.append(stage) or result
        )
    with pytest.raises(NoChampionError, match=r"gate directions: \.\.\.; the run ends before its prediction and drift report"):
        run(SimulatedWard(patients=1), tmp_path)
    assert done == ["ingest", "build", "train", "evaluate", "materialize"]


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(tmp_path, monkeypatch):
    facts = Facts("simulated", True, "deterioration", 1, 0, 9, {})
    results = {
        "ingest": facts,
        "build": SimpleNamespace(index_times=3),
        "train": Trained("deterioration", "1", "champion", "run"),
        "evaluate": {"all_signals": {"auroc": 0.8, "slope": float("nan")}},
        "materialize": 3,
        "_sickest": "somebody",
        "predict_over_http": {"probability": 0.5},
        "drift": None,
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
        monkeypatch.setattr(f"pipelines.jobs.run.{name}", stage(name))
    ward = SimulatedWard(patients=1)
    with pytest.raises(ServerError, match="evaluate was cut off"):
        run(ward, tmp_path)
    assert done == ["ingest", "build", "train"]
    done.clear()
    fails = {"predict_over_http"}
    outcome = run(ward, tmp_path)  # its table is shown all the same
    assert done == ["evaluate", "materialize", "_sickest", "drift"]
    assert (outcome.prediction, outcome.trained) == (None, results["train"])
    assert "one prediction over HTTP: predict_over_http was cut off; what is done is kept" in outcome.problem
    done.clear()
    fails = set()
    outcome = run(ward, tmp_path)
    assert done == ["predict_over_http", "drift"]
    assert (outcome.prediction, outcome.problem, outcome.index_times) == ({"probability": 0.5}, None, 3)
    assert not (tmp_path / "run.json").exists()
    done.clear()
    run(ward, tmp_path)
    assert done == list(results)  # a run that was finished is no reason to leave anything out


@pytest.mark.parametrize("other", ["patients", "cohort", "text"])
def test_what_another_run_did_does_not_count(tmp_path, other):
    (tmp_path / "cohort").mkdir()
    CohortStore(tmp_path).finish(Facts("simulated", True, "deterioration", 1, 0, 9, {}))
    assert Steps(tmp_path, SimulatedWard(patients=1)).do("a", lambda: 1) == 1
    assert Steps(tmp_path, SimulatedWard(patients=1)).do("a", lambda: 2) == 1
    if other == "cohort":
        os.utime(tmp_path / "cohort" / "cohort.json", (1, 1))
    elif other == "text":
        (tmp_path / "run.json").write_text("{")
    assert Steps(tmp_path, SimulatedWard(patients=2 if other == "patients" else 1)).do("a", lambda: 2) == 2


def test_promise_of_training_counts_the_alarms_of_the_safety_net(home):
    """What the net sounds is not left to the model; where it leaves nothing the artefact says so."""
    cohort = CohortStore(home)
    frame = Store(home).training_frame(labelled_index(cohort, "train"), cohort.task.feature_service)
    without = frame.rename(columns={"news2": "another_name"})
    models = {}
    for name, rows, allowed in (("net", frame, 0.5), ("no net", without, 0.5), ("spent", frame, 0.001)):
        models[name] = score_alone("heart_rate_last_24h", hourly=True, seed=1)
        fit(models[name], rows, replace(cohort.task, promise=Promise(allowed, 0.01)))
    assert models["net"].thresholds_["high"] > models["no net"].thresholds_["high"]
    assert models["spent"].certificate_ is None
    assert re.fullmatch(
        r"the safety net alone sounds 0\.\d\d of 0\.001 alarms per patient-day, so none are left for the model",
        models["spent"].facts_["no_promise"],
    )
    assert "no_promise" not in models["net"].facts_


def test_a_ward_too_small_to_learn_from_says_so(tmp_path):
    ingest(SimulatedWard(patients=2), tmp_path)
    build(tmp_path)
    with pytest.raises(TooFewEventsError, match="hold . of the 2 classes of outcome; a larger cohort is needed"):
        train(tmp_path)
