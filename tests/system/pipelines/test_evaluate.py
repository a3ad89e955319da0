"""The evaluation job on the small ward: what it writes and logs, which patients it judges, and that it names none."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.unit.models.reporting.test_model_card import answered_items, unknown_items
from vigil.features.store.client import Store
from vigil.models import version_history
from vigil.models.cohort import split_of
from vigil.models.registry import Registry
from vigil.models.reporting.model_card import ITEMS, render_model_card
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.evaluate import evaluate
from vigil.pipelines.jobs.train import read_labelled_index


@pytest.fixture(scope="module")
def written(home):
    return json.loads((home / "reports/evaluation.json").read_text())


@pytest.fixture(scope="module")
def page(home):
    return (home / "reports/evaluation.html").read_text()


def test_evaluate_writes_page_json_and_figure_and_logs_all_three(chain, page, written):
    result, home = chain
    assert (home / "reports/evaluation.png").stat().st_size > 0
    registry = Registry(home)
    logged = {
        name: Path(registry.client.download_artifacts(result.trained.run_id, name)).read_bytes()
        for name in ("evaluation.html", "evaluation.json", "evaluation.png")
    }
    assert logged["evaluation.html"].decode() == page
    assert json.loads(logged["evaluation.json"]) == written
    assert logged["evaluation.png"].startswith(b"\x89PNG")


def test_evaluation_json_holds_the_returned_metrics(chain, written):
    result, _ = chain
    assert (written["source"], written["simulated"], written["version"]) == ("simulated", True, "1")
    returned = {
        name: {metric: None if np.isnan(value) else value for metric, value in values.items()}
        for name, values in result.metrics.items()
    }
    assert written["models"] == returned


def test_evaluation_includes_all_baselines_and_the_model_beats_the_clock(written):
    assert {"clock", "workflow", "physiology", "logistic", "news2", "qsofa", "sirs", "mews"} <= set(written["models"])
    assert written["default"] == next(iter(written["models"]))
    assert written["gains"]["clock"]["auroc_low"] > 0


def test_evaluate_judges_every_held_out_patient_and_no_other(own_home, written):
    requested = []

    class RecordingStore(Store):
        def read_training_frame(self, rows, service):
            requested.append(set(rows["subject_id"]))
            return super().read_training_frame(rows, service)

    opened = Home(own_home)
    opened.features = RecordingStore(own_home)
    metrics = evaluate(opened, "1")
    assert {split_of(patient) for patient in requested[0]} == {"held_out"}
    assert json.loads((own_home / "reports/evaluation.json").read_text()) == written  # equal to the last digit
    assert metrics[written["default"]]["patients"] <= len(requested[0])


def test_robustness_to_lost_readings_is_examined_on_held_out_patients(home, written):
    lost = {row["what"]: row for row in written["robustness"]["losses"]}
    assert {"10 % of all readings", "50 % of all readings", "heart rate", "respiratory rate"} <= set(lost)
    patients = CohortStore(home).read("stays")["subject_id"]
    assert written["robustness"]["patients"] == sum(split_of(patient) == "held_out" for patient in patients)
    assert min(row["auroc_change"] for row in lost.values()) < 0


def test_report_page_warns_of_simulation_and_holds_no_subject_key_or_date(home, page, written):
    assert "NO CLINICAL EVIDENCE" in page
    stays = CohortStore(home).read("stays")
    for subject_id in stays["subject_id"]:
        assert subject_id not in page
        assert subject_id not in json.dumps(written)
    assert not pd.to_datetime(stays["start"]).dt.strftime("%Y-%m-%d").isin([word[:10] for word in page.split()]).any()


def test_report_page_holds_digest_seed_and_version(page, written):
    assert written["made"]["data_digest"] in page
    assert f"seed {written['made']['seed']}" in page
    assert str(written["version"]) in page


def test_behaviour_is_examined_on_held_out_patients(written):
    result = written["behaviour"]
    assert list(result) == ["vignettes", "worsening", "history", "removal", "removal_of_vignettes", "arrivals"]
    assert result["vignettes"]["shown"] == 94
    assert not [failure for failure in result["vignettes"]["failed"] if failure["fault"] != "band_too_high"]
    assert result["worsening"]["judged"] > 3
    arrivals = result["arrivals"]
    assert arrivals["arrivals"] == 2000
    assert arrivals["emergencies"] > 300
    assert (arrivals["low"], arrivals["without_alarm"]) == (0, 0)  # the safety net sounds, whatever the model says
    assert arrivals["without_alarm_by_model"] >= arrivals["low_by_model"]


def test_domain_of_use_is_judged_on_held_out_patients(home, written):
    result = written["domain"]
    model = Registry(home).load("deterioration", "1").model
    assert result["summary"] == model.domain_.summary
    assert result["summary"]["outside_training"]["any"] <= result["summary"]["share_allowed"]
    frame = Store(home).read_training_frame(read_labelled_index(CohortStore(home), "held_out"), "vital_signs_v3")
    measured = frame["hours_since_reading"].notna()
    assert (result["held_out"]["rows"], result["held_out"]["rows_outside"]) == (
        measured.sum(),
        model.domain_.outside(frame[measured]).sum(),
    )
    assert result["vignettes"]["shown"] == 94
    assert 0 < result["vignettes"]["outside"] < 94


def test_behaviour_and_domain_of_use_are_on_the_page_and_the_model_card(home, page):
    card = (home / "reports/model_card.md").read_text()
    for text in (page, card):
        assert "Of 94 answers to 20 clinical vignettes" in text
        assert "Of 2,000 simulated patients at arrival" in text
        assert "history, hours in the unit" in text
    assert "Not examined." not in page


def test_card_of_a_run_is_stored_with_the_run(chain):
    outcome, home = chain
    registry = Registry(home)
    training = version_history.describe_training(registry, registry.load("deterioration"))
    result = json.loads((home / "reports/evaluation.json").read_text())
    page = render_model_card(result, training)
    assert (home / "reports/model_card.md").read_text() == page
    stored = registry.client.download_artifacts(outcome.trained.run_id, "model_card.md")
    assert Path(stored).read_text() == page
    default = result["models"][result["default"]]
    assert f"{default['auroc']:.3f} ({default['auroc_low']:.3f}-{default['auroc_high']:.3f})" in page
    assert f"{outcome.facts.subjects} stays, {outcome.facts.events} of them with an event" in page
    assert registry.client.get_run(outcome.trained.run_id).data.params["data_digest"] in page
    assert f"lightgbm {training['versions']['lightgbm']}" in page
    assert "SIMULATED PATIENTS" in page
    assert not any(subject in page for subject in CohortStore(home).read("stays")["subject_id"])
    assert set(answered_items(page)) | set(unknown_items(page)) == set(ITEMS)


def test_evaluation_holds_pictures_of_the_model_and_fairness_by_what_is_known(written, page):
    assert [len(signal["swarm"]["contribution"]) for signal in written["explanations"]] == [200] * 8
    assert len(written["feature_explanations"]) == 12
    example = written["example"]
    assert example["title"] == "Septic shock from pneumonia"
    log_odds = example["baseline"] + sum(part["contribution"] for part in example["parts"])
    assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(example["risk"])
    assert written["fairness"]["by"] == ["sex", "age_band", "ward"]
    sexes = [row for row in written["fairness"]["groups"] if row["by"] == "sex"]
    assert sum(row["patients"] for row in sexes) == written["patients"]
    assert "Age, years: " in page
