"""One door for every score: what it says is what the model says, as of when it says, or a reason why not."""

import sqlite3
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.store.client import Store
from models.cohort import index_times
from models.registry import Registry
from pipelines.cohort_store import CohortStore
from serving.clock import ReplayClock, WallClock, open_clock
from serving.prediction_log import LogUnavailableError, PredictionLog
from serving.problems import ProblemError
from serving.schemas import ObservationsRequest
from serving.service import open_scorer
from serving.settings import Settings

HOUR = pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def scorer(home):
    return open_scorer(Settings(home=home, task="deterioration"))


@pytest.fixture(scope="module")
def last(home):
    """The last index time of each stay."""
    cohort = CohortStore(home)
    return index_times(cohort.read("stays")).groupby("subject_id")["index_time"].max()


def test_the_online_risk_is_the_batch_risk_bit_for_bit(scorer, home, last):
    patients = list(last.index[:40])
    rows = last.loc[patients].rename("index_time").reset_index()
    frame = Store(home).training_frame(rows, scorer.registered.feature_service)
    expected = dict(zip(frame["subject_id"], Registry(home).load("deterioration").model.risk(frame), strict=True))
    for item in scorer.by_id(patients):
        assert item.risk.probability == expected[item.patient_id]
        assert item.risk.band == scorer.registered.model.band(item.risk.probability)


def test_readings_in_the_request_give_the_risk_of_the_store(scorer, home, last):
    cohort = CohortStore(home)
    stays = cohort.read("stays").set_index("subject_id")
    patient = (stays["end"] - stays["start"]).idxmin()  # a short stay fits into one request
    t = last[patient]
    observations, *_ = next(
        (part for part in cohort.iterate("observations") if (part[0]["subject_id"] == patient).any()), (None,)
    )
    known = observations[
        (observations["subject_id"] == patient)
        & (observations["recorded_at"] <= t)
        & (observations["observed_at"] > t - 24 * HOUR)
    ]
    request = ObservationsRequest(
        patient_id=patient,
        observations=known[["signal", "value", "observed_at"]].to_dict("records"),
        as_of=t,
        age=stays.loc[patient, "age"],
        sex="male" if stays.loc[patient, "sex"] else "female",
        unit_admitted_at=stays.loc[patient, "unit_admitted_at"],
        hospital_admitted_at=stays.loc[patient, "hospital_admitted_at"],
    )
    assert scorer.from_observations(request).probability == scorer.by_id([patient])[0].risk.probability


def test_an_answer_says_what_it_rests_on(scorer, last):
    patient = last.index[0]
    answer = scorer.by_id([patient])[0].risk
    assert pd.Timestamp(answer.as_of) == pd.Timestamp(answer.index_time) == last[patient]
    assert answer.data_age.features_hours == 0
    assert 0 <= answer.data_age.latest_reading_hours < 24
    assert answer.news2.score <= answer.news2.highest <= 20
    assert answer.model.simulated
    assert (answer.model.name, answer.model.feature_service) == ("deterioration", "vital_signs_v2")
    sizes = [abs(contribution.log_odds) for contribution in answer.contributions]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("after", "code"), [(0.99, None), (1.0, "stale_data"), (500.0, "stale_data"), (-0.01, "as_of_before_features")]
)
def test_a_row_older_than_its_step_or_newer_than_as_of_is_never_served(scorer, last, after, code):
    patient = last.index[1]
    item = scorer.by_id([patient], as_of=(last[patient] + after * HOUR).to_pydatetime())[0]
    assert (item.problem.code if item.problem else None) == code
    assert (item.risk is None) == (code is not None)


def test_a_patient_of_whom_nothing_recent_is_known_has_no_risk(scorer):
    """A row may be current and still rest on nothing: no vital sign for a day is not a low risk."""
    old = {"signal": "heart_rate", "value": 180, "observed_at": "2026-01-01T00:00:00Z"}
    request = ObservationsRequest(patient_id="x", observations=[old], as_of="2026-01-02T00:00:00Z")
    with pytest.raises(ProblemError) as raised:
        scorer.from_observations(request)
    assert raised.value.problem.code == "no_recent_readings"
    only_laboratory = [{**old, "signal": "lactate", "value": 9}]
    with pytest.raises(ProblemError):
        scorer.from_observations(ObservationsRequest(patient_id="x", observations=only_laboratory))


def test_a_silent_patient_in_the_store_has_no_risk(scorer, last):
    class Silent:
        def online(self, patient_ids, service):
            return scorer.store.online(patient_ids, service).assign(hours_since_reading=np.float32("nan"))

    silent = replace(scorer, store=Silent())
    assert silent.by_id([last.index[0]])[0].problem.code == "no_recent_readings"


def test_a_prediction_that_cannot_be_logged_is_not_given(scorer, last, tmp_path):
    full = replace(scorer, log=PredictionLog(tmp_path))
    blocker = sqlite3.connect(tmp_path / "predictions.db")
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(LogUnavailableError) as raised:
            full.by_id([last.index[0]])
    finally:
        blocker.close()
    assert last.index[0] not in str(raised.value)
    assert raised.value.__cause__ is None  # the driver's error holds the row


def test_a_live_clock_finds_a_replayed_cohort_stale(scorer, last):
    live = replace(scorer, clock=WallClock())
    assert live.by_id([last.index[0]])[0].problem.code == "stale_data"


def test_one_bad_patient_does_not_spoil_the_others(scorer, last):
    items = scorer.by_id([last.index[0], "nobody", last.index[1]])
    assert [item.problem.code if item.problem else "fine" for item in items] == ["fine", "unknown_patient", "fine"]
    assert [item.patient_id for item in items] == [last.index[0], "nobody", last.index[1]]


def test_every_prediction_is_logged_with_its_features(scorer, last):
    patient = last.index[2]
    answer = scorer.by_id([patient])[0].risk
    model = scorer.registered.model
    logged = scorer.log.read(model_name="deterioration", model_version=scorer.registered.version, features=model.features)
    row = logged[logged["prediction_id"] == answer.prediction_id]
    assert len(row) == 1
    assert row["patient_id"].item() == patient
    assert row["as_of"].item() == last[patient]
    np.testing.assert_array_equal(model.risk(row), [answer.probability])  # what was logged reproduces what was said


def test_the_replay_clock_falls_back_to_the_wall_for_strangers(home, last):
    clock = open_clock(home)
    assert isinstance(clock, ReplayClock)
    assert clock.now(last.index[0]) == last.iloc[0]
    assert clock.now("stranger") > pd.Timestamp("2026-06-01T00:00:00Z")
