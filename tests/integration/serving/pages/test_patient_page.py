"""The page of a patient: what is shown, what does not hold, who may see it, and the page to print."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from tests.support.viewer import open_viewer
from vigil.serving.auth.tokens import SCOPES, Caller
from vigil.serving.pages import patient_view
from vigil.serving.pages.charts import Panel, Span, find_gaps, thin
from vigil.serving.pages.patient_charts import read_readings, risk_panels
from vigil.serving.pages.patient_view import Contributor
from vigil.serving.pages.site import render_part
from vigil.serving.scoring.history import RiskPoint
from vigil.serving.words import Words

HOUR, MINUTE = 3_600_000_000, 60_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_in_process(tmp_path_factory.mktemp("patient_page")) as running:
        caller, now = running.caller(), pd.Timestamp.now("UTC")
        registered = [{"patient_id": "Anna <Berg>", "ward": "B4", "age": 70, "sex": "female"}]
        assert caller.post("/v1/patients", json={"patients": registered}).status_code == 200
        for hours in (5, 4, 3):
            at = now - pd.Timedelta(hours=hours)
            assert caller.post("/v1/observations", json=observations_body("Anna <Berg>", WELL, at)).status_code == 200
        caller.post("/v1/observations", json=observations_body("Anna <Berg>", SICK, now))
        wrong = {"signal": "heart_rate", "value": 990, "observed_at": (now - pd.Timedelta(hours=2)).isoformat()}
        fields = {"patient_id": "Anna <Berg>", "message_id": "wrong", "source": "tests"}
        caller.post("/v1/observations", json={"observations": [wrong | fields]})
        right = {"signal": "spo2", "observed_at": (now - pd.Timedelta(hours=1)).isoformat(), **fields, "message_id": "late"}
        caller.post("/v1/observations", json={"observations": [right | {"value": 71}]})
        caller.post("/v1/observations", json={"observations": [right | {"value": 95, "status": "corrected", "version": 2}]})
        caller.post("/v1/patients", json={"patients": [{"patient_id": "Bo", "ward": "B4"}]}).raise_for_status()
        for hours in (5, 4, 3):
            body = observations_body("Bo", WELL | {"on_oxygen": 1}, now - pd.Timedelta(hours=hours))
            caller.post("/v1/observations", json=body).raise_for_status()
        fields = {"patient_id": "Bo", "source": "tests"}
        for number, (signal, value) in enumerate((("spo2", 70), ("glucose", 40))):
            low = {
                "signal": signal,
                "value": value,
                "comparator": "<",
                "observed_at": now.isoformat(),
                "unit": ("%", "mg/dL")[number],
            }
            low |= {"message_id": f"low {signal}", **fields}
            caller.post("/v1/observations", json={"observations": [low]}).raise_for_status()
        own = {
            "patient_id": "Bo",
            "because": "target 88 to 92 percent",
            "spo2_scale": 2,
            "limits": {"respiratory_rate": {"low": 14}},
        }
        caller.post("/v1/patients/terms", json=own).raise_for_status()
        running.rescore()
        yield running


@pytest.fixture(scope="module")
def path(server):
    subject = server.components.pseudonyms.subject_key("Anna <Berg>")
    return f"/patient/{server.components.directory.ids.of_subject(subject)}"


@pytest.fixture(scope="module")
def path_of_bo(server):
    return f"/patient/{server.components.directory.ids.of_subject(server.components.pseudonyms.subject_key('Bo'))}"


@pytest.fixture(scope="module")
def page(server, path):
    answer = open_viewer(server, wards=["B4"])[0].get(path)
    assert answer.status_code == 200
    return answer.text


def text_of(page):
    return re.sub(r" ([.,:])", r"\1", " ".join(re.sub(r"<[^>]+>", " ", page).split()))


def test_the_page_says_who_it_is_how_they_are_and_on_what_that_rests(page):
    text = text_of(page)
    assert "<h1>Anna &lt;Berg&gt;</h1>" in page
    assert re.search("<title>([^<]+)</title>", page)[1] == "Patient - Vigil"
    for part in ("Ward B4", "70 years", "female", "NEWS2 12", "NEWS2 alone", "no model is in use", "NEWS2 of 7 or more"):
        assert part in text


def test_news2_shows_its_points_and_that_they_are_the_reason_where_the_model_gives_none(page):
    text = text_of(page).replace("\N{NO-BREAK SPACE}", " ")
    assert "SpO2 now 85 % 3 points" in text
    assert "ACVPU – not measured" in text
    assert "The model gives no probability. The points of NEWS2 say why." in text


def test_what_does_not_hold_is_marked_where_it_belongs(page):
    listed = text_of(page).replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"1 marked reading \d{4}-\d\d-\d\d \d\d:\d\d UTC Corrected; was 71 %", listed)
    assert re.search(r"1 marked reading [^<]{16} UTC Not used: 990/min: not possible in a living patient", listed)
    marks = re.findall(r'<text class="mark (\w+)"[^>]*>×<title>([^<]+)</title>', page)
    assert ("corrected", "Corrected; was 71\N{NO-BREAK SPACE}%") in marks
    assert [text for kind, text in marks if kind == "quarantined"] == ["Not used: 990/min: not possible in a living patient"]


def test_every_signal_has_its_chart_with_unit_usual_range_and_latest_value(page):
    labels = re.findall(r"<figcaption>([^<]+) <span", page)
    assert labels == ["NEWS2", "Respiratory rate, /min", "SpO2, %", "Systolic blood pressure, mmHg", "Heart rate, /min"]
    assert page.count('<rect class="area usual"') == 4
    assert "<strong>85\N{NO-BREAK SPACE}%</strong>" in page


def test_people_are_shown_by_the_name_that_they_logged_in_with(server, path, monkeypatch):
    from matplotlib.figure import Figure

    ada, token = open_viewer(server, wards=["B4"], sub="https://ehr.example/fhir/Practitioner/17", name="Ada Meier")
    (alarm,) = server.components.ward_state.alarms(subject=server.components.pseudonyms.subject_key("Anna <Berg>"))
    acted = ada.post(f"/ward/B4/alarms/{alarm.alarm_id}", data={"action": "acknowledged", "csrf_token": token})
    assert acted.status_code == 303
    for page in (ada.get(path), ada.get(f"{path}/live"), ada.get(f"{path}/summary")):
        assert "Acknowledged: Ada Meier" in text_of(page.text)
        assert 'title="https://ehr.example/fhir/Practitioner/17">Ada Meier<' in page.text
        assert "Practitioner/17" not in text_of(page.text)
    assert re.search(r"Printed .{10,30}, Ada Meier\. ", text_of(ada.get(f"{path}/summary").text))
    drawn, draw = [], Figure.text
    monkeypatch.setattr(Figure, "text", lambda own, x, y, text, **more: drawn.append(text) or draw(own, x, y, text, **more))
    assert ada.get(f"{path}/summary.pdf").status_code == 200
    shown = " ".join(" ".join(drawn).split())
    assert "Acknowledged: Ada Meier" in shown
    assert ", Ada Meier. A decision aid" in shown
    assert "Practitioner" not in shown


def test_who_decided_for_a_patient_is_shown_by_name(server, path):
    open_viewer(server, sub="https://ehr.example/fhir/Practitioner/18", name="Bea Kunz")
    terms = {"patient_id": "Anna <Berg>", "limits": {"heart_rate": {"high": 200}}, "because": "known to us"}
    given = server.caller(subject="https://ehr.example/fhir/Practitioner/18").post("/v1/patients/terms", json=terms)
    assert given.status_code == 200, given.text
    page = open_viewer(server, wards=["B4"])[0].get(path).text
    assert "Bea Kunz: known to us" in text_of(page)


@pytest.mark.parametrize(
    ("contributions", "text"),
    [
        ([Contributor("mean_bp", 1.0, False)], "Why this risk Mean blood pressure (not measured)"),
        ([], "Why this risk Nothing stands out"),
        (None, "Why this risk Reasons not known yet"),
    ],
)
def test_reasons_that_are_not_known_are_not_called_inconspicuous(server, contributions, text):
    views, now = server.components.patient_views, pd.Timestamp.now("UTC").value // 1_000
    subject = server.components.pseudonyms.subject_key("Anna <Berg>")
    caller = Caller("nurse", frozenset(SCOPES), None, 2e9)
    view = views.view(subject, Span(now - 6 * HOUR, now), caller, Words("en"))
    shown = replace(view, report=None, contributions=contributions)
    assert text in text_of(render_part("patient_side.html", Words("en"), view=shown))


@pytest.mark.parametrize("place", ["patient", "ward"])
def test_a_bound_and_a_limit_of_the_patient_are_named_with_their_age(server, path_of_bo, place):
    viewer, _ = open_viewer(server, wards=["B4"])
    page = viewer.get({"patient": path_of_bo, "ward": "/ward/B4"}[place]).text
    if place == "ward":
        page = page.partition(f'data-id="{path_of_bo.rpartition("/")[2]}"')[2].partition('</li>\n<li class="row')[0]
    text = text_of(page).replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"SpO2: at or below 70 %, (now|\d+ min)", text)
    assert re.search(r"Glucose: at or below 40 mg/dL, (now|\d+ min)", text)
    assert "Respiratory rate: at or below 14/min, a limit of this patient, 3 h" in text
    assert re.search(r"SpO2 (now|\d+ min) ≤ 70 % NEWS2 counts 98 %", text)


def test_a_bound_is_the_latest_measurement_of_its_chart(server, path_of_bo):
    page = open_viewer(server, wards=["B4"])[0].get(path_of_bo).text.replace("\N{NO-BREAK SPACE}", " ")
    chart = next(part for part in page.split("<figcaption>") if part.startswith("SpO2, %"))
    assert "<strong>at or below 70 %</strong>" in chart
    assert 'role="img" aria-label="SpO2, %, latest at or below 70 %, ' in chart
    assert "<title>At or below 70 %</title>" in chart
    assert "1 marked reading" in chart
    assert "↕: no exact value" in page


def test_too_many_readings_leave_out_the_oldest_and_the_page_says_so(server, path_of_bo, monkeypatch):
    subject = server.components.pseudonyms.subject_key("Bo")
    now = pd.Timestamp.now("UTC").value // 1_000
    span = Span(now - 24 * HOUR, now)
    every = read_readings(server.components.journal, subject, span)
    some = read_readings(server.components.journal, subject, span, most=4)
    assert list(some.stored) == list(every.stored)[-4:]
    assert (every.cut_before, some.cut_before) == (None, some.stored[0].observed_at)
    monkeypatch.setattr(patient_view, "read_readings", partial(read_readings, most=4))
    page = text_of(open_viewer(server, wards=["B4"])[0].get(path_of_bo).text)
    assert re.search(r"Those from before this time are left out: \d{4}-", page)


def test_a_time_can_be_chosen(server, path):
    viewer, _ = open_viewer(server, wards=["B4"])
    now = pd.Timestamp.now("UTC")
    chosen = {"since": (now - pd.Timedelta(hours=6)).isoformat(), "until": (now - pd.Timedelta(hours=2.5)).isoformat()}
    page = viewer.get(path, params=chosen).text
    assert "Not used" not in page
    assert "Back to the last hours" in page
    for wrong in ({"hours": 0}, {"hours": 9999}, {"since": "yesterday", "until": "today"}):
        assert viewer.get(path, params=wrong).status_code == 422


def test_the_part_that_renews_itself_has_no_frame(server, path):
    viewer, _ = open_viewer(server, wards=["B4"])
    part = viewer.get(f"{path}/live")
    assert "<html" not in part.text
    assert "Anna &lt;Berg&gt;" in part.text


def test_nobody_sees_a_patient_of_another_ward_or_without_the_scope(server, path):
    elsewhere, _ = open_viewer(server, wards=["C1"])
    for own in (path, f"{path}/live", f"{path}/summary", f"{path}/summary.pdf", "/patient/nobody"):
        answer = elsewhere.get(own)
        assert answer.status_code == 404
        assert "Anna" not in answer.text
    blind, _ = open_viewer(server, scopes=["ward:read"])
    assert blind.get(path).status_code == 403
    deaf, _ = open_viewer(server, scopes=["risk:read"])
    assert "<h2>Alarms</h2>" not in deaf.get(path).text


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_summary_is_one_page_to_print(server, path, language):
    viewer, _ = open_viewer(server, wards=["B4"], language=language)
    assert viewer.get(f"{path}/summary").status_code == 200
    answer = viewer.get(f"{path}/summary.pdf", params={"zone": "Europe/Berlin"})
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.content.count(b"/Type /Page\n") + answer.content.count(b"/Type /Page ") == 1
    assert viewer.get(f"{path}/summary.pdf", params={"zone": "Nowhere/Here"}).status_code == 422


def test_thinning_never_hides_an_extreme():
    times = np.arange(0, 24 * HOUR, MINUTE // 2, dtype=np.int64)
    values = np.full(len(times), 97.0)
    values[1234], values[2001] = 61.0, 100.0
    chosen = thin(times, values, Span(0, 24 * HOUR))
    assert {0, 1234, 2001, len(times) - 1} <= set(chosen.tolist())
    assert len(chosen) <= 1_300


def test_a_line_breaks_where_nothing_was_measured_and_the_gap_reaches_to_the_present():
    times = np.array([0, 5, 10, 100, 105], dtype=np.int64) * MINUTE
    assert find_gaps(times, 200 * MINUTE) == [(10 * MINUTE, 100 * MINUTE), (105 * MINUTE, 200 * MINUTE)]
    panel = Panel("", "", [(2.5 * place, 50.0, "") for place in (0, 1, 2, 20, 21)], gaps=[(5.0, 50.0), (52.5, 100.0)])
    assert [len(part) for part in panel.parts] == [3, 2]
    assert panel.path.count("M") == 2
    assert find_gaps(np.arange(0, 10) * HOUR, 9 * HOUR) == []


def test_a_value_that_stands_alone_is_seen():
    assert Panel("", "", [(10.0, 50.0, "")]).dots == [(10.0, 50.0)]


@pytest.mark.parametrize(
    ("probabilities", "gaps", "latest"),
    [
        ([0.1, 0.2, 0.3], [], "30 %"),
        ([0.1, None, None, 0.3], [(0.0, 30.0)], "30 %"),
        ([0.1, 0.2, None], [(10.0, 100.0)], "no probability"),
        ([None, 0.2, None, 0.3], [(0.0, 10.0), (10.0, 30.0)], "30 %"),
    ],
)
def test_the_line_of_the_risk_breaks_where_the_model_gave_no_probability(probabilities, gaps, latest):
    start = pd.Timestamp("2026-02-01T08:00Z")
    points = [
        RiskPoint(start + pd.Timedelta(minutes=number), "model", value, "low", "model", 1, 1, "1", "vital_signs_v3")
        for number, value in enumerate(probabilities)
    ]
    since = start.value // 1_000
    risk, news2 = risk_panels(points, [], Span(since, since + 10 * MINUTE), Words("en"), None)
    assert (list(risk.gaps), risk.latest) == (gaps, latest)
    assert list(news2.gaps) == []


def test_glucose_of_a_home_patient_has_time_in_range_and_a_profile(server):
    caller, now = server.caller(), pd.Timestamp.now("UTC")
    assert caller.post("/v1/patients", json={"patients": [{"patient_id": "home", "ward": "home"}]}).status_code == 200
    times = [now - pd.Timedelta(minutes=15 * step) for step in range(4 * 24 * 14)]
    fields = {"patient_id": "home", "signal": "glucose", "unit": "mg/dL", "source": "sensor"}
    readings = [
        fields | {"message_id": f"g{step}", "observed_at": time.isoformat(), "value": (60, 100, 120, 200)[step % 4]}
        for step, time in enumerate(times)
    ]
    assert caller.post("/v1/observations", json={"observations": readings}).status_code == 200
    viewer, _ = open_viewer(server, wards=["home"])
    identity = server.components.directory.ids.of_subject(server.components.pseudonyms.subject_key("home"))
    assert f"/patient/{identity}/glucose" in viewer.get(f"/patient/{identity}").text
    text = text_of(viewer.get(f"/patient/{identity}/glucose", params={"zone": "Europe/Berlin"}).text)
    for part in ("in range, 70 to 180 mg/dL: 50 %", "181 to 250 mg/dL: 25 %", "54 to 69 mg/dL: 25 %", "Mean: 120 mg/dL (6.7"):
        assert part in text
    assert "too little to judge by" not in text


def test_without_glucose_the_page_says_so(server, path):
    viewer, _ = open_viewer(server, wards=["B4"])
    assert "No glucose was measured" in viewer.get(f"{path}/glucose").text
    assert "/glucose" not in viewer.get(path).text


def test_the_document_stands_alone_and_is_what_the_fhir_routes_say(server, path):
    viewer, _ = open_viewer(server, wards=["B4"])
    answer = viewer.get(f"{path}/document")
    assert answer.headers["content-type"].startswith("application/fhir+json")
    bundle = answer.json()
    resources = {entry["fullUrl"].partition("/fhir/")[2]: entry["resource"] for entry in bundle["entry"]}
    first, patient = bundle["entry"][0]["resource"], bundle["entry"][1]["resource"]
    assert (bundle["type"], first["resourceType"], patient["resourceType"]) == ("document", "Composition", "Patient")
    named = [entry["reference"] for section in first["section"] for entry in section.get("entry", [])]
    assert set(named) | {first["subject"]["reference"]} <= resources.keys()
    kinds = {name.partition("/")[0] for name in named}
    assert {"RiskAssessment", "Observation"} <= kinds
    (risk,) = [own for name, own in resources.items() if name.startswith("RiskAssessment/")]
    assert {basis["reference"] for basis in risk["basis"]} <= resources.keys()
    elsewhere, _ = open_viewer(server, wards=["C1"])
    assert elsewhere.get(f"{path}/document").status_code == 404
