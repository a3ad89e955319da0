"""The page of operations: what it tells, in which words, and to whom. No patient is on it."""

import json
import re
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from tests.support.viewer import open_viewer
from vigil.features.observations import REASONS
from vigil.models.monitoring.faults import FAULTS
from vigil.models.monitoring.report_schema import Decision, DriftReport, FindingRecord
from vigil.serving.pages.operations_view import Operations
from vigil.serving.settings import Settings
from vigil.serving.words import LANGUAGES, Words

FINDING = FindingRecord(fault="fahrenheit", signal="body_temperature", place="gateway", where=["gateway-2"], hit=6, of=7)
DECISION = Decision(
    action="withdraw", because="it misled", carried_out=True, outcome="risks are NEWS2", decided_at="2026-11-01T10:00:00+00:00"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("operations_page")
    (home / "wards.toml").write_text('[wards.C1.safety_net]\nalarm_from = 9\nbecause = "known to the team of C1"\n')
    (home / "decisions").mkdir()
    (home / "decisions" / "20261101T100000.000000-withdraw.json").write_text(json.dumps(DECISION.as_dict() | {"evidence": {}}))
    (home / "decisions" / "20261102T100000.000000-warn.json").write_text("not JSON")
    with running_in_process(home) as running:
        caller = running.caller()
        registered = [{"patient_id": name, "ward": ward, "age": 70} for name, ward in (("Anna Berg", "B4"), ("Eva Falk", "C1"))]
        assert caller.post("/v1/patients", json={"patients": registered}).status_code == 200
        caller.post("/v1/observations", json=observations_body("Anna Berg", SICK, source="gateway-1"))
        wrong = {"heart_rate": 4_000, "spo2": 97}
        caller.post("/v1/observations", json=observations_body("Eva Falk", WELL | wrong, source="gateway-2"))
        running.rescore()
        yield running


@pytest.fixture
def drift(server):
    """Store a report on drift; ``drift(text)`` stores anything."""
    path = server.home / "reports" / "drift.json"
    path.parent.mkdir(exist_ok=True)

    def store(text=None):
        report = DriftReport(status="drift", judged_at=datetime(2026, 11, 2, 6, tzinfo=UTC), findings=[FINDING])
        path.write_text(json.dumps(report.as_dict()) if text is None else text)
        server.components.operations._cached = None  # it is kept for some seconds

    yield store
    path.unlink()
    server.components.operations._cached = None


def text_of_page(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def text_of(answer):
    assert answer.status_code == 200
    return text_of_page(answer.text)


def look(server, **options):
    return text_of(open_viewer(server, **options)[0].get("/operations"))


def test_it_says_what_is_missing_what_sources_sent_and_what_was_decided(server):
    shown = look(server)
    assert "There is no model." in shown
    assert "No model: risks are NEWS2." in shown
    assert "Drift has not been judged yet." in shown
    assert re.search(r"gateway-1 (now|\d+ min ago) 4 0", shown)
    assert re.search(r"gateway-2 (now|\d+ min ago) 3 1 1: not possible in a living patient", shown)
    assert "Withdrawal of the model it misled. risks are NEWS2" in shown


def test_budgets_are_by_ward_with_its_own_safety_net(server):
    shown = look(server)
    assert re.search(r"B4 1 1 of 1 1 0 0 0 NEWS2 of 7 or more", shown)
    assert "C1 1 0 of 1 0 0 0 0 Alarm at NEWS2 9 or more: known to the team of C1" in shown


@pytest.mark.parametrize(("language", "text"), [("en", "gateway-1 now 4"), ("de", "gateway-1 jetzt 4")])
def test_a_source_that_was_heard_just_now_is_not_now_ago(server, language, text, monkeypatch):
    monkeypatch.setattr(Operations, "hours_since", lambda *_: 0.001)
    assert text in look(server, language=language)


def test_tools_are_links_where_the_hospital_runs_them(server, monkeypatch):
    before = open_viewer(server)[0].get("/operations").text
    assert "Runs, models and their figures, on the server: mlflow ui --backend-store-uri" in text_of_page(before)
    links = {"mlflow": "https://mlflow.example/?a=1&b=2", "feast": "", "evidently": "http://10.0.0.7:8000"}
    monkeypatch.setattr(server.components.operations_views, "links", links)
    page = open_viewer(server)[0].get("/operations").text
    assert '<a href="https://mlflow.example/?a=1&amp;b=2" rel="noreferrer">' in page
    assert '<a href="http://10.0.0.7:8000" rel="noreferrer">' in page
    shown = text_of_page(page)
    assert "Features and where they come from, on the server: feast --feature-store-yaml" in shown
    assert "mlflow ui" not in shown
    assert "vigil drift ui" not in shown


def test_settings_give_the_links_of_tools(tmp_path, monkeypatch):
    monkeypatch.setenv("VIGIL_FEAST_URL", "https://feast.example/ui")
    with running_in_process(tmp_path) as running:
        assert running.components.operations_views.links == {"mlflow": "", "feast": "https://feast.example/ui", "evidently": ""}


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "mlflow.example", "ftp://mlflow.example", "/mlflow", "https://u:p@mlflow.example"]
)
def test_a_link_of_a_tool_has_to_be_a_url_of_the_web(url, monkeypatch):
    monkeypatch.setenv("VIGIL_MLFLOW_URL", url)
    with pytest.raises(ValidationError, match="mlflow_url"):
        Settings()


def test_no_patient_is_on_it(server):
    page = open_viewer(server)[0].get("/operations").text
    assert "Anna" not in page
    assert "Eva" not in page
    assert server.components.pseudonyms.subject_key("Anna Berg") not in page


def test_a_viewer_of_one_ward_sees_its_budget_and_nothing_that_is_of_all(server, drift):
    drift()
    shown = look(server, wards=["B4"])
    assert "B4 1 1 of 1" in shown
    assert "fahrenheit" in shown.lower()
    assert "C1" not in shown
    assert "gateway" not in shown.partition("Alarms and their budget")[2]
    assert "gateway-2" not in shown


def test_drift_is_told_with_its_fault_in_a_sentence(server, drift):
    drift()
    shown = look(server)
    assert "The data have changed." in shown
    assert "Body temperature: arrives in Fahrenheit (gateway-2). Set the unit at the gateway to Cel" in shown
    assert "6 of 7 patients" in shown
    german = look(server, language="de")
    assert "Körpertemperatur: kommt in Fahrenheit an (gateway-2)" in german
    drift("{")
    assert "The report on drift cannot be read." in look(server)


def test_it_needs_its_own_scope_and_leads_there_whoever_has_no_other(server):
    nurse, _ = open_viewer(server, scopes=["ward:read", "alarms:read"])
    answer = nurse.get("/operations")
    assert answer.status_code == 403
    assert "operations:read" in answer.text
    assert 'href="/operations"' not in nurse.get("/wards").text
    operator, _ = open_viewer(server, scopes=["operations:read"])
    assert operator.get("/wards").headers["location"] == "/operations"
    assert 'href="/wards">Wards' not in operator.get("/operations").text


def test_a_view_is_reported(server, caplog):
    with caplog.at_level("INFO", logger="vigil.audit"):
        look(server, sub="olga")
    assert "olga viewed operations: 0 patients" in caplog.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_fault_and_every_reason_of_the_quarantine_has_its_words(language):
    words = Words(language)
    assert all(words(f"fault.{name}") and words(f"remedy.{name}") for name in FAULTS)
    assert all(words(f"quarantine.{name}") for name in REASONS)
