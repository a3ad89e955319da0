"""The evaluation job on the small ward: what it writes and logs, on whom, and that it names nobody."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.store.client import Store
from models.cohort import split_of
from models.registry import Registry
from pipelines.cohort_store import CohortStore
from pipelines.jobs.evaluate import evaluate
from pipelines.jobs.train import labelled_index


@pytest.fixture(scope="module")
def written(home):
    return json.loads((home / "reports/evaluation.json").read_text())


@pytest.fixture(scope="module")
def page(home):
    return (home / "reports/evaluation.html").read_text()


def test_it_writes_page_json_and_picture_and_logs_all_three(chain, page, written):
    outcome, home = chain
    assert (home / "reports/evaluation.png").stat().st_size > 0
    registry = Registry(home)
    kept = {
        name: Path(registry.client.download_artifacts(outcome.trained.run_id, name)).read_bytes()
        for name in ("evaluation.html", "evaluation.json", "evaluation.png")
    }
    assert kept["evaluation.html"].decode() == page
    assert json.loads(kept["evaluation.json"]) == written
    assert kept["evaluation.png"].startswith(b"\x89PNG")


def test_the_json_keeps_its_shape(chain, written):
    outcome, _ = chain
    assert (written["source"], written["simulated"], written["version"]) == ("simulated", True, "1")
    returned = {
        name: {metric: None if np.isnan(value) else value for metric, value in values.items()}
        for name, values in outcome.metrics.items()
    }
    assert written["models"] == returned


def test_baselines_are_always_beside_and_physiology_is_worth_something(written):
    assert {"clock", "workflow", "physiology", "logistic", "news2", "qsofa", "sirs", "mews"} <= set(written["models"])
    assert written["default"] == next(iter(written["models"]))
    assert written["gains"]["clock"]["auroc_low"] > 0


def test_it_judges_every_held_out_patient_and_nobody_else(home, written, monkeypatch):
    asked = []

    class Watched(Store):
        def training_frame(self, rows, service):
            asked.append(set(rows["subject_id"]))
            return super().training_frame(rows, service)

    monkeypatch.setattr("pipelines.jobs.evaluate.Store", Watched)
    metrics = evaluate(home, "1")
    assert {split_of(patient) for patient in asked[0]} == {"held_out"}
    assert json.loads((home / "reports/evaluation.json").read_text()) == written  # the same again, to the last digit
    assert metrics[written["default"]]["patients"] <= len(asked[0])


def test_losing_readings_is_tried_on_the_held_out_patients(home, written):
    lost = {row["what"]: row for row in written["robustness"]["losses"]}
    assert {"10 % of all readings", "50 % of all readings", "heart rate", "respiratory rate"} <= set(lost)
    patients = CohortStore(home).read("stays")["subject_id"]
    assert written["robustness"]["patients"] == sum(split_of(patient) == "held_out" for patient in patients)
    assert min(row["auroc_change"] for row in lost.values()) < 0


def test_the_page_is_loud_about_simulation_and_names_nobody(home, page, written):
    assert "NO CLINICAL EVIDENCE" in page
    stays = CohortStore(home).read("stays")
    for subject_id in stays["subject_id"]:
        assert subject_id not in page
        assert subject_id not in json.dumps(written)
    assert not pd.to_datetime(stays["start"]).dt.strftime("%Y-%m-%d").isin([word[:10] for word in page.split()]).any()


def test_everything_known_of_the_run_is_in_the_report(page, written):
    assert written["made"]["data_digest"] in page
    assert f"seed {written['made']['seed']}" in page
    assert str(written["version"]) in page


def test_behaviour_is_examined_on_held_out_patients(written):
    found = written["behaviour"]
    assert list(found) == ["vignettes", "worsening", "history", "removal", "removal_of_vignettes", "arrivals"]
    assert found["vignettes"]["shown"] == 94
    assert not [failure for failure in found["vignettes"]["failed"] if failure["fault"] != "band_too_high"]
    assert found["worsening"]["judged"] > 3
    arrivals = found["arrivals"]
    assert arrivals["arrivals"] == 2000
    assert arrivals["emergencies"] > 300
    assert (arrivals["low"], arrivals["without_alarm"]) == (0, 0)  # the safety net holds whatever the model says
    assert arrivals["without_alarm_by_model"] >= arrivals["low_by_model"]


def test_domain_of_use_is_judged_on_held_out_patients(home, written):
    found = written["domain"]
    model = Registry(home).load("deterioration", "1").model
    assert found["summary"] == model.domain_.summary
    assert found["summary"]["outside_training"]["any"] <= found["summary"]["share_allowed"]
    frame = Store(home).training_frame(labelled_index(CohortStore(home), "held_out"), "vital_signs_v3")
    asked = frame["hours_since_reading"].notna()
    assert (found["held_out"]["rows"], found["held_out"]["rows_outside"]) == (
        asked.sum(),
        model.domain_.outside(frame[asked]).sum(),
    )
    assert found["vignettes"]["shown"] == 94
    assert 0 < found["vignettes"]["outside"] < 94


def test_behaviour_and_domain_are_on_the_page_and_the_card(home, page):
    card = (home / "reports/model_card.md").read_text()
    for text in (page, card):
        assert "Of 94 answers to 20 clinical vignettes" in text
        assert "Of 2,000 simulated patients at arrival" in text
        assert "history, hours in the unit" in text
    assert "Not examined." not in page
