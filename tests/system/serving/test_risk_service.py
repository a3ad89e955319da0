"""The risk service: a report holds what the model gives, as of the time it states, or the reason why there is none."""

import sqlite3
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vigil.features.batch import build_features
from vigil.features.observations import TIME
from vigil.features.store.client import Store, StoreError
from vigil.models.assessment import assess
from vigil.models.bedside import USUAL_TERMS
from vigil.models.cohort import index_times
from vigil.models.registry import Registry
from vigil.pipelines.cohort_store import CohortStore
from vigil.serving.api.routes.risks import _problem as risk_problem
from vigil.serving.api.schemas.risks import risk_answer
from vigil.serving.composition import open_risk_service
from vigil.serving.records.clock import ReplayClock, WallClock, open_clock
from vigil.serving.records.journal import Journal
from vigil.serving.records.prediction_log import LogUnavailableError, PredictionLog
from vigil.serving.records.registration import Registration
from vigil.serving.records.timestamps import microsecond
from vigil.serving.scoring.risk_report import NoReport
from vigil.serving.scoring.risk_service import UnusableObservation, UnusableObservationsError
from vigil.serving.settings import Settings

HOUR = pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def home(own_home):
    return own_home


def observation(signal, value, observed_at):
    """Return an observation as the journal takes it."""
    message_id = f"{signal} {observed_at.isoformat()}"
    row = {"subject_id": "patient-a", "signal": signal, "value": value, "unit": None, "observed_at": observed_at}
    return {**row, "device_id": None, "source": None, "message_id": message_id}


def sent(rows):
    """Return a frame of observations as :meth:`RiskService.from_observations` takes it."""
    frame = pd.DataFrame(rows).reindex(columns=["signal", "value", "observed_at", "unit"])
    return frame.assign(observed_at=[pd.Timestamp(time).to_pydatetime() for time in frame["observed_at"]])


@pytest.fixture(scope="module")
def service(home):
    return open_risk_service(Settings(home=home, task="deterioration"))


@pytest.fixture(scope="module")
def last(home):
    """The last index time of each stay."""
    cohort = CohortStore(home)
    return index_times(cohort.read("stays")).groupby("subject_id")["index_time"].max()


@pytest.fixture(scope="module")
def in_domain(service, last):
    """Subjects inside the model's domain of use, without a finding."""
    return [report.risk.patient for report in service.by_subject(list(last.index[:60])) if report.risk.findings == ()]


def test_online_risk_is_the_batch_risk_bit_for_bit(service, home, last):
    subjects = list(last.index[:40])
    rows = last.loc[subjects].rename("index_time").reset_index()
    frame = Store(home).read_training_frame(rows, service.champion.model.feature_service)
    model = Registry(home).load("deterioration").model
    expected = dict(
        zip(
            frame["subject_id"],
            zip(model.risk(frame), assess(model, frame, terms=[USUAL_TERMS] * len(frame)), strict=True),
            strict=True,
        )
    )
    by_model = 0
    reports = service.by_subject(subjects)
    assert [report.risk.patient for report in reports] == subjects
    for report in reports:
        risk = report.risk
        probability, assessed = expected[risk.patient]
        assert (risk.probability, risk.band, risk.decided_by) == (assessed.probability, assessed.band, assessed.decided_by)
        assert (risk.net_score, risk.findings) == (assessed.net_score, assessed.findings)
        if risk.basis == "model":
            by_model += 1
            assert risk.probability == probability
    assert by_model > 30


def test_observations_of_a_request_give_the_risk_of_the_store(service, home, last):
    cohort = CohortStore(home)
    stays = cohort.read("stays").set_index("subject_id")
    subject = (stays["end"] - stays["start"]).idxmin()  # a short stay fits into one request
    t = last[subject]
    observations, *_ = next(
        (part for part in cohort.iterate("observations") if (part[0]["subject_id"] == subject).any()), (None,)
    )
    known = observations[
        (observations["subject_id"] == subject)
        & (observations["recorded_at"] <= t)
        & (observations["observed_at"] > t - 24 * HOUR)
    ]
    stay = stays.loc[subject]
    facts = Registration(
        subject,
        "",
        age=stay["age"],
        sex=1.0 if stay["sex"] else 0.0,
        **{
            name: None if pd.isna(stay[name]) else microsecond(stay[name])
            for name in ("unit_admitted_at", "hospital_admitted_at")
        },
    )
    report = service.from_observations(facts, sent(known), t.to_pydatetime())
    assert report.risk.probability == service.by_subject([subject])[0].risk.probability


def test_report_states_what_it_rests_on(service, last, in_domain):
    subject = in_domain[0]
    (report,) = service.by_subject([subject], include=["contributions", "range"])
    risk = report.risk
    assert report.as_of == risk.index_time == last[subject]
    assert report.features_hours == 0
    assert 0 <= report.latest_reading_hours < 24
    assert risk.news2 <= risk.news2_highest <= 20
    assert (risk.basis, risk.findings) == ("model", ())
    assert (report.model.name, report.feature_service) == ("deterioration", "vital_signs_v3")
    assert report.range[0] <= risk.probability <= report.range[1]
    sizes = [abs(contribution.log_odds) for contribution in report.contributions]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)
    answer = risk_answer(report, "p")
    assert pd.Timestamp(answer.as_of) == pd.Timestamp(answer.index_time) == last[subject]
    assert (answer.data_age.features_hours, answer.data_age.latest_reading_hours) == (0, report.latest_reading_hours)
    assert (answer.news2.score, answer.news2.highest) == (risk.news2, risk.news2_highest)
    assert answer.model.simulated
    assert (answer.model.name, answer.model.feature_service) == ("deterioration", "vital_signs_v3")
    assert (answer.range.low, answer.range.high) == report.range
    assert [contribution.log_odds for contribution in answer.contributions] == [
        contribution.log_odds for contribution in report.contributions
    ]


def test_report_has_contributions_and_range_on_request_only(service, last):
    (report,) = service.by_subject([last.index[0]])
    assert report.contributions is None
    assert report.range is None
    answer = risk_answer(report, "p")
    assert (answer.contributions, answer.range) == (None, None)


@pytest.mark.parametrize("after", [0.99, 1.0, 500.0])
def test_stale_row_is_never_put_to_the_model(service, last, in_domain, after):
    subject = in_domain[1]
    (report,) = service.by_subject([subject], as_of=(last[subject] + after * HOUR).to_pydatetime())
    risk = report.risk
    nothing_known = ("hardly_known", "value_too_old") if after >= 24 else ()
    assert (risk.basis, risk.findings) == (("model", ()) if after < 1 else ("news2", ("stale_data", *nothing_known)))
    assert (risk.probability is None) == (after >= 1)
    assert report.features_hours == pytest.approx(after)
    if after >= 24:  # NEWS2 of yesterday's vital signs is not NEWS2
        assert (risk.news2, risk.news2_highest, risk.band) == (0, 20, "unknown")
        assert {component.points for component in risk.components.values()} == {None}


def test_row_newer_than_as_of_is_never_served(service, last):
    """It may hold what was not known then."""
    subject = last.index[1]
    (report,) = service.by_subject([subject], as_of=(last[subject] - 0.01 * HOUR).to_pydatetime())
    assert isinstance(report, NoReport)
    assert (report.reason, report.hours_too_early) == ("too_early", pytest.approx(0.01))
    assert risk_problem(report).code == "as_of_before_features"


@pytest.mark.parametrize("after", [1.5, 7.25, 20.0, 23.5])
def test_news2_of_a_stale_row_is_that_of_the_observations_known_then(service, home, last, after):
    """What is left of a row after some hours, against the features of those hours built from the same observations."""
    patients = list(last.index[:15])
    observations = pd.concat(part[0] for part in CohortStore(home).iterate("observations"))
    observations = observations[observations["subject_id"].isin(patients)]
    observations = observations.assign(row_at=observations["subject_id"].map(last).astype(TIME))
    known = observations[observations["recorded_at"] <= observations["row_at"]]
    known = known.assign(superseded_at=known["superseded_at"].where(known["superseded_at"] <= known["row_at"]))
    index = last.loc[patients].rename("index_time").reset_index()
    index["index_time"] += pd.Timedelta(hours=after)
    index = index.assign(age=np.nan, sex=np.nan)
    index["unit_admitted_at"] = index["hospital_admitted_at"] = pd.Series(pd.NaT, index.index, TIME)
    expected = build_features(known, index).set_index("subject_id")
    for patient in patients:
        (report,) = service.by_subject([patient], as_of=expected.loc[patient, "index_time"].to_pydatetime())
        answered = {vital: shown.points for vital, shown in risk_answer(report, "p").news2.components.items()}
        for vital, component in report.risk.components.items():
            points, age = expected.loc[patient, f"news2_{vital}"], expected.loc[patient, f"{vital}_age_24h"]
            assert component.points == answered[vital] == (int(points) if age < 12 else None)
        since = expected.loc[patient, "hours_since_reading"]
        assert report.latest_reading_hours == (None if np.isnan(since) else pytest.approx(since, abs=1e-3))


def test_subject_without_recent_observations_gets_news2_and_the_reason(service):
    """A row may be current and still rest on nothing: no vital sign for a day is not a low risk."""
    old = {"signal": "heart_rate", "value": 180, "observed_at": "2026-01-01T00:00:00Z"}
    as_of = pd.Timestamp("2026-01-02T00:00:00Z").to_pydatetime()
    for only in (old, {**old, "signal": "lactate", "value": 9, "unit": "mmol/L"}):
        report = service.from_observations(Registration("x", ""), sent([only]), as_of)
        risk = report.risk
        assert (risk.basis, risk.probability, risk.findings) == ("news2", None, ("no_recent_readings", "hardly_known"))
        assert risk.band == "unknown"
        assert (risk.news2, risk.news2_highest) == (0, 20)
        assert report.latest_reading_hours is None


def test_unusable_observations_of_a_request_are_all_named_and_give_no_risk(service, tmp_path):
    service = replace(service, log=PredictionLog(tmp_path))
    at = "2026-01-01T00:00:00Z"
    rows = [
        {"signal": "heart_rate", "value": 80, "observed_at": at},
        {"signal": "spo2", "value": 400, "observed_at": at},
        {"signal": "mood", "value": 3, "observed_at": at},
        {"signal": "heart_rate", "value": 81, "observed_at": "2026-01-01T02:00:00Z"},
    ]
    with pytest.raises(UnusableObservationsError) as raised:
        service.from_observations(Registration("x", ""), sent(rows), pd.Timestamp("2026-01-01T01:00:00Z").to_pydatetime())
    assert set(raised.value.observations) == {
        UnusableObservation(1, "implausible", "spo2"),
        UnusableObservation(2, "unknown_signal", "mood"),
        UnusableObservation(3, "after_as_of"),
    }
    with pytest.raises(UnusableObservationsError) as raised:
        service.from_observations(Registration("x", ""), sent(rows[:1]), pd.Timestamp("2090-01-01T00:00:00Z").to_pydatetime())
    assert raised.value.observations == [UnusableObservation(None, "in_the_future")]
    assert service.log.subjects() == set()


def test_silent_subject_in_the_store_gets_no_probability(service, in_domain):
    class Silent:
        def online(self, subjects, feature_service):
            return service.store.online(subjects, feature_service).assign(hours_since_reading=np.float32("nan"))

    silent = replace(service, store=Silent())
    risk = silent.by_subject([in_domain[0]])[0].risk
    assert (risk.basis, risk.probability, risk.findings) == ("news2", None, ("no_recent_readings",))


def test_without_a_store_the_journal_answers_for_the_subjects_it_knows(service, last, tmp_path):
    class Unreadable:
        def online(self, subjects, feature_service):
            raise StoreError(f"no {feature_service} of {len(subjects)}")

    journal = Journal(tmp_path)
    now = pd.Timestamp.now("UTC").as_unit("us")
    vitals = {"heart_rate": 135.0, "respiratory_rate": 26.0, "spo2": 90.0}
    journal.append(lambda: [observation(signal, value, now) for signal, value in vitals.items()])
    known, unknown = replace(service, store=Unreadable(), journal=journal).by_subject(["patient-a", last.index[0]])
    assert known.risk.findings == ("no_feature_store",)
    assert (known.risk.basis, known.risk.news2) == ("news2", 3 + 3 + 3)
    assert unknown == NoReport("unavailable")  # rather than unknown: the store may know them
    assert risk_problem(unknown).code == "unavailable"


def test_without_a_model_risks_are_news2(service, last):
    class NoModel:
        model = None

    (report,) = replace(service, champion=NoModel()).by_subject([last.index[0]], include=["contributions", "range"])
    (by_model,) = service.by_subject([last.index[0]])
    assert (report.risk.basis, report.risk.probability, report.risk.findings) == ("news2", None, ("no_model",))
    answer, answer_by_model = risk_answer(report, "p"), risk_answer(by_model, "p")
    assert answer.news2 == answer_by_model.news2
    assert (report.model, answer.model.name, answer.contributions, answer.range) == (None, None, None, None)


def test_journal_gives_the_risk_of_the_same_observations_in_a_request(service, tmp_path):
    journal = Journal(tmp_path)
    now = pd.Timestamp.now("UTC").as_unit("us")
    hours = range(12, -1, -1)
    vitals = {"heart_rate": 70.0, "respiratory_rate": 14.0, "spo2": 98.0, "systolic_bp": 125.0}
    rows = [observation(s, v + 12 - hour, now - hour * HOUR) for hour in hours for s, v in vitals.items() if s != "spo2"]
    rows += [observation("spo2", 98.0 - (12 - hour) / 2, now - hour * HOUR) for hour in hours]
    rows += [observation("body_temperature", 36.8 + (12 - hour) / 20, now - hour * HOUR) for hour in hours]
    assert {receipt.status for receipt in journal.append(lambda: rows)} == {"accepted"}
    live = replace(service, journal=journal, clock=WallClock())
    risk = live.by_subject(["patient-a"])[0].risk
    as_of = risk.index_time.to_pydatetime()
    assert (risk.basis, risk.findings) == ("model", ())
    assert risk.probability == live.from_observations(Registration("patient-a", ""), sent(rows), as_of).risk.probability
    again = live.by_subject(["patient-a"], as_of=as_of)[0].risk  # a past risk can be reproduced
    assert again.probability == risk.probability


def test_prediction_that_cannot_be_logged_is_not_given(service, last, tmp_path):
    full = replace(service, log=PredictionLog(tmp_path))
    blocker = sqlite3.connect(tmp_path / "predictions.db")
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(LogUnavailableError) as raised:
            full.by_subject([last.index[0]])
    finally:
        blocker.close()
    assert last.index[0] not in str(raised.value)
    assert raised.value.__cause__ is None  # the driver's error holds the row


def test_wall_clock_makes_a_replayed_cohort_stale(service, last):
    live = replace(service, clock=WallClock())
    assert live.by_subject([last.index[0]])[0].risk.findings == ("stale_data", "hardly_known", "value_too_old")


def test_unknown_subject_does_not_spoil_the_others(service, last):
    first, unknown, second = service.by_subject([last.index[0], "unknown", last.index[1]])
    assert unknown == NoReport("unknown_subject")
    assert risk_problem(unknown).code == "unknown_patient"
    assert [report.risk.patient for report in (first, second)] == [last.index[0], last.index[1]]


def test_every_prediction_is_logged_with_its_features(service, last, in_domain):
    subject = in_domain[2]
    (report,) = service.by_subject([subject])
    model = service.champion.model.model
    logged = service.log.with_features(model_name="deterioration", features=model.features)
    row = logged[logged["prediction_id"] == report.prediction_id]
    assert len(row) == 1
    assert row["subject_id"].item() == subject
    assert row["as_of"].item() == last[subject]
    np.testing.assert_array_equal(model.risk(row), [report.risk.probability])  # what was logged reproduces the report


def test_replay_clock_falls_back_to_the_wall_clock_for_unknown_subjects(home, last):
    clock = open_clock(home)
    assert isinstance(clock, ReplayClock)
    assert clock.now(last.index[0]) == last.iloc[0]
    assert clock.now("unknown") > pd.Timestamp("2026-06-01T00:00:00Z")
