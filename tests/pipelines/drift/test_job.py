"""The drift job: fine on more of the same, names what was put in, keeps a series, and says what it cannot judge."""

import dataclasses
import json
import time

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from models.monitoring.feature_drift import OtherFeaturesError, TooFewPatientsError
from models.registry import NoModelError, Registry
from pipelines.cli.main import app
from pipelines.cohort_store import CohortStore
from pipelines.drift.assessment import Status, judge
from pipelines.drift.drill.simulate import faulty
from pipelines.drift.inputs import DAY, RecentError, of_home
from pipelines.drift.job import _without_devices
from serving.records.prediction_log import FILE as LOG


def vigil(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def day(replay, champion):
    """A day in the middle, with or without a fault."""
    until = replay.stays["start"].min().ceil("h") + 4 * DAY

    def of(fault="none", strength=0.7):
        recent, hit = faulty(replay, fault, champion, since=until - DAY, until=until, strength=strength, seed=5)
        return recent, hit

    return of


def test_a_clean_day_is_fine(day, champion, references):
    found = judge(day()[0], champion, references)
    assert found.findings == []
    assert not found.prediction_drifted
    assert found.share < 0.05
    assert found.estimated["auroc_low"] < found.estimated["auroc"] < found.estimated["auroc_high"]
    assert found.known is None


def test_a_patient_who_stayed_long_is_no_drift(day, champion, references):
    """One very ill patient, in the log for as many hours as all others together."""
    recent = day()[0]
    ill = references.days[references.days["in_day"]].nlargest(len(recent.log), "probability")
    hours = ill[champion.model.features].assign(probability=ill["probability"], subject_id="long", index_time=recent.until)
    hours = hours.assign(model_version=champion.version, feature_service=champion.feature_service)
    longer = dataclasses.replace(recent, log=pd.concat([recent.log, hours], ignore_index=True))
    found = judge(longer, champion, references)
    assert found.findings == []
    assert not found.columns["drifted"].any()


def test_hour_of_day_is_no_drift(day, champion, references):
    """A log of nights only is compared with nights."""
    recent = day()[0]
    nights = recent.log[recent.log["index_time"].dt.hour < 5]
    found = judge(dataclasses.replace(recent, log=nights), champion, references)
    assert found.columns["drifted"].mean() < 0.05


def test_what_was_put_in_is_named_in_a_rehearsal_that_changes_nothing(home, champion, week, tmp_path):
    before = sorted(path.name for path in (home / "reports").glob("drift*"))
    folder, result = tmp_path / "replay", tmp_path / "drift.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.sources.simulated.SimulatedWard", lambda **_: week)
        made = vigil("simulate-fault", "fahrenheit", "--home", home, "--to", folder, "--seed", 5)
    assert made.exit_code == 0, made.output
    assert "fahrenheit: body_temperature at gateway-" in made.output
    found = vigil("drift", "--home", home, "--replay", folder, "--json", result)
    assert found.exit_code in (1, 3), found.output
    said = json.loads(result.read_text())
    put_in = json.loads((folder / "about.json").read_text())
    assert [(f["fault"], f["signal"], f["where"]) for f in said["findings"]] == [
        ("fahrenheit", "body_temperature", put_in["where"])
    ]
    assert "arrives in Fahrenheit" in found.output
    assert said["decision"]["carried_out"] is False
    assert said["replay"]["fault"] == "fahrenheit"
    page = (home / "reports" / "rehearsal" / "drift.html").read_text()
    assert "This is a rehearsal: fahrenheit was put in" in page
    assert "not clinical evidence" in page
    assert sorted(path.name for path in (home / "reports").glob("drift*")) == before
    assert Registry(home).standing("deterioration") == (champion.version, False)


def test_the_home_keeps_a_series_and_tells_mlflow(home, champion):
    def runs():
        return sorted((home / "reports" / "drift").glob("*.json"))

    before = len(runs())
    time.sleep(1.1)  # names are of seconds
    result = vigil("drift", "--home", home)
    assert result.exit_code == 0, result.output
    assert len(runs()) == before + 1
    latest = json.loads((home / "reports" / "drift.json").read_text())
    assert latest == json.loads(runs()[-1].read_text())
    assert latest["status"] == "fine"
    assert "Source: simulated ward: not clinical evidence." in (home / "reports" / "drift.html").read_text()
    metrics = Registry(home).metrics(champion.run_id)
    assert metrics["drift.status"] == 0
    assert metrics["drift.estimated.auroc"] == pytest.approx(latest["performance"]["estimated"]["auroc"])
    snapshots = list((home / "reports" / "evidently").rglob("snapshots/*.json"))
    assert len(snapshots) >= 2


def test_an_empty_log_is_said(home, champion, tmp_path):
    with pytest.raises(RecentError, match="prediction log .*not there; score patients first: vigil predict"):
        of_home(tmp_path, champion)
    with pytest.raises(RecentError, match="nothing since .* expected a watched ward"):
        of_home(home, champion, hours=1e-6)


def test_a_log_of_one_patient_is_said(day, champion, references):
    recent = day()[0]
    one = recent.log[recent.log["subject_id"] == recent.log["subject_id"].iloc[0]]
    with pytest.raises(TooFewPatientsError, match="log: 1 patients; expected at least 10"):
        judge(dataclasses.replace(recent, log=one), champion, references)


def test_a_reference_of_another_feature_version_is_said(day, champion, references):
    other = dataclasses.replace(references, days=references.days.drop(columns="age"))
    with pytest.raises(OtherFeaturesError, match="reference: lacks age; expected the features of the champion"):
        judge(day()[0], champion, other)


def test_a_run_without_a_reference_is_said(home, champion):
    with pytest.raises(NoModelError, match="nothing.parquet of run .* train anew: vigil train"):
        Registry(home).table(champion.run_id, "nothing.parquet")


def test_a_log_that_is_no_database_is_one_line(home, tmp_path, monkeypatch):
    broken = tmp_path / LOG
    broken.write_bytes((home / LOG).read_bytes()[:3000])
    monkeypatch.setattr("pipelines.drift.job.of_home", lambda *_, **__: of_home(tmp_path, Registry(home).load("deterioration")))
    result = vigil("drift", "--home", home)
    assert result.exit_code == 3
    assert result.output.strip().splitlines()[-1].startswith("vigil: ")


def test_outcomes_are_measured_week_by_week(champion, references, day):
    rng = np.random.default_rng(0)
    recent = day()[0]
    times = recent.until - rng.integers(1, 300, 4000) * pd.Timedelta(hours=1)
    risk = rng.beta(1, 8, 4000)
    judged = pd.DataFrame(
        {
            "subject_id": [f"s{number}" for number in rng.integers(0, 300, 4000)], "index_time": times,
            "probability": risk, "label": (rng.random(4000) < risk).astype(float),
        }
    )  # fmt: skip
    found = judge(dataclasses.replace(recent, judged=judged), champion, references)
    assert found.known["patients"] == 300
    assert found.known["auroc_low"] < found.known["auroc"] < found.known["auroc_high"]
    assert found.known["calibration_slope"] == pytest.approx(1, abs=0.3)
    assert len(found.known["weeks"]) >= 2


def test_statuses_are_what_a_scheduler_reads():
    assert [(status.name, int(status)) for status in Status] == [("FINE", 0), ("DRIFT", 1), ("BROKEN", 2)]


def test_no_patient_is_in_what_is_written(home):
    names = set(CohortStore(home).read("stays")["subject_id"])
    files = [path for path in (home / "reports").rglob("*") if path.is_file() and path.suffix in {".json", ".html"}]
    assert len(files) > 4
    for path in files:
        text = path.read_text()
        assert not any(name in text for name in names), path


def test_devices_stay_out_of_the_registry():
    said = {"fault": "stuck", "place": "device", "where": ["wearable-7"], "says": "spo2 at wearable-7 ...", "hit": 1}
    found = _without_devices({"findings": [said, {**said, "place": "gateway", "where": ["gateway-1"], "says": "at gateway-1"}]})
    assert "wearable-7" not in json.dumps(found)
    assert found["findings"][1]["where"] == ["gateway-1"]


def test_faults_of_readings_are_named_where_too_few_have_a_risk(champion, references, day):
    """A ward whose readings are all in quarantine has no risk to compare: the readings say why."""
    recent, _ = day("fahrenheit", 1.0)
    nobody = dataclasses.replace(recent, log=recent.log.iloc[:0])
    found = judge(nobody, champion, references)
    assert [each.fault for each in found.findings] == ["fahrenheit"]
    assert found.columns.empty
    assert found.patients > 10


def test_a_failing_job_tells_those_who_watch_the_figures(home):
    latest = home / "reports" / "drift.json"
    before = latest.read_bytes()
    log = home / LOG
    log.rename(home / "away.db")
    result = vigil("drift", "--home", home)
    (home / "away.db").rename(log)
    said = json.loads(latest.read_text())
    latest.write_bytes(before)
    assert result.exit_code == 3
    assert said["status"] == "broken"
    assert f"prediction log {log}: not there" in said["error"]


@pytest.mark.parametrize("slip", [("--outcomes", "nowhere.csv"), ("--replay", "nowhere"), ("--hours", "none"), ("--hour", "3")])
def test_a_slip_of_the_command_line_is_no_verdict(home, slip):
    latest = home / "reports" / "drift.json"
    before = latest.read_bytes()
    assert vigil("drift", "--home", home, *slip).exit_code == 2
    assert latest.read_bytes() == before
