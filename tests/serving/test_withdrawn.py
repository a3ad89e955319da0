"""A model that was withdrawn: the whole server as without one, and as before once it is reinstated."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipelines.cohort_store import CohortStore
from serving.composition import open_scorer
from serving.records.prediction_log import PREDICTIONS
from serving.records.ward_state import ALARMS, RISKS
from serving.settings import Settings
from tests.serving.bedside import SICK, Bedside, FixedChampion, heart_model
from tests.serving.inside import SICK as VERY_SICK
from tests.serving.inside import WELL, running_inside, sent


def withdrawn(model):
    return replace(model, withdrawn=True)


@pytest.fixture
def bed(tmp_path):
    bed = Bedside(tmp_path, heart_model())
    (tmp_path / "wards.toml").write_text("[default]\nalarms_per_patient_day = 10\n")
    bed.begin()
    return bed


def test_everybody_is_scored_anew_at_once_and_again_when_it_is_reinstated(bed):
    model = bed.champion.model
    bed.register("p1", "p2")
    bed.send("p1", 110)
    bed.send("p2", 170)
    bed.rescore()
    assert {row["patient"]: row["basis"] for row in bed.rows(RISKS)} == {"p1": "model", "p2": "model"}
    bed.champion.model = withdrawn(model)
    bed.pass_(seconds=2)
    assert bed.rescore() == 2  # nothing came
    unnamed = {"basis": "news2", "probability": None, "threshold": None, "model_name": None, "model_version": None}
    assert bed.rows(RISKS, *unnamed) == [unnamed, unnamed]
    assert {row["feature_service"] for row in bed.rows(RISKS)} == {"vital_signs_v3"}  # ready for when it comes back
    assert [(row["patient"], row["ended_at"] is None) for row in bed.rows(ALARMS)] == [("p2", False)]  # NEWS2 of 3
    last = bed.rows(PREDICTIONS)[-2:]
    assert [(row["basis"], row["model_version"], row["features"]) for row in last] == [("news2", None, None)] * 2
    bed.champion.model = replace(bed.champion.model, withdrawn=False)
    bed.pass_(seconds=2)
    assert bed.rescore() == 2
    assert {row["patient"]: (row["basis"], row["model_version"]) for row in bed.rows(RISKS)} == {
        "p1": ("model", "1"),
        "p2": ("model", "1"),
    }
    assert [kind for kind, patient in bed.events("risk") if patient == "p1"] == ["risk"] * 3  # whoever follows the ward is told


def test_alarms_are_those_of_a_ward_without_a_model(tmp_path):
    outcomes = []
    for name, model in (("none", None), ("withdrawn", withdrawn(heart_model()))):
        bed = Bedside(tmp_path / name, model)
        bed.register("p1", "p2", "p3")
        bed.send("p1", 135, **SICK)  # NEWS2 of 12
        bed.send("p2", 240)  # of 3, and the model's highest risk
        bed.send("p3", 70)
        bed.rescore()
        bed.hourly("p1", 140)
        bed.pass_(hours=8)
        bed.send("p1", 135, **SICK)
        bed.rescore()
        bed.send("p1", 70, respiratory_rate=14.0, spo2=98.0, systolic_bp=125.0)
        bed.rescore()
        alarms = [{column: row[column] for column in row if column != "feature_service"} for row in bed.rows(ALARMS)]
        outcomes.append((bed.events(), alarms))
    assert outcomes[0] == outcomes[1]
    assert bed.events("alarm", "alarm_ended") == [("alarm", "p1"), ("alarm", "p1"), ("alarm_ended", "p1")]


def test_who_is_restarted_while_it_is_withdrawn_says_nothing_twice(bed):
    bed.register("p1")
    bed.send("p1", 135, **SICK)
    bed.champion.model = withdrawn(heart_model())
    bed.rescore()
    said = len(bed.events())
    bed.begin()
    assert bed.rescore() == 0
    assert len(bed.events()) == said


def test_an_answer_says_why_it_is_news2(home):
    scorer = open_scorer(Settings(home=home, task="deterioration"))
    patient = CohortStore(home).read("stays")["subject_id"].iloc[0]
    everything = ["contributions", "range"]
    before = scorer.by_id([patient], include=everything)[0].risk
    without = replace(scorer, champion=FixedChampion(withdrawn(scorer.champion.model)))
    answer = without.by_id([patient], include=everything)[0].risk
    assert (answer.basis, answer.probability, answer.findings) == ("news2", None, ["withdrawn"])
    assert (answer.model.name, answer.model.version, answer.contributions, answer.range) == (None, None, None, None)
    assert (answer.news2, answer.model.feature_service) == (before.news2, before.model.feature_service)
    history = scorer.log.history(patient, before.index_time - timedelta(hours=1), before.index_time)
    assert history["model_version"].tolist()[-2:] == [before.model.version, None]
    again = scorer.by_id([patient], include=everything)[0].risk
    assert (again.probability, again.range, again.findings) == (before.probability, before.range, before.findings)


def test_every_route_says_it_and_goes_back(tmp_path):
    with running_inside(tmp_path) as inside:
        model, caller = heart_model(), inside.caller()

        def use(model):
            for champion in (inside.parts.champion, inside.rescorer._champion):
                champion._model = model
            inside.rescore()

        def told():
            readings = [{name: r[name] for name in ("signal", "value", "observed_at")} for r in sent("p", WELL)["observations"]]
            body = {"patient_id": "p", "observations": readings}
            observed = caller.post("/v1/risk/observations", json=body | {"include": ["contributions", "range"]})
            current = caller.post("/v1/risk", json={"patient_id": "p"})
            summary = caller.post("/v1/visit-summary", json={"patient_id": "p"})
            (listed,) = caller.get("/v1/ward/patients", params={"ward": "A"}).json()["patients"]
            return [response.raise_for_status().json() for response in (observed, current, summary)], listed

        use(withdrawn(model))
        caller.post("/v1/patients", json={"patients": [{"patient_id": "p", "ward": "A"}]}).raise_for_status()
        caller.post("/v1/observations", json=sent("p", VERY_SICK)).raise_for_status()
        inside.rescore()
        (observed, current, summary), listed = told()
        for answer in (observed, current, summary["risk"]):
            assert (answer["basis"], answer["probability"], answer["model"]["name"]) == ("news2", None, None)
            assert "withdrawn" in answer["findings"]
        assert (observed["contributions"], observed["range"], summary["changes"]) == (None, None, None)
        assert (listed["basis"], listed["news2"], listed["model_version"]) == ("news2", 12, None)
        (alarm,) = caller.get("/v1/alarms").json()["alarms"]
        assert (alarm["basis"], alarm["sounded"], alarm["model_version"]) == ("news2", 1, None)
        assert not [trouble for trouble in inside.parts.troubles() if "model" in trouble]  # NEWS2 must be had from somewhere
        use(model)
        (observed, *_), listed = told()
        assert (observed["basis"], observed["model"]["version"], observed["findings"]) == ("model", "1", [])
        assert (listed["basis"], listed["model_version"]) == ("model", "1")
