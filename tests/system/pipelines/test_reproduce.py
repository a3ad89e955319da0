"""Reproduction: every past prediction can be made again, and a single bit that differs is noticed."""

import math
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support.live_ward import TASK, LiveWard
from tests.support.whole_rows import open_whole
from vigil.models.registry import Registry
from vigil.pipelines.cli.main import app
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.operations.reproduce import reproduce
from vigil.pipelines.operations.restore import restore
from vigil.serving.composition import open_risk_service
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.registration import Registration
from vigil.serving.scoring.model_versions import ModelVersions
from vigil.serving.scoring.past_risks import PastRisks
from vigil.serving.scoring.verification import Verification, Verifier
from vigil.serving.settings import Settings

ALL = 10_000
LIVE = ("live-1", "live-2", "live-3")


def now():
    return pd.Timestamp.now("UTC").as_unit("us")


def predictions(home, query, *values):
    with open_whole(home, "predictions.db") as connection:
        return connection.execute(query, values).fetchall()


class NothingStands:
    """Finds no risk that stands."""

    def find(self, _):
        return None


def making_service(home):
    """Return the risk service of a home, which makes every risk, though one may stand: those are the rescorer's."""
    return replace(open_risk_service(Settings(home=home, task=TASK)), standing=NothingStands())


@pytest.fixture(scope="module")
def predicted_once(ward_backup, tmp_path_factory):
    """A home with predictions of every origin."""
    own_home = tmp_path_factory.mktemp("reproduce") / "home"
    restore(ward_backup, Home(own_home))
    ward = LiveWard(own_home, now() - pd.Timedelta(hours=5))
    ward.register(*LIVE[:2])
    for minutes in (0, 7, 25, 25):
        ward.forward(minutes=minutes, microseconds=137)
        ward.send(*LIVE)
        ward.rescore()
    ward.register(LIVE[0], age=71.0)
    ward.forward(hours=2)  # risks age although nothing arrives
    ward.rescore()
    without_model = LiveWard(own_home, ward.time, model=False)
    without_model.forward(minutes=1)
    without_model.send(LIVE[2])
    without_model.rescore()
    ward = LiveWard(own_home, now() - pd.Timedelta(seconds=30))
    asked_about = ward.time - pd.Timedelta(hours=4)
    service = making_service(own_home)
    service.by_subject(LIVE, asked_about.to_pydatetime())  # from the journal: the store has none of them yet
    service.by_subject(LIVE)
    ward.send(*LIVE)
    ward.rescore()
    ward.write_online_store()
    service.by_subject(LIVE)
    stay = CohortStore(own_home).read("stays").iloc[0]
    service.by_subject([stay["subject_id"]])
    for hours in (1, 6, 30):
        later = service.clock.now(stay["subject_id"]) + pd.Timedelta(hours=hours)
        service.by_subject([stay["subject_id"]], later.to_pydatetime())
    vitals = {
        "heart_rate": 92,
        "respiratory_rate": 17,
        "spo2": 96,
        "systolic_bp": 128,
        "diastolic_bp": 76,
        "body_temperature": 37,
    }
    rows = [{"signal": name, "value": float(value), "unit": None, "observed_at": asked_about} for name, value in vitals.items()]
    service.from_observations(Registration("a stranger", ward="", age=60.0), pd.DataFrame(rows))
    return own_home


@pytest.fixture
def predicted(predicted_once, tmp_path):
    """A copy of that home; its registry still names the files of the original."""
    return shutil.copytree(predicted_once, tmp_path / "predicted")


def outside_training(home):
    """Return the number of held-out patients outside the domain of use."""
    ((number,),) = predictions(
        home,
        "SELECT COUNT(*) FROM logged WHERE origin = 'online_store' AND basis = 'news2' AND as_of = index_time",
    )
    return number


def test_reproduce_makes_predictions_of_every_origin_again_bit_for_bit(predicted):
    logged = Counter(predictions(predicted, "SELECT origin, basis FROM logged"))
    assert logged["rescorer", "model"] >= 12
    # Without a model: of the patient who sent, and of all patients whose last risk was of a model.
    assert logged["rescorer", "news2"] == 4
    assert (logged["journal", "model"], logged["online_store", "news2"]) == (6, 3 + outside_training(predicted))
    assert predictions(
        predicted, "SELECT COUNT(*) FROM logged WHERE origin = 'online_store' AND subject_id IN (?, ?, ?)", *LIVE
    ) == [(3,)]
    result = reproduce(predicted, ALL)
    assert result.different == {}
    assert result.sampled == logged.total()
    assert result.origins["request"] == {"from_logged_features": 1}
    for origin in ("rescorer", "journal", "online_store"):
        number = sum(count for (predicted_from, _), count in logged.items() if predicted_from == origin)
        assert result.origins[origin] == {"reproduced": number}


def test_reproduce_makes_predictions_of_a_withdrawal_again(predicted):
    before = Counter(predictions(predicted, "SELECT origin, basis FROM logged"))
    registry = Registry(predicted)
    version = registry.version_with_alias(TASK, "champion")
    registry.withdraw(TASK, version, "its certificate does not hold", now().to_pydatetime())
    time.sleep(1)  # the store's times are to the second, and these predictions must come after its rows
    ward = LiveWard(predicted, now())
    ward.send(*LIVE)
    ward.rescore()
    service = making_service(predicted)
    stay = CohortStore(predicted).read("stays").iloc[0]["subject_id"]
    reports = service.by_subject([*LIVE, stay])
    assert {(report.risk.basis, report.risk.findings[0]) for report in reports} == {("news2", "withdrawn")}
    since = Counter(predictions(predicted, "SELECT origin, basis FROM logged")) - before
    # The rescorer: of the patients who sent, and of all patients again, whose risks were of the withdrawn model.
    assert since == {("rescorer", "news2"): 3 + 3, ("journal", "news2"): 3, ("online_store", "news2"): 1}
    for trusted in (False, True):
        result = reproduce(predicted, ALL)
        assert result.different == {}
        assert result.sampled == before.total() + since.total()
        for origin in ("rescorer", "journal", "online_store"):
            assert result.origins[origin].keys() == {"reproduced"}, (origin, trusted)
        registry.reinstate(TASK, version)
    assert service.champion.model.withdrawn  # until the champion is read again
    service.champion.look()
    assert service.by_subject([stay])[0].risk.basis == "model"


def test_risk_uses_an_observation_of_the_same_second_as_the_online_store_row(predicted):
    ward = LiveWard(predicted, now().ceil("s") + pd.Timedelta(milliseconds=100))
    ward.send(LIVE[0])
    ward.rescore()
    ward.write_online_store()
    ward.forward(milliseconds=300)
    ward.send(LIVE[0], heart_rate=171.0)
    (report,) = open_risk_service(Settings(home=predicted, task=TASK)).by_subject(LIVE[:1], ward.time.to_pydatetime())
    assert report.risk.index_time == ward.time
    assert report.risk.components["heart_rate"].points == 3


def test_reproduce_names_a_tampered_prediction_and_its_columns_but_no_patient(predicted, tmp_path):
    (wrong, a_row, probability), (worse, another, _), (stale, last, _) = [
        predictions(predicted, f"SELECT prediction_id, seq, probability FROM logged WHERE {which} LIMIT 1")[0]
        for which in (
            "origin = 'rescorer' AND basis = 'model'",
            "origin = 'request'",
            "origin = 'online_store' AND basis = 'news2' AND as_of > index_time",
        )
    ]
    a_bit = math.nextafter(probability, 1)
    predictions(predicted, "UPDATE predictions SET probability = ? WHERE seq = ?", a_bit, a_row)
    predictions(
        predicted,
        "INSERT INTO contexts SELECT 0, origin, basis, 'none', decided_by, model_name, model_version, "
        "feature_service, terms, code FROM contexts WHERE id = (SELECT context FROM predictions WHERE seq = ?)",
        another,
    )
    predictions(predicted, "UPDATE predictions SET context = 0 WHERE seq = ?", another)
    predictions(predicted, "UPDATE predictions SET news2 = news2 + 1 WHERE seq = ?", last)
    assert reproduce(predicted, ALL).different == {wrong: ["probability"], worse: ["band"], stale: ["news2"]}
    result = CliRunner().invoke(
        app, ["reproduce", "--home", str(predicted), "--sample", str(ALL), "--json", str(tmp_path / "reproduction.json")]
    )
    assert result.exit_code == 1
    assert f"different: {wrong}: probability" in result.output
    subjects = [subject for (subject,) in predictions(predicted, "SELECT subject_id FROM logged")]
    assert not [subject for subject in subjects if subject in result.output]
    assert wrong in (tmp_path / "reproduction.json").read_text()


def test_reproduce_makes_one_prediction_again_by_its_id(predicted):
    command = ["reproduce", "--home", str(predicted), "--id"]
    (identity,) = predictions(predicted, "SELECT prediction_id FROM logged WHERE basis = 'model' LIMIT 1")[0]
    result = CliRunner().invoke(app, [*command, identity])
    assert (result.exit_code, "1 predictions made again" in result.output) == (0, True)
    unknown = CliRunner().invoke(app, [*command, identity[::-1]])
    assert unknown.exit_code == 2
    assert "expected the id of a RiskAssessment" in unknown.output


def test_server_verifies_predictions_of_every_origin(predicted):
    """It has no cohort: what is of one is verified by the features in the log."""
    service = open_risk_service(Settings(home=predicted, task=TASK))
    versions = ModelVersions(predicted, service.champion)
    past = PastRisks(service.task, service.log, service.journal, service.standing, versions)
    verifier = Verifier(service.journal, service.log, versions)
    rows = predictions(predicted, "SELECT prediction_id, origin, basis, subject_id FROM logged WHERE origin != 'request'")
    live = Counter()
    for identity, origin, basis, subject in rows:
        if subject in LIVE:
            risk = past.find(identity)
            live[origin, basis, verifier.verify(risk)] += 1
            assert (risk.report.risk.basis, risk.report.model is None) == (basis, risk.model is None)
    assert {found for _, _, found in live} == {Verification(True)}
    assert {("rescorer", "model"), ("rescorer", "news2"), ("journal", "model"), ("online_store", "model")} <= {
        key[:2] for key in live
    }
    of_cohort = next(
        identity
        for identity, origin, basis, subject in rows
        if (origin, basis) == ("online_store", "model") and subject not in LIVE
    )
    assert verifier.verify(past.find(of_cohort)) == Verification(True, from_log=True)


def test_reproduce_notices_changed_and_lost_observations(predicted):
    with closing(sqlite3.connect(predicted / "journal.db")) as connection, connection:
        of_subject = "series IN (SELECT id FROM series WHERE subject_id = ? AND signal LIKE ?)"
        connection.execute(f"UPDATE observations SET value = value + 1 WHERE {of_subject}", (LIVE[0], "heart_rate"))
        connection.execute(f"DELETE FROM observations WHERE {of_subject}", (LIVE[1], "%"))
    result = reproduce(predicted, ALL)
    assert result.origins["rescorer"]["different"] >= 4
    of_the_third = predictions(predicted, "SELECT prediction_id FROM logged WHERE subject_id = ?", LIVE[2])
    assert not set(result.different) & {name for (name,) in of_the_third}


def test_reproduce_uses_logged_features_if_the_cohort_is_gone(predicted):
    shutil.rmtree(predicted / "cohort")
    result = reproduce(predicted, ALL)
    assert result.different == {}
    counts = result.origins["online_store"]
    outside = outside_training(predicted)
    assert (counts["reproduced"], counts["not_stored"]) == (3, 3 + outside)  # a NEWS2 has no features in the log
    assert counts["from_logged_features"] == result.origins["online_store"].total() - 6 - outside


def test_prediction_log_sample_depends_on_the_seed_only(predicted):
    log = PredictionLog(predicted)
    first, again, other = [log.sample(20, seed)["prediction_id"].tolist() for seed in (1, 1, 2)]
    assert first == again
    assert len(set(first)) == 20
    assert set(first) != set(other)


@pytest.mark.parametrize("command", ["reproduce", "replay"])
def test_reproduce_refuses_a_home_without_predictions(tmp_path, command):
    result = CliRunner().invoke(app, [command, "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert "no prediction; make some first: vigil predict" in result.output
    assert not (tmp_path / "predictions.db").exists()
