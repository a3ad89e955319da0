"""Decisions: a withdrawal is immediate, a change of the model waits for --act and for evidence, and all are recorded."""

import json
import uuid

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from vigil.models.monitoring.change_control_plan import FILE, read_plan
from vigil.models.monitoring.reference import References
from vigil.models.monitoring.report_schema import Status
from vigil.models.training.risk_model import from_log_odds, log_odds
from vigil.pipelines.cli.main import app
from vigil.pipelines.drift.decisions import (
    DECISIONS_FOLDER,
    ReinstateError,
    carry_out,
    decide,
    record,
    reinstate,
    reinstated_at,
)
from vigil.pipelines.drift.inputs import read_home
from vigil.pipelines.drift.job import run_drift
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.train import Trained
from vigil.pipelines.operations.restore import restore
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.prediction_rows import Prediction
from vigil.serving.records.timestamps import microsecond

NAME = "deterioration"


@pytest.fixture
def home(ward_backup, tmp_path):
    """A home with a champion that the test may change."""
    home = Home(tmp_path / "home")
    restore(ward_backup, home)
    return home


def rules(home, action):
    plan = read_plan(home.path)
    return plan, [rule for rule in plan.rules if rule.then == action][:1]


def outcomes(home, shift, patients=400):
    """Return the champion, and predictions with outcomes of another frequency."""
    champion = home.registry.load(NAME)
    days = References.load(home.registry, champion).days
    rng = np.random.default_rng(3)
    rows = days.iloc[rng.integers(0, len(days), 5 * patients)]
    risk = champion.model.risk(rows)
    label = (rng.random(len(rows)) < from_log_odds(log_odds(risk) + shift)).astype(float)
    times = pd.Timestamp("2026-03-01T00:00Z").as_unit("us") + pd.to_timedelta(rng.integers(0, 500, len(rows)), unit="h")
    names = np.repeat([f"patient-{number}" for number in range(patients)], 5)
    return champion, pd.DataFrame({"subject_id": names, "index_time": times, "probability": risk, "label": label})


def run_action(home, action, champion, judged, **options):
    plan, applying = rules(home, action)
    return carry_out(decide(action, applying), plan, home, champion, judged, **{"act": False, "drill": False, **options})


def test_withdrawal_is_immediate_and_a_person_reinstates(home):
    registry = home.registry
    champion = registry.load(NAME)
    decision = run_action(home, "withdraw", champion, pd.DataFrame())
    assert decision.carried_out
    assert "vigil reinstate" in decision.outcome
    assert registry.version_and_withdrawal(NAME) == (champion.version, True)
    assert registry.withdrawal(NAME, champion.version).because == decision.because
    result = CliRunner().invoke(app, ["reinstate", "--home", str(home.path), "--because", "gateway 4 was repaired"])
    assert result.exit_code == 0, result.output
    assert registry.version_and_withdrawal(NAME) == (champion.version, False)
    records = [json.loads(path.read_text()) for path in sorted((home.path / DECISIONS_FOLDER).glob("*.json"))]
    assert (records[-1]["action"], records[-1]["because"]) == ("reinstate", "gateway 4 was repaired")
    assert reinstated_at(home) == pd.Timestamp(records[-1]["decided_at"])  # earlier outcomes are settled
    assert records[-1]["evidence"]["was"] == decision.because
    with pytest.raises(ReinstateError, match="is not withdrawn; there is nothing to reinstate"):
        reinstate(home, "again")


def test_drift_of_a_withdrawn_model_is_broken_until_it_is_reinstated(home):
    registry = home.registry
    registry.withdraw(NAME, "1", "a drill", pd.Timestamp("2026-11-01T00:00Z"))
    result = run_drift(home)
    assert result.status is Status.BROKEN
    assert "version 1 is withdrawn; no readings arrived, so nothing is known" in result.decision.outcome
    assert (home.path / "reports" / "drift.html").read_text().count("Drift: ") == 1
    registry.reinstate(NAME, "1")
    assert run_drift(home).status is Status.FINE


def test_drill_does_not_withdraw_the_model(home):
    champion = home.registry.load(NAME)
    decision = run_action(home, "withdraw", champion, pd.DataFrame(), drill=True)
    assert not decision.carried_out
    assert decision.outcome.startswith("a drill: nothing was done; in earnest: the model and its alarm guarantee are")
    assert home.registry.version_and_withdrawal(NAME) == ("1", False)


def test_recalibration_waits_for_act_and_for_outcomes(home):
    champion, judged = outcomes(home, shift=1.5)
    assert run_action(home, "recalibrate", champion, judged).outcome.endswith("begin it with vigil drift --act")
    few = judged.head(200)
    decision = run_action(home, "recalibrate", champion, few, act=True)
    assert "not begun: the outcomes of 40 patients are known" in decision.outcome


def test_recalibrated_version_becomes_champion_at_most_once_a_week(home):
    champion, judged = outcomes(home, shift=1.5)
    decision = run_action(home, "recalibrate", champion, judged, act=True)
    assert decision.carried_out, decision.outcome
    registry = home.registry
    now = registry.load(NAME)
    assert (now.version, registry.previous_champion(NAME)) == ("2", "1")
    assert now.model.metadata_["recalibrates"] == "1"
    before, after = (References.load(registry, version) for version in (champion, now))
    assert after.judged["label"].mean() == pytest.approx(judged["label"].mean())
    assert after.judged["probability"].mean() == pytest.approx(judged["label"].mean(), rel=0.15)
    assert before.days["probability"].mean() < after.days["probability"].mean()
    record(home, decision, {})
    again = run_action(home, "recalibrate", now, judged, act=True)
    assert not again.carried_out
    assert "the plan allows it every 7 days" in again.outcome


def test_recalibration_without_benefit_is_refused(home):
    champion, judged = outcomes(home, shift=0.0)
    decision = run_action(home, "recalibrate", champion, judged, act=True)
    assert not decision.carried_out
    assert decision.outcome.startswith("refused by its validation: log loss")
    assert home.registry.load(NAME).version == "1"


def test_retraining_waits_for_act_and_for_another_run(home):
    def retrain(_):
        return Trained(NAME, "2", "challenger", "run")

    champion = home.registry.load(NAME)
    assert "begin it with vigil drift --act" in run_action(home, "retrain", champion, pd.DataFrame()).outcome
    with FileLock(home.path / "decisions" / "acting.lock"):  # an earlier run still trains
        meanwhile = run_action(home, "retrain", champion, pd.DataFrame(), act=True, retrain=retrain)
        assert run_action(home, "withdraw", champion, pd.DataFrame()).carried_out
        home.registry.reinstate(NAME, "1")
    assert (meanwhile.carried_out, meanwhile.outcome) == (False, "not begun: another run of vigil drift is changing the model")
    decision = run_action(home, "retrain", champion, pd.DataFrame(), act=True, retrain=retrain)
    assert decision.carried_out
    assert decision.outcome == "version 2 is challenger; it has to pass every gate: vigil promote"


def test_drift_refuses_a_wrong_plan(home):
    (home.path / FILE).write_text("version: 1\n")
    result = CliRunner().invoke(app, ["drift", "--home", str(home.path)])
    assert result.exit_code == 2
    assert "pccp.yaml: actions: Field required" in result.output


def _log(home, champion):
    """Log what the rescorer would log for a ward of patients as in training; return the last hour."""
    days = References.load(home.registry, champion).days
    days = days[days["in_day"]]
    now = pd.Timestamp.now("UTC").floor("h")
    chosen = days[["subject_id", "day"]].drop_duplicates().sample(40, random_state=0).reset_index(drop=True)
    rows = days.merge(chosen.assign(number=chosen.index), on=["subject_id", "day"])
    at = now - pd.to_timedelta((now.hour - rows["hour"]) % 24, unit="h")
    PredictionLog(home.path).append(
        Prediction(
            prediction_id=str(uuid.UUID(int=number)), made_at=microsecond(time), origin="rescorer",
            subject_id=f"bed-{row['number']}",
            as_of=microsecond(time), index_time=microsecond(time), basis="model", probability=float(row["probability"]),
            band="low", news2=1, news2_highest=1, model_name=NAME, model_version="1",
            feature_service=champion.feature_service, decided_by=None, net_score=None, net_spot=None, terms=None,
            features={name: float(row[name]) for name in champion.model.features},
        )
        for number, (time, (_, row)) in enumerate(zip(at, rows.iterrows(), strict=True))
    )  # fmt: skip
    return now


def test_drift_assesses_a_monitored_ward_by_its_last_day(home):
    """Hours scored by the rescorer are compared with days of training patients, whatever else the log holds."""
    registry = home.registry
    champion = registry.load(NAME)
    now = _log(home, champion)
    recent = read_home(home.path, champion)
    assert not recent.ends
    assert recent.log["subject_id"].nunique() == 40
    assert set(recent.log.columns) >= {"index_time", "probability", "model_version", *champion.model.features}
    result = run_drift(home)
    assert result.assessment.patients == 40
    assert result.assessment.share < 0.05
    assert result.readings.came == 0
    longer = read_home(home.path, champion, hours=1000)
    assert longer.log["index_time"].min() > now - pd.Timedelta(days=1)


def test_recalibration_does_not_put_a_withdrawn_model_back_into_use(home):
    registry = home.registry
    registry.withdraw(NAME, "1", "a drill", pd.Timestamp("2026-11-01T00:00Z"))
    _, judged = outcomes(home, shift=1.5)
    decision = run_action(home, "recalibrate", registry.load(NAME), judged, act=True)
    assert not decision.carried_out
    assert decision.outcome.startswith("not begun: it is withdrawn")
    assert registry.version_and_withdrawal(NAME) == ("1", True)


def test_recalibration_waits_while_a_ward_has_its_own_threshold(home):
    (home.path / "wards.toml").write_text("[wards.a]\nthreshold = 0.2\n")
    champion, judged = outcomes(home, shift=1.5)
    assert "wards.toml holds thresholds" in run_action(home, "recalibrate", champion, judged, act=True).outcome


def test_record_does_not_repeat_the_last_decision(home):
    plan, applying = rules(home, "warn")
    evidence = {"findings": [{"fault": "late", "signal": None, "where": ["gateway-1"]}]}
    first = record(home, decide("warn", applying), evidence)
    assert record(home, decide("warn", applying), evidence) == first
    assert record(home, decide("warn", applying), {"findings": []}) != first
    assert len(list((home.path / DECISIONS_FOLDER).glob("*-warn.json"))) == 2
    assert plan.version == 1


def test_drift_after_a_promotion_finds_no_version_mismatch(home):
    """Predictions of the previous champion are not held against the new one."""
    champion, judged = outcomes(home, shift=1.5)
    _log(home, champion)
    assert run_action(home, "recalibrate", champion, judged, act=True).carried_out
    result = read_home(home.path, home.registry.load(NAME))
    assert result.log.empty
    assert run_drift(home).status is Status.FINE
