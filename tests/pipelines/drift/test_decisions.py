"""Decisions: to withdraw waits for nobody, what changes a model waits for --act and for its evidence, and all is recorded."""

import json

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from models.monitoring.change_control_plan import FILE, read_plan
from models.registry import Registry
from models.training.risk_model import from_log_odds, log_odds
from pipelines.cli.main import app
from pipelines.drift.assessment import References, Status
from pipelines.drift.decisions import FOLDER, ReinstateError, carry_out, decide, record, reinstate, reinstated_at
from pipelines.drift.inputs import of_home
from pipelines.drift.job import drift
from pipelines.jobs.train import Trained
from pipelines.operations.backup import restore
from serving.records.prediction_log import PredictionLog

NAME = "deterioration"


@pytest.fixture
def own(ward_backup, tmp_path):
    """A home of its own, with a champion."""
    restore(ward_backup, tmp_path / "home")
    return tmp_path / "home"


def rules(home, action):
    plan = read_plan(home)
    return plan, [rule for rule in plan.rules if rule.then == action][:1]


def outcomes(home, shift, patients=400):
    """Predictions of the champion whose outcomes have another frequency."""
    champion = Registry(home).load(NAME)
    days = References.of(Registry(home), champion).days
    rng = np.random.default_rng(3)
    rows = days.iloc[rng.integers(0, len(days), 5 * patients)]
    risk = champion.model.risk(rows)
    label = (rng.random(len(rows)) < from_log_odds(log_odds(risk) + shift)).astype(float)
    times = pd.Timestamp("2026-03-01T00:00Z").as_unit("us") + pd.to_timedelta(rng.integers(0, 500, len(rows)), unit="h")
    names = np.repeat([f"patient-{number}" for number in range(patients)], 5)
    return champion, pd.DataFrame({"subject_id": names, "index_time": times, "probability": risk, "label": label})


def carried(home, action, champion, judged, **how):
    plan, applying = rules(home, action)
    return carry_out(decide(action, applying), plan, home, champion, judged, **{"act": False, "rehearsal": False, **how})


def test_to_withdraw_waits_for_nobody_and_a_person_reinstates(own):
    registry = Registry(own)
    champion = registry.load(NAME)
    decision = carried(own, "withdraw", champion, pd.DataFrame())
    assert decision.carried_out
    assert "vigil reinstate" in decision.outcome
    assert registry.standing(NAME) == (champion.version, True)
    assert registry.withdrawal(NAME, champion.version).because == decision.because
    result = CliRunner().invoke(app, ["reinstate", "--home", str(own), "--because", "gateway 4 was mended"])
    assert result.exit_code == 0, result.output
    assert registry.standing(NAME) == (champion.version, False)
    kept = [json.loads(path.read_text()) for path in sorted((own / FOLDER).glob("*.json"))]
    assert (kept[-1]["action"], kept[-1]["because"]) == ("reinstate", "gateway 4 was mended")
    assert reinstated_at(own) == pd.Timestamp(kept[-1]["decided_at"])  # outcomes from before are settled
    assert kept[-1]["evidence"]["was"] == decision.because
    with pytest.raises(ReinstateError, match="is not withdrawn; there is nothing to reinstate"):
        reinstate(own, "again")


def test_a_withdrawn_model_is_broken_until_it_is_reinstated(own):
    registry = Registry(own)
    registry.withdraw(NAME, "1", "a drill", pd.Timestamp("2026-11-01T00:00Z"))
    found = drift(own)
    assert found.status is Status.BROKEN
    assert "version 1 is withdrawn; no readings came, so nothing can be said" in found.decision.outcome
    assert (own / "reports" / "drift.html").read_text().count("Drift: ") == 1
    registry.reinstate(NAME, "1")
    assert drift(own).status is Status.FINE


def test_a_rehearsal_withdraws_nothing(own):
    champion = Registry(own).load(NAME)
    decision = carried(own, "withdraw", champion, pd.DataFrame(), rehearsal=True)
    assert not decision.carried_out
    assert decision.outcome.startswith("a rehearsal: nothing was done; in earnest: the alarm certificate is withdrawn")
    assert Registry(own).standing(NAME) == ("1", False)


def test_recalibration_waits_for_act_and_for_outcomes(own):
    champion, judged = outcomes(own, shift=1.5)
    assert carried(own, "recalibrate", champion, judged).outcome.endswith("begin it with vigil drift --act")
    few = judged.head(200)
    assert "not begun: the outcomes of 40 patients are known" in carried(own, "recalibrate", champion, few, act=True).outcome


def test_recalibration_takes_the_champions_place_once_a_week(own):
    champion, judged = outcomes(own, shift=1.5)
    decision = carried(own, "recalibrate", champion, judged, act=True)
    assert decision.carried_out, decision.outcome
    registry = Registry(own)
    now = registry.load(NAME)
    assert (now.version, registry.previous_champion(NAME)) == ("2", "1")
    assert now.model.facts_["recalibrates"] == "1"
    before, after = (References.of(registry, each) for each in (champion, now))
    assert after.judged["label"].mean() == pytest.approx(judged["label"].mean())
    assert after.judged["probability"].mean() == pytest.approx(judged["label"].mean(), rel=0.15)
    assert before.days["probability"].mean() < after.days["probability"].mean()
    record(own, decision, {})
    again = carried(own, "recalibrate", now, judged, act=True)
    assert not again.carried_out
    assert "the plan allows it every 7 days" in again.outcome


def test_recalibration_that_does_not_help_is_refused(own):
    champion, judged = outcomes(own, shift=0.0)
    decision = carried(own, "recalibrate", champion, judged, act=True)
    assert not decision.carried_out
    assert decision.outcome.startswith(("refused by its validation: log loss", "not done: outcomes"))
    assert Registry(own).load(NAME).version == "1"


def test_a_challenger_is_trained_only_where_asked_for(own, monkeypatch):
    monkeypatch.setattr("pipelines.drift.decisions.train", lambda _: Trained(NAME, "2", "challenger", "run"))
    champion = Registry(own).load(NAME)
    assert "begin it with vigil drift --act" in carried(own, "retrain", champion, pd.DataFrame()).outcome
    with FileLock(own / "decisions" / "acting.lock"):  # the training that the run of an hour ago has begun
        meanwhile = carried(own, "retrain", champion, pd.DataFrame(), act=True)
        assert carried(own, "withdraw", champion, pd.DataFrame()).carried_out  # which waits for nobody
        Registry(own).reinstate(NAME, "1")
    assert (meanwhile.carried_out, meanwhile.outcome) == (False, "not begun: another run of vigil drift is changing the model")
    decision = carried(own, "retrain", champion, pd.DataFrame(), act=True)
    assert decision.carried_out
    assert decision.outcome == "version 2 is challenger; it has to pass every gate: vigil promote"


def test_a_wrong_plan_stops_the_job(own):
    (own / FILE).write_text("version: 1\n")
    result = CliRunner().invoke(app, ["drift", "--home", str(own)])
    assert result.exit_code == 2
    assert "pccp.yaml: actions: Field required" in result.output


def _log(home, champion):
    """What the rescorer would have logged of a ward whose patients are as those of training; returns the last hour."""
    days = References.of(Registry(home), champion).days
    days = days[days["in_day"]]
    now = pd.Timestamp.now("UTC").floor("h")
    chosen = days[["subject_id", "day"]].drop_duplicates().sample(40, random_state=0).reset_index(drop=True)
    rows = days.merge(chosen.assign(number=chosen.index), on=["subject_id", "day"])
    at = now - pd.to_timedelta((now.hour - rows["hour"]) % 24, unit="h")
    log = PredictionLog(home)
    log.append(
        {
            "prediction_id": f"ward-{place}", "made_at": time, "origin": "rescorer", "patient_id": f"bed-{row['number']}",
            "as_of": time, "index_time": time, "basis": "model", "probability": row["probability"], "band": "low", "news2": 1,
            "news2_highest": 1, "model_name": NAME, "model_version": "1", "feature_service": champion.feature_service,
            "features": {name: float(row[name]) for name in champion.model.features},
        }
        for place, (time, (_, row)) in enumerate(zip(at, rows.iterrows(), strict=True))
    )  # fmt: skip
    return now


def test_a_watched_ward_is_judged_by_its_last_day(own):
    """Hours that the rescorer scored are compared with days of training patients, whatever else the log holds."""
    registry = Registry(own)
    champion = registry.load(NAME)
    now = _log(own, champion)
    recent = of_home(own, champion)
    assert not recent.ends
    assert recent.log["subject_id"].nunique() == 40
    assert set(recent.log.columns) >= {"index_time", "probability", "model_version", *champion.model.features}
    found = drift(own)
    assert found.judgement.patients == 40
    assert found.judgement.share < 0.05
    assert found.readings["came"] == 0
    everything = of_home(own, champion, hours=1000)
    assert everything.log["index_time"].min() > now - pd.Timedelta(days=1)


def test_a_withdrawn_model_is_not_recalibrated_back_into_use(own):
    registry = Registry(own)
    registry.withdraw(NAME, "1", "a drill", pd.Timestamp("2026-11-01T00:00Z"))
    _, judged = outcomes(own, shift=1.5)
    decision = carried(own, "recalibrate", registry.load(NAME), judged, act=True)
    assert not decision.carried_out
    assert decision.outcome.startswith("not begun: it is withdrawn")
    assert registry.standing(NAME) == ("1", True)


def test_a_ward_with_a_threshold_of_its_own_stops_recalibration(own):
    (own / "wards.toml").write_text("[wards.a]\nthreshold = 0.2\n")
    champion, judged = outcomes(own, shift=1.5)
    assert "wards.toml holds thresholds" in carried(own, "recalibrate", champion, judged, act=True).outcome


def test_what_the_last_record_says_is_not_kept_again(own):
    plan, applying = rules(own, "warn")
    evidence = {"findings": [{"fault": "late", "signal": None, "where": ["gateway-1"]}]}
    first = record(own, decide("warn", applying), evidence)
    assert record(own, decide("warn", applying), evidence) == first
    assert record(own, decide("warn", applying), {"findings": []}) != first
    assert len(list((own / FOLDER).glob("*-warn.json"))) == 2
    assert plan.version == 1


def test_a_promotion_is_no_mismatch_of_versions(own):
    """What the version before said while it was champion is not held against the new one."""
    champion, judged = outcomes(own, shift=1.5)
    _log(own, champion)
    assert carried(own, "recalibrate", champion, judged, act=True).carried_out
    found = of_home(own, Registry(own).load(NAME))
    assert found.log.empty
    assert drift(own).status is Status.FINE
