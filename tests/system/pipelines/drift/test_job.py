"""The drift job: it is fine on a clean day, finds an injected fault, keeps a series, and reports what it cannot assess."""

import dataclasses
import json
import time

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from vigil.models.monitoring.assessment import DAY, assess_day
from vigil.models.monitoring.feature_drift import OtherFeaturesError, TooFewPatientsError
from vigil.models.monitoring.report_schema import DriftReport, Status
from vigil.models.registry import NoModelError, Registry
from vigil.models.tasks import TASKS
from vigil.pipelines.cli.main import app
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.drift.drill.simulate import inject_and_predict
from vigil.pipelines.drift.inputs import DriftInputError, read_home
from vigil.pipelines.drift.job import EXIT, _without_devices
from vigil.pipelines.home import Home
from vigil.serving.identity.identities import Identities
from vigil.serving.records.prediction_log import SCHEMA


@pytest.fixture(scope="module")
def home(own_home):
    return own_home


def vigil(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def day(replay, champion):
    """A day in the middle of the week, with or without a fault."""
    until = replay.stays["start"].min().ceil("h") + 4 * DAY

    def simulate(fault="none", strength=0.7):
        begin = until - DAY
        return inject_and_predict(
            replay, fault, champion, since=begin, until=until, strength=strength, seed=5, task=TASKS["deterioration"]
        )

    return simulate


def test_assessment_of_a_clean_day_is_fine(day, champion, references):
    assessment = assess_day(day()[0], champion, references)
    assert assessment.findings == []
    assert not assessment.prediction_drifted
    assert assessment.share < 0.05
    assert assessment.estimated["auroc_low"] < assessment.estimated["auroc"] < assessment.estimated["auroc_high"]
    assert assessment.known is None


def test_assessment_counts_a_patient_who_stayed_long_once(day, champion, references):
    """One very ill patient is in the log for as many hours as all others together."""
    recent = day()[0]
    ill = references.days[references.days["in_day"]].nlargest(len(recent.log), "probability")
    hours = ill[champion.model.features].assign(probability=ill["probability"], subject_id="long", index_time=recent.until)
    hours = hours.assign(model_version=champion.version, feature_service=champion.feature_service)
    longer = dataclasses.replace(recent, log=pd.concat([recent.log, hours], ignore_index=True))
    assessment = assess_day(longer, champion, references)
    assert assessment.findings == []
    assert not assessment.columns["drifted"].any()


def test_assessment_compares_nights_with_nights(day, champion, references):
    recent = day()[0]
    nights = recent.log[recent.log["index_time"].dt.hour < 5]
    assessment = assess_day(dataclasses.replace(recent, log=nights), champion, references)
    assert assessment.columns["drifted"].mean() < 0.05


def test_drift_finds_an_injected_fault_in_a_drill_that_changes_nothing(home, champion, week, tmp_path):
    before = sorted(path.name for path in (home / "reports").glob("drift*"))
    folder, result = tmp_path / "replay", tmp_path / "drift.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vigil.pipelines.sources.simulated.SimulatedWard", lambda **_: week)
        simulated = vigil("simulate-fault", "fahrenheit", "--home", home, "--to", folder, "--seed", 5)
    assert simulated.exit_code == 0, simulated.output
    assert "fahrenheit: body_temperature at gateway-" in simulated.output
    assessed = vigil("drift", "--home", home, "--replay", folder, "--json", result)
    assert assessed.exit_code in (1, 3), assessed.output
    report = json.loads(result.read_text())
    injected = json.loads((folder / "about.json").read_text())
    assert [(finding["fault"], finding["signal"], finding["where"]) for finding in report["findings"]] == [
        ("fahrenheit", "body_temperature", injected["where"])
    ]
    assert "arrives in Fahrenheit" in assessed.output
    assert report["decision"]["carried_out"] is False
    assert report["replay"]["fault"] == "fahrenheit"
    page = (home / "reports" / "drill" / "drift.html").read_text()
    assert "This is a drill: fahrenheit was put in" in page
    assert "not clinical evidence" in page
    assert sorted(path.name for path in (home / "reports").glob("drift*")) == before
    assert Registry(home).version_and_withdrawal("deterioration") == (champion.version, False)


def test_drift_of_a_home_adds_to_the_series_and_logs_metrics_to_mlflow(home, champion):
    def runs():
        return sorted((home / "reports" / "drift").glob("*.json"))

    def snapshots():
        return list((home / "reports" / "evidently").rglob("snapshots/*.json"))

    before, kept = len(runs()), len(snapshots())
    time.sleep(1.1)  # file names have seconds
    result = vigil("drift", "--home", home)
    assert result.exit_code == 0, result.output
    assert len(runs()) == before + 1
    latest = json.loads((home / "reports" / "drift.json").read_text())
    assert latest == json.loads(runs()[-1].read_text())
    assert latest["status"] == "fine"
    assert DriftReport.model_validate(latest).as_dict() == latest
    assert "Source: simulated ward: not clinical evidence." in (home / "reports" / "drift.html").read_text()
    metrics = Registry(home).load_metrics(champion.run_id)
    assert metrics["drift.status"] == 0
    assert metrics["drift.estimated.auroc"] == pytest.approx(latest["performance"]["estimated"]["auroc"])
    assert len(snapshots()) == kept + 1


def test_inputs_of_a_home_without_predictions_are_an_error(home, champion, tmp_path):
    with pytest.raises(DriftInputError, match="prediction log .*missing; score patients first: vigil predict"):
        read_home(tmp_path, champion)
    with pytest.raises(DriftInputError, match="nothing since .* expected a monitored ward"):
        read_home(home, champion, hours=1e-6)


def test_assessment_refuses_a_log_of_one_patient(day, champion, references):
    recent = day()[0]
    one = recent.log[recent.log["subject_id"] == recent.log["subject_id"].iloc[0]]
    with pytest.raises(TooFewPatientsError, match="log: 1 patients; expected at least 10"):
        assess_day(dataclasses.replace(recent, log=one), champion, references)


def test_assessment_refuses_a_reference_of_another_feature_version(day, champion, references):
    other = dataclasses.replace(references, days=references.days.drop(columns="age"))
    with pytest.raises(OtherFeaturesError, match="reference: lacks age; expected the features of the champion"):
        assess_day(day()[0], champion, other)


def test_registry_names_the_table_that_a_run_lacks(home, champion):
    with pytest.raises(NoModelError, match="nothing.parquet of run .* train again: vigil train"):
        Registry(home).load_table(champion.run_id, "nothing.parquet")


def test_drift_reports_a_damaged_log_in_one_line(home, tmp_path, monkeypatch):
    broken = tmp_path / SCHEMA.file
    broken.write_bytes((home / SCHEMA.file).read_bytes()[:3000])
    monkeypatch.setattr(
        "vigil.pipelines.drift.job.read_home", lambda *_, **__: read_home(tmp_path, Registry(home).load("deterioration"))
    )
    result = vigil("drift", "--home", home)
    assert result.exit_code == 3
    assert result.output.strip().splitlines()[-1].startswith("vigil: ")


def test_assessment_measures_performance_week_by_week(champion, references, day):
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
    assessment = assess_day(dataclasses.replace(recent, judged=judged), champion, references)
    assert assessment.known["patients"] == 300
    assert assessment.known["auroc_low"] < assessment.known["auroc"] < assessment.known["auroc_high"]
    assert assessment.known["calibration_slope"] == pytest.approx(1, abs=0.3)
    assert len(assessment.known["weeks"]) >= 2


def test_exit_status_tells_a_scheduler_fine_from_drift_and_broken():
    """2 is left to wrong use of the command, as everywhere."""
    assert {status.name.lower(): EXIT[status] for status in Status} == {"fine": 0, "drift": 1, "broken": 3}


def test_reports_of_drift_name_no_patient(home):
    names = set(CohortStore(home).read("stays")["subject_id"])
    files = [path for path in (home / "reports").rglob("*") if path.is_file() and path.suffix in {".json", ".html"}]
    assert len(files) > 4
    for path in files:
        text = path.read_text()
        assert not any(name in text for name in names), path


def test_evidence_for_the_registry_names_no_device():
    finding = {"fault": "stuck", "place": "device", "where": ["wearable-7"], "says": "spo2 at wearable-7 ...", "hit": 1}
    at_gateway = {**finding, "place": "gateway", "where": ["gateway-1"], "says": "at gateway-1"}
    evidence = _without_devices({"findings": [finding, at_gateway]})
    assert "wearable-7" not in json.dumps(evidence)
    assert evidence["findings"][1]["where"] == ["gateway-1"]


def test_assessment_finds_faults_of_readings_where_too_few_patients_have_a_risk(champion, references, day):
    """A ward with all readings in quarantine has no risk to compare. The readings show why."""
    recent, _ = day("fahrenheit", 1.0)
    without_risks = dataclasses.replace(recent, log=recent.log.iloc[:0])
    assessment = assess_day(without_risks, champion, references)
    assert [finding.fault for finding in assessment.findings] == ["fahrenheit"]
    assert assessment.columns.empty
    assert assessment.patients > 10


def test_drift_reports_a_failing_run_as_broken(home):
    latest = home / "reports" / "drift.json"
    before = latest.read_bytes()
    log = home / SCHEMA.file
    log.rename(home / "away.db")
    result = vigil("drift", "--home", home)
    (home / "away.db").rename(log)
    report = json.loads(latest.read_text())
    latest.write_bytes(before)
    assert result.exit_code == 3
    assert set(report) == {"status", "judged_at", "error"}
    assert report["status"] == "broken"
    assert f"prediction log {log}: missing" in report["error"]


@pytest.mark.parametrize(
    "arguments", [("--outcomes", "nowhere.csv"), ("--replay", "nowhere"), ("--hours", "none"), ("--hour", "3")]
)
def test_drift_with_wrong_arguments_leaves_the_last_report(home, arguments):
    latest = home / "reports" / "drift.json"
    before = latest.read_bytes()
    assert vigil("drift", "--home", home, *arguments).exit_code == 2
    assert latest.read_bytes() == before


def test_outcomes_say_how_many_of_their_patients_are_known(home, tmp_path):
    assert vigil("drift", "--home", home).exit_code == 0
    latest = home / "reports" / "drift.json"
    before = latest.read_bytes()
    ward = Home(home)
    known = next(iter(Identities(home).find(ward.cohort.read("stays")["subject_id"].tolist()).values()))
    rows = ["patient_id,end,onset", "nobody-1,2026-01-20T00:00:00Z,", "nobody-2,2026-01-20T00:00:00Z,2026-01-19T00:00:00Z"]
    file = tmp_path / "outcomes.csv"
    file.write_text("\n".join(rows))
    strangers = vigil("drift", "--home", home, "--outcomes", file)
    assert strangers.exit_code == 2
    assert "none of its 2 patients is known here" in strangers.output.replace("\n", " ")
    assert latest.read_bytes() == before
    file.write_text("\n".join([*rows, f"{known},2026-01-20T00:00:00Z,"]))
    some = vigil("drift", "--home", home, "--outcomes", file)
    assert "outcomes: 1 of 3 patients are known here" in some.output
    assert json.loads(latest.read_text())["outcomes"] == {"given": 3, "known": 1}
