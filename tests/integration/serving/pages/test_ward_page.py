"""The page of a ward: who is shown to whom, in which order and words, and what acting on an alarm does."""

import asyncio
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pandas as pd
import pytest

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from tests.support.viewer import open_viewer
from vigil.serving.auth.tokens import SCOPES, Caller
from vigil.serving.login.dependencies import OpenSession
from vigil.serving.pages.routes.ward import _live
from vigil.serving.pages.site import Viewer, render_part
from vigil.serving.pages.ward_view import WardHead, choose_visits
from vigil.serving.scoring.risk_report import Contribution
from vigil.serving.scoring.standing import StandingRisks
from vigil.serving.words import Words


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_in_process(tmp_path_factory.mktemp("ward_page")) as running:
        caller = running.caller()
        patients = [("Anna <Berg>", "B4"), ("Carl Dahl", "B4"), ("Eva Falk", "C1")]
        registered = [{"patient_id": name, "ward": ward, "age": 70} for name, ward in patients]
        assert caller.post("/v1/patients", json={"patients": registered}).status_code == 200
        for name, values in (("Anna <Berg>", WELL), ("Carl Dahl", SICK), ("Eva Falk", SICK)):
            caller.post("/v1/observations", json=observations_body(name, values))
        running.rescore()
        yield running


@pytest.fixture(scope="module")
def nurse(server):
    return open_viewer(server, wards=["B4"])[0]


def names(page):
    return re.findall(r'<a class="name" href="/patient/[a-z2-7.]+">([^<]+)</a>', page.text)


def test_the_worst_patient_comes_first_and_no_other_ward_is_seen(nurse):
    page = nurse.get("/ward/B4")
    assert page.status_code == 200
    assert names(page) == ["Carl Dahl", "Anna &lt;Berg&gt;"]
    assert "Eva Falk" not in page.text
    for path in ("/ward/C1", "/ward/C1/live", "/ward/nowhere"):
        assert nurse.get(path).status_code == 404


def test_a_row_says_what_has_to_be_known(nurse):
    row = nurse.get("/ward/B4").text.partition('<li class="row high')[2].partition('<li class="row low')[0]
    text = " ".join(re.sub(r"<[^>]+>", " ", row).split())
    assert "no probability by NEWS2 alone NEWS2 12" in text
    assert "NEWS2 of 7 or more" in text
    assert "no model is in use" in text
    assert "SpO2 now 85 % 3 points" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "latest reading: now" in text


def test_the_page_is_in_the_language_of_the_browser(server):
    german, _ = open_viewer(server, wards=["B4"], language="de-DE")
    page = german.get("/ward/B4")
    assert '<html lang="de">' in page.text
    assert "kein Modell im Einsatz" in page.text


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Risks have not been updated since 09:42 UTC. Look at the patients themselves, and tell operations."),
        (
            "de",
            "Die Risiken wurden seit 09:42 UTC nicht mehr aktualisiert. Sehen Sie selbst nach den Patienten und informieren",
        ),
    ],
)
def test_the_warning_that_risks_stand_still_says_since_when(language, text):
    since = datetime(2026, 11, 1, 9, 42, tzinfo=UTC)
    head = WardHead(since, True, 0, 1, 0, [("<gateway>", since)], None, None)
    page = render_part("ward_head.html", Words(language), head=head, number=3)
    assert text in text_of(page)
    assert '<time datetime="2026-11-01T09:42:00+00:00"' in page
    assert "&lt;gateway&gt;" in page
    assert "<gateway>" not in page


def text_of(page):
    return re.sub(r" ([.,:])", r"\1", " ".join(re.sub(r"<[^>]+>", " ", page).split()))


@pytest.fixture
def entry(server):
    """Carl Dahl, as if a model had made his risk and no rule of NEWS2 held."""
    own = server.components.ward_views.entries("B4", Caller("nurse", frozenset(SCOPES), None, 2e9))[0]
    return replace(
        own, risk=replace(own.risk, basis="model"), patient=own.patient.model_copy(update={"reasons": []}), alarm=None
    )


FOUND = [Contribution("heart_rate", -0.9, True), Contribution("mean_bp", 0.4, False), Contribution("age", 0.2, None)]


@pytest.mark.parametrize(
    ("found", "english", "german"),
    [
        (FOUND, "Why Mean blood pressure (not measured); Age", "Warum Mittlerer Blutdruck (nicht gemessen); Alter"),
        ([], "Why Nothing stands out", "Warum Nichts fällt besonders auf"),
        (None, "Why Reasons not known yet", "Warum Gründe noch nicht bekannt"),
    ],
)
def test_why_says_what_was_not_measured_and_what_is_not_known_yet(server, entry, monkeypatch, found, english, german):
    views = server.components.ward_views
    monkeypatch.setattr(StandingRisks, "reasons", lambda *_: found)
    (row,) = views.rows([entry])
    for language, text in (("en", english), ("de", german)):
        page = render_part("ward_row.html", Words(language), row=row, ward="B4", trend_hours=6, may_act=False, may_open=True)
        why = text_of(re.search(r'<p class="why">.*?</p>', page, re.DOTALL)[0])
        assert why == text


def test_who_takes_care_is_shown_by_the_name_that_they_logged_in_with(server):
    ada, token = open_viewer(server, wards=["C1"], sub="hospital|3f0c-uuid", name="Ada <Meier>")
    (alarm,) = alarm_of(server, "Eva Falk")
    ada.post(f"/ward/C1/alarms/{alarm.alarm_id}", data={"action": "acknowledged", "csrf_token": token})
    page = open_viewer(server, wards=["C1"])[0].get("/ward/C1").text
    assert '<p class="care"><span title="hospital|3f0c-uuid">Ada &lt;Meier&gt;</span> is taking care</p>' in page
    german = open_viewer(server, wards=["C1"], language="de")[0].get("/ward/C1").text
    assert "Ada &lt;Meier&gt; kümmert sich darum" in text_of(german)
    act = {"alarm_id": alarm.alarm_id, "reason": "false_alarm"}
    acted = server.caller(subject="https://platform.example/17").post("/v1/alarms/override", json=act)
    assert acted.status_code == 200, acted.text
    page = open_viewer(server, wards=["C1"])[0].get("/ward/C1").text
    assert "Overridden: https://platform.example/17, False alarm" in text_of(page)  # it has never logged in


def test_without_a_session_a_browser_is_led_to_the_login_and_back(server):
    stranger = open_viewer(server)[0]
    stranger.cookies.clear()
    answer = stranger.get("/ward/B4?visits=2")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fward%2FB4%3Fvisits%3D2")
    assert stranger.get("/ward/B4/live", headers={"Accept": "text/event-stream"}).status_code == 401


def test_a_viewer_without_the_scope_is_told_which_one_is_missing(server):
    viewer, _ = open_viewer(server, scopes=["risk:read"])
    page = viewer.get("/ward/B4")
    assert page.status_code == 403
    assert "ward:read" in page.text


def test_the_page_comes_with_a_strict_policy_and_names_no_patient_in_its_title(nurse):
    page = nurse.get("/ward/B4")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.search("<title>([^<]+)</title>", page.text)[1] == "Ward B4 - Vigil"


def test_files_of_the_pages_may_be_kept_and_others_are_not_there(nurse):
    paths = re.findall(r'(?:src|href)="(/static/[^"]+)"', nurse.get("/ward/B4").text)
    assert len(paths) >= 4
    for path in paths:
        answer = nurse.get(path)
        assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)
    assert nurse.get("/static/words.py").status_code == 404


def test_visits_show_who_is_left_out_and_what_that_costs(nurse):
    page = nurse.get("/ward/B4?visits=1").text
    assert page.index("Carl Dahl") < page.index("Left out") < page.index("Anna &lt;Berg&gt;")
    assert "Nobody is left out." in nurse.get("/ward/B4?visits=5").text
    assert nurse.get("/ward/B4?visits=-1").status_code == 422
    everyone = nurse.get("/ward/B4?visits=")  # a form that was left empty
    assert (everyone.status_code, names(everyone)) == (200, ["Carl Dahl", "Anna &lt;Berg&gt;"])
    assert "Nobody is left out." not in everyone.text


def waiting(name, band, benefit, alarm=None, news2=0):
    """Return a patient of a ward, as far as visits ask."""
    known = {"band": band, "expected_benefit": benefit, "alarm_status": alarm, "news2": news2, "news2_highest": news2}
    return SimpleNamespace(patient=SimpleNamespace(patient_id=name, probability=benefit, **known))


def test_visits_go_to_the_band_high_then_by_benefit_and_an_old_alarm_only_breaks_ties():
    entries = [
        waiting("medium, old alarm", "medium", 0.1, "open"),
        waiting("low, as likely", "low", 0.1, None),
        waiting("medium, likelier", "medium", 0.3, None),
        waiting("high, taken care of", "high", 0.5, "acknowledged"),
        waiting("high, no alarm", "high", 0.66),
        waiting("high, alarm", "high", 0.4, "open"),
        waiting("high by NEWS2 alone", "high", None, news2=9),
    ]
    seen, others, left_out = choose_visits(entries, 4)
    assert [one.patient.patient_id for one in seen] == [
        "high, alarm",
        "high by NEWS2 alone",
        "high, no alarm",
        "high, taken care of",
    ]
    assert [one.patient.patient_id for one in others] == ["medium, likelier", "medium, old alarm", "low, as likely"]
    assert (left_out.number, left_out.high, left_out.medium) == (3, 0, 2)
    assert left_out.expected == pytest.approx(0.5)


def first_news(server, scopes, visits=None):
    """Return the first news of a page of ward B4 that has seen no event."""
    caller = Caller("nurse", frozenset(scopes), frozenset({"B4"}), 0.0)
    viewer = Viewer(OpenSession(caller, None, "token"), Words("en"))

    async def first():
        return await anext(_live(server.components, viewer, "B4", 0, visits))

    return json.loads(asyncio.run(first()).partition("data: ")[2])


def test_news_tell_of_sounds_only_to_those_who_may_hear_of_alarms(server):
    assert first_news(server, {"ward:read", "alarms:read"})["sounds"] == 1
    assert first_news(server, {"ward:read"})["sounds"] == 0


def test_news_say_whom_the_visits_leave_out(server):
    news = first_news(server, {"ward:read", "alarms:read"}, visits=1)
    assert news["visits"]["place"] == 1
    assert "Left out: 1. Of these, 0.0 are expected to deteriorate." in news["visits"]["html"]
    assert "Carl Dahl" in news["rows"][news["order"][0]]
    assert first_news(server, {"ward:read"})["visits"] is None


def test_ages_say_since_when_so_that_they_grow_in_the_browser(nurse):
    page = nurse.get("/ward/B4").text
    now = pd.Timestamp.now("UTC")
    (at,) = re.findall(r'data-at="([^"]+)"', page)
    since = re.findall(r'data-since="([^"]+)" data-text="latest reading: #">latest reading: now<', page)
    assert len(since) == 2
    assert all(pd.Timedelta(0) < now - pd.Timestamp(time) < pd.Timedelta(minutes=15) for time in since)
    assert abs(now - pd.Timestamp(at)) < pd.Timedelta(seconds=10)
    assert len(re.findall(r'<span class="detail" data-since="[^"]+">', page)) == 8  # values of two patients


def first_events(client, path, number):
    """Return the first events of a stream."""
    events = []
    with client.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
                if len(events) == number:
                    return events
    return events


def alarm_of(server, name):
    subject = server.components.pseudonyms.subject_key(name)
    return server.components.ward_state.alarms(subject=subject)


def test_acting_needs_the_token_of_the_session_the_scope_and_a_reason(server):
    viewer, token = open_viewer(server, wards=["B4"])
    path = "/ward/B4/alarms/unknown"
    assert viewer.post(path, data={"action": "acknowledged"}).status_code == 403
    assert viewer.post(path, data={"action": "acknowledged", "csrf_token": token}).status_code == 404
    assert viewer.post(path, data={"action": "overridden", "csrf_token": token, "reason": "x"}).status_code == 422
    assert viewer.post(path, data={"action": "other", "csrf_token": token}).status_code == 422
    reader, token = open_viewer(server, scopes=["ward:read", "alarms:read"], wards=["B4"])
    assert reader.post(path, data={"action": "acknowledged", "csrf_token": token}).status_code == 403


def test_wards_lead_to_the_only_one_or_show_those_that_may_be_seen(server, nurse):
    assert nurse.get("/wards").headers["location"] == "/ward/B4"
    everywhere, _ = open_viewer(server)
    page = everywhere.get("/wards").text
    assert re.findall(r'<a href="/ward/([^"]+)"', page) == ["B4", "C1"]


def test_a_view_is_reported_without_naming_a_patient(nurse, caplog):
    with caplog.at_level("INFO", logger="vigil.audit"):
        nurse.get("/ward/B4")
    assert "nurse viewed ward: 2 patients" in caplog.text
    assert "Carl" not in caplog.text


def test_a_patient_who_should_have_been_measured_again_is_out_of_date(server):
    caller, now = server.caller(), pd.Timestamp.now("UTC")
    ages = {"sick": (SICK, 0.7), "sick too": (SICK, 0.3), "well": (WELL, 5.5), "well too": (WELL, 0.1)}
    registered = [{"patient_id": name, "ward": "D1", "age": 70} for name in ages]
    assert caller.post("/v1/patients", json={"patients": registered}).status_code == 200
    for name, (values, hours) in ages.items():
        caller.post("/v1/observations", json=observations_body(name, values, now - pd.Timedelta(hours=hours)))
    server.rescore()
    page = open_viewer(server, wards=["D1"])[0].get("/ward/D1").text
    rows = {names_of(row): "OUT OF DATE" in row for row in page.split('<li class="row ')[1:]}
    assert rows == {"sick": True, "sick too": False, "well": False, "well too": False}
    viewer = open_viewer(server, wards=["D1"])[0]
    for name, is_out_of_date in rows.items():  # their own pages say the same
        own = viewer.get(server.components.directory.page(server.components.pseudonyms.subject_key(name))).text
        assert ("OUT OF DATE" in own, ' stale">' in own) == (is_out_of_date, is_out_of_date), name


def names_of(row):
    return re.search(r'<a class="name"[^>]*>([^<]+)</a>', row)[1]
