"""Replay: whatever was said can be said again, and a single bit that cannot is found."""

import math
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing

import pandas as pd
import pytest
from typer.testing import CliRunner

from models.registry import Registry
from pipelines.cli.main import app
from pipelines.cohort_store import CohortStore
from pipelines.operations.backup import restore
from pipelines.operations.reproduce import replay
from serving.api.schemas import ObservationsRequest
from serving.composition import open_scorer
from serving.records.prediction_log import PredictionLog
from serving.settings import Settings
from tests.pipelines.monitors import TASK, Monitors

ALL = 10_000
LIVE = ("live-1", "live-2", "live-3")


def now():
    return pd.Timestamp.now("UTC").as_unit("us")


def predictions(home, query, *values):
    with closing(sqlite3.connect(home / "predictions.db")) as connection, connection:
        return connection.execute(query, values).fetchall()


@pytest.fixture(scope="module")
def told_once(ward_backup, tmp_path_factory):
    """A home that made predictions in every way there is."""
    own_home = tmp_path_factory.mktemp("replay") / "home"
    restore(ward_backup, own_home)
    ward = Monitors(own_home, now() - pd.Timedelta(hours=5))
    ward.register(*LIVE[:2])
    for minutes in (0, 7, 25, 25):
        ward.forward(minutes=minutes, microseconds=137)
        ward.send(*LIVE)
        ward.rescore()
    ward.register(LIVE[0], age=71.0)
    ward.forward(hours=2)  # nothing comes: risks age all the same
    ward.rescore()
    without_model = Monitors(own_home, ward.time, model=False)
    without_model.forward(minutes=1)
    without_model.send(LIVE[2])
    without_model.rescore()
    ward = Monitors(own_home, now() - pd.Timedelta(seconds=30))
    asked = ward.time - pd.Timedelta(hours=4)
    scorer = open_scorer(Settings(home=own_home, task=TASK))
    scorer.by_id(LIVE, asked.to_pydatetime())  # the store has none of them yet: from the journal
    scorer.by_id(LIVE)
    ward.send(*LIVE)
    ward.rescore()
    ward.into_feast()
    scorer.by_id(LIVE)
    stay = CohortStore(own_home).read("stays").iloc[0]
    scorer.by_id([stay["subject_id"]])
    for hours in (1, 6, 30):
        later = scorer.clock.now(stay["subject_id"]) + pd.Timedelta(hours=hours)
        scorer.by_id([stay["subject_id"]], later.to_pydatetime())
    vitals = {
        "heart_rate": 92,
        "respiratory_rate": 17,
        "spo2": 96,
        "systolic_bp": 128,
        "diastolic_bp": 76,
        "body_temperature": 37,
    }
    readings = [{"signal": name, "value": value, "observed_at": asked.to_pydatetime()} for name, value in vitals.items()]
    scorer.from_observations(ObservationsRequest(patient_id="from elsewhere", observations=readings, age=60))
    return own_home


@pytest.fixture
def told(told_once, tmp_path):
    """A copy; its registry still names the files of the first."""
    shutil.copytree(told_once, tmp_path / "told")
    return tmp_path / "told"


def outside_training(home):
    """How many held-out patients the model may not speak of."""
    ((number,),) = predictions(
        home,
        "SELECT COUNT(*) FROM predictions WHERE origin = 'online_store' AND basis = 'news2' AND as_of = index_time",
    )
    return number


def test_every_prediction_is_made_again_bit_for_bit_whatever_it_came_from(told):
    said = Counter(predictions(told, "SELECT origin, basis FROM predictions"))
    assert said["rescorer", "model"] >= 12
    assert said["rescorer", "news2"] == 4  # no model: of whom came, and of the others, who are not ranked by one that is gone
    assert (said["journal", "model"], said["online_store", "news2"]) == (6, 3 + outside_training(told))
    assert predictions(
        told, "SELECT COUNT(*) FROM predictions WHERE origin = 'online_store' AND patient_id IN (?, ?, ?)", *LIVE
    ) == [(3,)]
    found = replay(told, ALL)
    assert found.different == {}
    assert found.sampled == said.total()
    assert found.origins["request"] == {"from_logged_features": 1}
    for origin in ("rescorer", "journal", "online_store"):
        made = sum(number for (made_by, _), number in said.items() if made_by == origin)
        assert found.origins[origin] == {"reproduced": made}


def test_what_was_said_while_the_model_was_withdrawn_and_before_is_made_again(told):
    before = Counter(predictions(told, "SELECT origin, basis FROM predictions"))
    registry = Registry(told)
    version = registry.version_of(TASK, "champion")
    registry.withdraw(TASK, version, "its certificate does not hold", now().to_pydatetime())
    time.sleep(1)  # the store's times are to the second, and what comes now is to be later than what it knows
    ward = Monitors(told, now())
    ward.send(*LIVE)
    ward.rescore()
    scorer = open_scorer(Settings(home=told, task=TASK))
    stay = CohortStore(told).read("stays").iloc[0]["subject_id"]
    answers = scorer.by_id([*LIVE, stay])
    assert {(item.risk.basis, item.risk.findings[0]) for item in answers} == {("news2", "withdrawn")}
    since = Counter(predictions(told, "SELECT origin, basis FROM predictions")) - before
    # The rescorer: of whom came, and of everybody, since none is ranked by a model that was withdrawn.
    assert since == {("rescorer", "news2"): 3 + 3, ("journal", "news2"): 3, ("online_store", "news2"): 1}
    for trusted in (False, True):
        found = replay(told, ALL)
        assert found.different == {}
        assert found.sampled == before.total() + since.total()
        for origin in ("rescorer", "journal", "online_store"):
            assert found.origins[origin].keys() == {"reproduced"}, (origin, trusted)
        registry.reinstate(TASK, version)
    assert scorer.champion.model.withdrawn  # until it looks
    scorer.champion.look()
    assert scorer.by_id([stay])[0].risk.basis == "model"


def test_a_reading_of_the_second_of_the_stores_row_is_known_as_of_then(told):
    ward = Monitors(told, now().ceil("s") + pd.Timedelta(milliseconds=100))
    ward.send(LIVE[0])
    ward.rescore()
    ward.into_feast()
    ward.forward(milliseconds=300)
    ward.send(LIVE[0], heart_rate=171.0)
    (answer,) = open_scorer(Settings(home=told, task=TASK)).by_id(LIVE[:1], ward.time.to_pydatetime())
    assert answer.risk.index_time == ward.time
    assert answer.risk.news2.parts["heart_rate"] == 3


def test_a_tampered_prediction_is_named_with_what_differs_and_no_patient(told, tmp_path):
    (wrong, probability), (worse, _), (stale, _) = [
        predictions(told, f"SELECT prediction_id, probability FROM predictions WHERE {which} LIMIT 1")[0]
        for which in (
            "origin = 'rescorer' AND basis = 'model'",
            "origin = 'request'",
            "origin = 'online_store' AND basis = 'news2' AND as_of > index_time",
        )
    ]
    a_bit = math.nextafter(probability, 1)
    predictions(told, "UPDATE predictions SET probability = ? WHERE prediction_id = ?", a_bit, wrong)
    predictions(told, "UPDATE predictions SET band = 'none' WHERE prediction_id = ?", worse)
    predictions(told, "UPDATE predictions SET news2 = news2 + 1 WHERE prediction_id = ?", stale)
    assert replay(told, ALL).different == {wrong: ["probability"], worse: ["band"], stale: ["news2"]}
    result = CliRunner().invoke(
        app, ["replay", "--home", str(told), "--sample", str(ALL), "--json", str(tmp_path / "replay.json")]
    )
    assert result.exit_code == 1
    assert f"different: {wrong}: probability" in result.output
    assert not [patient for (patient,) in predictions(told, "SELECT patient_id FROM predictions") if patient in result.output]
    assert wrong in (tmp_path / "replay.json").read_text()


def test_a_reading_that_was_changed_or_lost_is_noticed(told):
    with closing(sqlite3.connect(told / "journal.db")) as connection, connection:
        connection.execute("UPDATE readings SET value = value + 1 WHERE patient = ? AND signal = 'heart_rate'", LIVE[:1])
        connection.execute("DELETE FROM readings WHERE patient = ?", LIVE[1:2])
    found = replay(told, ALL)
    assert found.origins["rescorer"]["different"] >= 4
    of_the_third = predictions(told, "SELECT prediction_id FROM predictions WHERE patient_id = ?", LIVE[2])
    assert not set(found.different) & {name for (name,) in of_the_third}


def test_where_the_cohort_is_gone_logged_features_give_what_was_said(told):
    shutil.rmtree(told / "cohort")
    found = replay(told, ALL)
    assert found.different == {}
    counts = found.origins["online_store"]
    outside = outside_training(told)
    assert (counts["reproduced"], counts["not_kept"]) == (3, 3 + outside)  # a NEWS2 has no features in the log
    assert counts["from_logged_features"] == found.origins["online_store"].total() - 6 - outside


def test_a_sample_is_random_and_the_same_for_the_same_seed(told):
    log = PredictionLog(told)
    first, again, other = [log.sample(20, seed)["prediction_id"].tolist() for seed in (1, 1, 2)]
    assert first == again
    assert len(set(first)) == 20
    assert set(first) != set(other)


def test_a_home_that_said_nothing_has_nothing_to_replay(tmp_path):
    result = CliRunner().invoke(app, ["replay", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert "no prediction there; make some first: vigil predict" in result.output
    assert not (tmp_path / "predictions.db").exists()
