"""A withdrawn model: the server works as without a model, and as before when it is reinstated."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.fake_ward import PREDICTIONS, SICK, FakeWard, FixedChampion, heart_rate_model
from tests.support.in_process_server import SICK as VERY_SICK
from tests.support.in_process_server import WELL, observations_body, running_in_process
from vigil.pipelines.cohort_store import CohortStore
from vigil.serving.api.schemas.risks import risk_answer
from vigil.serving.composition import open_risk_service
from vigil.serving.records.ward_tables import ALARMS, RISKS
from vigil.serving.settings import Settings


@pytest.fixture(scope="module")
def home(own_home):
    return own_home


def withdrawn(model):
    return replace(model, withdrawn=True)


@pytest.fixture
def ward(tmp_path):
    ward = FakeWard(tmp_path, heart_rate_model())
    (tmp_path / "wards.toml").write_text("[default]\nalarms_per_patient_day = 10\n")
    ward.restart()
    return ward


def test_withdrawal_and_reinstatement_rescore_every_patient_at_once(ward):
    model = ward.champion.model
    ward.register("p1", "p2")
    ward.send("p1", 110)
    ward.send("p2", 170)
    ward.rescore()
    assert {row["subject_id"]: row["basis"] for row in ward.rows(RISKS)} == {"p1": "model", "p2": "model"}
    ward.champion.model = withdrawn(model)
    ward.wait(seconds=2)
    assert ward.rescore() == 2  # nothing arrived
    unnamed = {"basis": "news2", "probability": None, "threshold": None, "model_name": None, "model_version": None}
    assert ward.rows(RISKS, *unnamed) == [unnamed, unnamed]
    assert {row["feature_service"] for row in ward.rows(RISKS)} == {"vital_signs_v3"}  # ready for its reinstatement
    assert [(row["subject_id"], row["ended_at"] is None) for row in ward.rows(ALARMS)] == [("p2", False)]  # NEWS2 of 3
    last = ward.rows(PREDICTIONS)[-2:]
    assert [(row["basis"], row["model_version"], row["features"]) for row in last] == [("news2", None, None)] * 2
    ward.champion.model = replace(ward.champion.model, withdrawn=False)
    ward.wait(seconds=2)
    assert ward.rescore() == 2
    assert {row["subject_id"]: (row["basis"], row["model_version"]) for row in ward.rows(RISKS)} == {
        "p1": ("model", "1"),
        "p2": ("model", "1"),
    }
    assert [kind for kind, patient in ward.events("risk") if patient == "p1"] == ["risk"] * 3  # followers of the ward are told


def test_withdrawn_model_leaves_the_alarms_of_a_ward_without_a_model(tmp_path):
    outcomes = []
    for name, model in (("none", None), ("withdrawn", withdrawn(heart_rate_model()))):
        ward = FakeWard(tmp_path / name, model)
        ward.register("p1", "p2", "p3")
        ward.send("p1", 135, **SICK)  # NEWS2 of 12
        ward.send("p2", 240)  # of 3, and the model's highest risk
        ward.send("p3", 70)
        ward.rescore()
        ward.send_hourly("p1", 140)
        ward.wait(hours=8)
        ward.send("p1", 135, **SICK)
        ward.rescore()
        ward.send("p1", 70, respiratory_rate=14.0, spo2=98.0, systolic_bp=125.0)
        ward.rescore()
        alarms = [{column: row[column] for column in row if column != "feature_service"} for row in ward.rows(ALARMS)]
        outcomes.append((ward.events(), alarms))
    assert outcomes[0] == outcomes[1]
    assert ward.events("alarm", "alarm_ended") == [("alarm", "p1"), ("alarm", "p1"), ("alarm_ended", "p1")]


def test_restart_while_withdrawn_sends_nothing_twice(ward):
    ward.register("p1")
    ward.send("p1", 135, **SICK)
    ward.champion.model = withdrawn(heart_rate_model())
    ward.rescore()
    before = len(ward.events())
    ward.restart()
    assert ward.rescore() == 0
    assert len(ward.events()) == before


def test_withdrawn_model_is_stated_in_the_report(home):
    service = open_risk_service(Settings(home=home, task="deterioration"))
    subject = CohortStore(home).read("stays")["subject_id"].iloc[0]
    everything = ["contributions", "range"]
    (before,) = service.by_subject([subject], include=everything)
    without = replace(service, champion=FixedChampion(withdrawn(service.champion.model)))
    (report,) = without.by_subject([subject], include=everything)
    assert (report.risk.basis, report.risk.probability, report.risk.findings) == ("news2", None, ("withdrawn",))
    assert (report.model, report.contributions, report.range) == (None, None, None)
    answer, answer_before = risk_answer(report, "p"), risk_answer(before, "p")
    assert (answer.model.name, answer.model.version, answer.contributions, answer.range) == (None, None, None, None)
    assert (answer.news2, answer.model.feature_service) == (answer_before.news2, answer_before.model.feature_service)
    index_time = before.risk.index_time
    history = service.log.history(subject, index_time - timedelta(hours=1), index_time)
    assert history["model_version"].tolist()[-2:] == [before.model.version, None]
    (again,) = service.by_subject([subject], include=everything)
    assert (again.risk.probability, again.range, again.risk.findings) == (
        before.risk.probability,
        before.range,
        before.risk.findings,
    )


def test_withdrawn_model_is_stated_by_every_route_until_it_is_reinstated(tmp_path):
    with running_in_process(tmp_path) as server:
        model, caller = heart_rate_model(), server.caller()

        def use(model):
            for champion in (server.components.champion, server.rescorer._champion):
                champion._model = model
            server.rescore()

        def answers():
            names = ("signal", "value", "observed_at")
            observations = [{name: sent[name] for name in names} for sent in observations_body("p", WELL)["observations"]]
            body = {"patient_id": "p", "observations": observations}
            observed = caller.post("/v1/risk/observations", json=body | {"include": ["contributions", "range"]})
            current = caller.post("/v1/risk", json={"patient_id": "p"})
            summary = caller.post("/v1/visit-summary", json={"patient_id": "p"})
            (listed,) = caller.get("/v1/ward/patients", params={"ward": "A"}).json()["patients"]
            return [response.raise_for_status().json() for response in (observed, current, summary)], listed

        use(withdrawn(model))
        caller.post("/v1/patients", json={"patients": [{"patient_id": "p", "ward": "A"}]}).raise_for_status()
        caller.post("/v1/observations", json=observations_body("p", VERY_SICK)).raise_for_status()
        server.rescore()
        (observed, current, summary), listed = answers()
        for answer in (observed, current, summary["risk"]):
            assert (answer["basis"], answer["probability"], answer["model"]["name"]) == ("news2", None, None)
            assert "withdrawn" in answer["findings"]
        assert (observed["contributions"], observed["range"], summary["changes"]) == (None, None, None)
        assert (listed["basis"], listed["news2"], listed["model_version"]) == ("news2", 12, None)
        (alarm,) = caller.get("/v1/alarms").json()["alarms"]
        assert (alarm["basis"], alarm["sounded"], alarm["model_version"]) == ("news2", 1, None)
        assert not [problem for problem in server.problems() if "model" in problem]  # a withdrawn one is no reason not to serve
        use(model)
        (observed, *_), listed = answers()
        assert (observed["basis"], observed["model"]["version"], observed["findings"]) == ("model", "1", [])
        assert (listed["basis"], listed["model_version"]) == ("model", "1")
