"""One door for every score: what it says is what the model says, as of when it says, or a reason why not."""

import sqlite3
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.batch import build_features
from features.observations import TIME
from features.store.client import Store, StoreError
from models.assessment import assess
from models.cohort import index_times
from models.registry import Registry
from pipelines.cohort_store import CohortStore
from serving.api.schemas import ObservationsRequest
from serving.composition import open_scorer
from serving.records.clock import ReplayClock, WallClock, open_clock
from serving.records.journal import Journal
from serving.records.prediction_log import LogUnavailableError, PredictionLog
from serving.settings import Settings

HOUR = pd.Timedelta(hours=1)


def message(signal, value, observed_at):
    """A reading as the journal takes it."""
    name = f"{signal} {observed_at.isoformat()}"
    reading = {"subject_id": "patient-a", "signal": signal, "value": value, "unit": None, "observed_at": observed_at}
    return {**reading, "device_id": None, "source": None, "message_id": name}


@pytest.fixture(scope="module")
def scorer(home):
    return open_scorer(Settings(home=home, task="deterioration"))


@pytest.fixture(scope="module")
def last(home):
    """The last index time of each stay."""
    cohort = CohortStore(home)
    return index_times(cohort.read("stays")).groupby("subject_id")["index_time"].max()


@pytest.fixture(scope="module")
def spoken(scorer, last):
    """Patients inside the model's domain of use, with no finding."""
    return [item.patient_id for item in scorer.by_id(list(last.index[:60])) if item.risk.findings == []]


def test_the_online_risk_is_the_batch_risk_bit_for_bit(scorer, home, last):
    patients = list(last.index[:40])
    rows = last.loc[patients].rename("index_time").reset_index()
    frame = Store(home).training_frame(rows, scorer.champion.model.feature_service)
    model = Registry(home).load("deterioration").model
    expected = dict(zip(frame["subject_id"], zip(model.risk(frame), assess(model, frame), strict=True), strict=True))
    spoken = 0
    for item in scorer.by_id(patients):
        probability, assessed = expected[item.patient_id]
        answer = item.risk
        assert (answer.probability, answer.band, answer.decided_by) == (
            assessed.probability,
            assessed.band,
            assessed.decided_by,
        )
        assert (answer.news2.sustained, answer.findings) == (assessed.net_score, list(assessed.findings))
        if answer.basis == "model":
            spoken += 1
            assert answer.probability == probability
    assert spoken > 30


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


def test_an_answer_says_what_it_rests_on(scorer, last, spoken):
    patient = spoken[0]
    answer = scorer.by_id([patient], include=["contributions", "range"])[0].risk
    assert pd.Timestamp(answer.as_of) == pd.Timestamp(answer.index_time) == last[patient]
    assert answer.data_age.features_hours == 0
    assert 0 <= answer.data_age.latest_reading_hours < 24
    assert answer.news2.score <= answer.news2.highest <= 20
    assert (answer.basis, answer.findings) == ("model", [])
    assert answer.model.simulated
    assert (answer.model.name, answer.model.feature_service) == ("deterioration", "vital_signs_v3")
    assert answer.range.low <= answer.probability <= answer.range.high
    sizes = [abs(contribution.log_odds) for contribution in answer.contributions]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)


def test_what_nobody_asked_for_is_not_computed(scorer, last):
    answer = scorer.by_id([last.index[0]])[0].risk
    assert answer.contributions is None
    assert answer.range is None


@pytest.mark.parametrize("after", [0.99, 1.0, 500.0])
def test_a_row_older_than_its_step_is_never_put_to_the_model(scorer, last, spoken, after):
    patient = spoken[1]
    answer = scorer.by_id([patient], as_of=(last[patient] + after * HOUR).to_pydatetime())[0].risk
    nothing_known = ["hardly_known"] if after >= 24 else []
    assert (answer.basis, answer.findings) == (("model", []) if after < 1 else ("news2", ["stale_data", *nothing_known]))
    assert (answer.probability is None) == (after >= 1)
    assert answer.data_age.features_hours == pytest.approx(after)
    if after >= 24:  # NEWS2 of yesterday's vital signs is not NEWS2
        assert (answer.news2.score, answer.news2.highest, answer.band) == (0, 20, "unknown")
        assert set(answer.news2.parts.values()) == {None}


def test_a_row_newer_than_as_of_is_never_served(scorer, last):
    """It may know what was not yet known."""
    patient = last.index[1]
    item = scorer.by_id([patient], as_of=(last[patient] - 0.01 * HOUR).to_pydatetime())[0]
    assert (item.risk, item.problem.code) == (None, "as_of_before_features")


@pytest.mark.parametrize("after", [1.5, 7.25, 20.0, 23.5])
def test_news2_of_a_stale_row_is_that_of_the_readings_known_then(scorer, home, last, after):
    """What is left of a row after some hours, against the features of those hours built anew from the same readings."""
    patients = list(last.index[:15])
    readings = pd.concat(part[0] for part in CohortStore(home).iterate("observations"))
    readings = readings[readings["subject_id"].isin(patients)]
    known = readings[(readings["recorded_at"] <= readings["subject_id"].map(last).astype(TIME))]
    index = last.loc[patients].rename("index_time").reset_index()
    index["index_time"] += pd.Timedelta(hours=after)
    index = index.assign(age=np.nan, sex=np.nan)
    index["unit_admitted_at"] = index["hospital_admitted_at"] = pd.Series(pd.NaT, index.index, TIME)
    expected = build_features(known, index).set_index("subject_id")
    for patient in patients:
        answer = scorer.by_id([patient], as_of=expected.loc[patient, "index_time"].to_pydatetime())[0].risk
        parts = {vital: expected.loc[patient, f"news2_{vital}"] for vital in answer.news2.parts}
        assert answer.news2.parts == {vital: None if np.isnan(points) else int(points) for vital, points in parts.items()}
        since = expected.loc[patient, "hours_since_reading"]
        assert answer.data_age.latest_reading_hours == (None if np.isnan(since) else pytest.approx(since, abs=1e-3))


def test_a_patient_of_whom_nothing_recent_is_known_gets_news2_and_the_reason(scorer):
    """A row may be current and still rest on nothing: no vital sign for a day is not a low risk."""
    old = {"signal": "heart_rate", "value": 180, "observed_at": "2026-01-01T00:00:00Z"}
    request = ObservationsRequest(patient_id="x", observations=[old], as_of="2026-01-02T00:00:00Z")
    only_laboratory = ObservationsRequest(patient_id="x", observations=[{**old, "signal": "lactate", "value": 9}])
    for asked in (request, only_laboratory):
        answer = scorer.from_observations(asked)
        assert (answer.basis, answer.probability, answer.findings) == (
            *("news2", None, ["no_recent_readings", "hardly_known"]),
        )
        assert answer.band == "unknown"
        assert (answer.news2.score, answer.news2.highest) == (0, 20)
        assert answer.data_age.latest_reading_hours is None


def test_a_silent_patient_in_the_store_gets_no_probability(scorer, spoken):
    class Silent:
        def online(self, patient_ids, service):
            return scorer.store.online(patient_ids, service).assign(hours_since_reading=np.float32("nan"))

    silent = replace(scorer, store=Silent())
    answer = silent.by_id([spoken[0]])[0].risk
    assert (answer.basis, answer.probability, answer.findings) == ("news2", None, ["no_recent_readings"])


def test_without_a_store_the_journal_answers_for_those_it_knows_and_says_so(scorer, last, tmp_path):
    class Gone:
        def online(self, patient_ids, service):
            raise StoreError(f"no {service} of {len(patient_ids)}")

    journal = Journal(tmp_path)
    now = pd.Timestamp.now("UTC").as_unit("us")
    vitals = {"heart_rate": 135.0, "respiratory_rate": 26.0, "spo2": 90.0}
    journal.append([message(signal, value, now) for signal, value in vitals.items()])
    items = replace(scorer, store=Gone(), journal=journal).by_id(["patient-a", last.index[0]])
    assert items[0].risk.findings == ["no_feature_store"]
    assert (items[0].risk.basis, items[0].risk.news2.score) == ("news2", 3 + 3 + 3)
    assert items[1].problem.code == "unavailable"  # rather than unknown: nobody can tell


def test_without_a_model_risks_are_news2(scorer, last):
    class NoModel:
        model = None

    answer = replace(scorer, champion=NoModel()).by_id([last.index[0]], include=["contributions", "range"])[0].risk
    by_model = scorer.by_id([last.index[0]])[0].risk
    assert (answer.basis, answer.probability, answer.findings) == ("news2", None, ["no_model"])
    assert answer.news2 == by_model.news2
    assert (answer.model.name, answer.contributions, answer.range) == (None, None, None)


def test_readings_of_the_journal_give_the_risk_of_the_same_readings_in_a_request(scorer, tmp_path):
    journal = Journal(tmp_path)
    now = pd.Timestamp.now("UTC").as_unit("us")
    hours = range(12, -1, -1)
    vitals = {"heart_rate": 70.0, "respiratory_rate": 14.0, "spo2": 98.0, "systolic_bp": 125.0}
    readings = [message(s, v + 12 - hour, now - hour * HOUR) for hour in hours for s, v in vitals.items() if s != "spo2"]
    readings += [message("spo2", 98.0 - (12 - hour) / 2, now - hour * HOUR) for hour in hours]
    readings += [message("body_temperature", 36.8 + (12 - hour) / 20, now - hour * HOUR) for hour in hours]
    assert {result.status for result in journal.append(readings)} == {"accepted"}
    live = replace(scorer, journal=journal, clock=WallClock())
    answer = live.by_id(["patient-a"])[0].risk
    sent = [{name: reading[name] for name in ("signal", "value", "observed_at")} for reading in readings]
    request = ObservationsRequest(patient_id="patient-a", observations=sent, as_of=answer.index_time)
    assert (answer.basis, answer.findings) == ("model", [])
    assert answer.probability == live.from_observations(request).probability
    again = live.by_id(["patient-a"], as_of=answer.index_time)[0].risk  # a past answer can be made again
    assert again.probability == answer.probability


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
    assert live.by_id([last.index[0]])[0].risk.findings == ["stale_data", "hardly_known"]


def test_one_bad_patient_does_not_spoil_the_others(scorer, last):
    items = scorer.by_id([last.index[0], "nobody", last.index[1]])
    assert [item.problem.code if item.problem else "fine" for item in items] == ["fine", "unknown_patient", "fine"]
    assert [item.patient_id for item in items] == [last.index[0], "nobody", last.index[1]]


def test_every_prediction_is_logged_with_its_features(scorer, last, spoken):
    patient = spoken[2]
    answer = scorer.by_id([patient])[0].risk
    model = scorer.champion.model.model
    logged = scorer.log.read(model_name="deterioration", features=model.features)
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
