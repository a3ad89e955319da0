"""Sessions: they end by themselves, only pages of this server act in them, and they open no other door."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Annotated

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from tests.integration.serving.login.conftest import URL, new_browser, return_from, session_of
from tests.integration.serving.test_migrations import upgrade_to
from vigil.pipelines.home import Home
from vigil.pipelines.operations.backup import backup
from vigil.pipelines.operations.retention import _delete_connections
from vigil.serving.api.problems import on_problem
from vigil.serving.auth.tokens import Caller
from vigil.serving.login.dependencies import (
    LoginRequiredError,
    OpenSession,
    caller_of_session,
    on_login_required,
    watch_session,
)
from vigil.serving.records import connection_tables
from vigil.serving.records.database import open_database, pending_migrations
from vigil.serving.records.people import People
from vigil.serving.records.sessions import Session, Sessions
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.records.used_assertions import UsedAssertions

MINUTE = 60_000_000
IDLE = 15 * MINUTE


def session(**changes):
    fields = {
        "sub": "ada",
        "name": "Ada",
        "scopes": ["risk:read"],
        "wards": ["B4"],
        "context": {},
        "created_at": 0,
        "used_at": 0,
    }
    return Session(**{**fields, "expires_at": 12 * 60 * MINUTE, **changes})


def ends_at(found):
    return min(found.expires_at, found.used_at + IDLE)


@pytest.fixture
def sessions(tmp_path):
    return Sessions(open_database(tmp_path, connection_tables.SCHEMA))


def test_session_is_found_by_its_name_only(sessions, tmp_path):
    name = sessions.create(session(wards=None, context={"patient": "key"}))
    assert len(name) >= 43  # 256 bits
    assert sessions.find(name, MINUTE, ends_at, is_use=False) == session(wards=None, context={"patient": "key"})
    assert sessions.find(name[:-1], MINUTE, ends_at, is_use=False) is None
    assert name.encode() not in (tmp_path / "connections.db").read_bytes() + (tmp_path / "connections.db-wal").read_bytes()


def test_session_ends_after_a_time_without_a_use(sessions):
    name = sessions.create(session())
    for minute in (14, 28, 42):
        assert sessions.find(name, minute * MINUTE, ends_at, is_use=True).used_at == minute * MINUTE
    assert sessions.find(name, 57 * MINUTE, ends_at, is_use=True) is None
    assert sessions.find(name, 50 * MINUTE, ends_at, is_use=True) is None  # also where the clock is set back


def test_page_that_asks_by_itself_does_not_extend_a_session(sessions):
    name = sessions.create(session())
    for minute in range(1, 15):
        assert sessions.find(name, minute * MINUTE, ends_at, is_use=False) is not None
    assert sessions.find(name, 15 * MINUTE, ends_at, is_use=False) is None


def test_session_ends_at_its_expiry_however_much_it_is_used(sessions):
    name = sessions.create(session(expires_at=30 * MINUTE))
    for minute in (10, 20, 29):
        assert sessions.find(name, minute * MINUTE, ends_at, is_use=True) is not None
    assert sessions.find(name, 30 * MINUTE, ends_at, is_use=True) is None


def test_session_is_known_to_other_processes_and_after_a_restart(sessions, tmp_path):
    name = sessions.create(session())
    others = Sessions(open_database(tmp_path, connection_tables.SCHEMA))
    assert others.find(name, MINUTE, ends_at, is_use=True) is not None
    others.end(name)
    assert sessions.find(name, MINUTE, ends_at, is_use=True) is None


def test_expired_sessions_are_deleted(sessions):
    sessions.create(session(expires_at=MINUTE))
    sessions.create(session(expires_at=3 * MINUTE))
    assert sessions.delete_expired(2 * MINUTE) == 1
    name = sessions.create(session(created_at=4 * MINUTE, used_at=4 * MINUTE))  # deletes them, too
    assert sessions.delete_expired(4 * MINUTE) == 0
    sessions.end_all()
    assert sessions.find(name, 5 * MINUTE, ends_at, is_use=True) is None


def test_reading_goes_on_where_the_use_cannot_be_written(sessions, tmp_path):
    name = sessions.create(session())
    with closing(sqlite3.connect(tmp_path / "connections.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert sessions.find(name, MINUTE, ends_at, is_use=True) == session()


def test_backup_holds_no_session(sessions, tmp_path):
    name = sessions.create(session())
    used = UsedAssertions(open_database(tmp_path, connection_tables.SCHEMA))
    assert used.use("ehr", "jti", 2_000_000_000, 1_900_000_000)
    manifest = backup(Home(tmp_path), tmp_path / "copy")
    assert [file for file in manifest.files if file.startswith("connections")] == ["connections.db"]
    restored = open_database(tmp_path / "copy", connection_tables.SCHEMA)
    assert Sessions(restored).find(name, MINUTE, ends_at, is_use=False) is None
    assert not UsedAssertions(restored).use("ehr", "jti", 2_000_000_000, 1_900_000_000)
    assert sessions.find(name, MINUTE, ends_at, is_use=False) is not None


def test_retention_deletes_what_has_expired(sessions, tmp_path):
    now = microsecond(present())
    name = sessions.create(session(created_at=now, used_at=now, expires_at=now + 60 * MINUTE))
    sessions.create(session(expires_at=MINUTE))
    assert _delete_connections(tmp_path, present())["connections.db sessions"] == 1
    assert sessions.find(name, now + MINUTE, ends_at, is_use=False) is not None


def test_name_of_a_person_is_remembered_as_they_logged_in_last(sessions, tmp_path):
    people = People(open_database(tmp_path, connection_tables.SCHEMA))
    sessions.create(session())
    sessions.create(session(name="Ada Meier-Kunz", created_at=MINUTE))
    sessions.create(session(sub="eva", name="Eva"))
    assert people.names(["ada", "eva", "gateway"]) == {"ada": "Ada Meier-Kunz", "eva": "Eva"}
    sessions.end_all()
    assert people.names(["ada"]) == {"ada": "Ada Meier-Kunz"}
    assert people.names([]) == {}


def test_backup_keeps_the_names_of_people_since_its_alarms_are_of_them(sessions, tmp_path):
    sessions.create(session())
    backup(Home(tmp_path), tmp_path / "copy")
    assert People(open_database(tmp_path / "copy", connection_tables.SCHEMA)).names(["ada"]) == {"ada": "Ada"}


def test_retention_forgets_people_who_do_not_come_any_more(sessions, tmp_path):
    now, day = present(), 24 * 60 * MINUTE
    for sub, days, lasts in (("gone", 5, 1), ("screen", 5, 30), ("here", 3, 1)):
        at = microsecond(now) - days * day
        sessions.create(session(sub=sub, created_at=at, used_at=at, expires_at=at + lasts * day))
    assert _delete_connections(tmp_path, now - timedelta(days=4))["connections.db people"] == 1
    people = People(open_database(tmp_path, connection_tables.SCHEMA))
    assert people.names(["gone", "screen", "here"]).keys() == {"screen", "here"}


def test_home_of_the_version_before_names_has_those_of_its_sessions(tmp_path):
    upgrade_to(tmp_path, connection_tables.SCHEMA, "0006")
    row = ("digest", "ada", "Ada", "[]", "null", "{}", 7, 7, 9)
    with closing(sqlite3.connect(tmp_path / "connections.db")) as connection, connection:
        connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    assert pending_migrations(tmp_path, connection_tables.SCHEMA) == [
        "connections.db: remember the names of people who log in."
    ]
    assert People(open_database(tmp_path, connection_tables.SCHEMA)).names(["ada"]) == {"ada": "Ada"}


@pytest.mark.usefixtures("server")
def test_no_log_holds_the_name_of_a_person(browser, ehr, caplog):
    ehr.claims = {"name": "Ada Canary-Meier"}
    with caplog.at_level("DEBUG"):
        assert return_from(browser, ehr).status_code == 303
        found = session_of(browser).json()
        assert "Ada Canary-Meier" in browser.get("/ward/B4").text
        browser.post("/login/logout", data={"csrf_token": found["csrf_token"]})
    assert found["name"] == "Ada Canary-Meier"
    assert "viewed ward" in caplog.text
    assert "Canary" not in caplog.text


def test_pages_of_a_login_are_in_the_language_of_the_browser(server, ehr):
    german = new_browser(server)
    german.headers["Accept-Language"] = "de-AT, en;q=0.5"
    refused = german.get("/login?next=https://evil.example/")
    assert refused.status_code == 400
    assert '<html lang="de">' in refused.text
    assert "<h1>Nicht angemeldet</h1>" in refused.text
    assert "Melden Sie sich erneut an." in refused.text
    assert '<p lang="en"><small>next: expected a path of this server' in refused.text
    assert '<a href="/login">Erneut anmelden</a>' in refused.text
    ehr.answer = {"patient": "nobody"}
    assert "<h1>Unbekannter Patient</h1>" in return_from(german, ehr).text
    left = german.post("/login/logout", data={"csrf_token": session_of(german).json()["csrf_token"]})
    assert "<h1>Abgemeldet</h1>" in left.text
    assert "Sie sind von Vigil abgemeldet." in left.text
    english = new_browser(server).get("/login?next=https://evil.example/").text
    assert '<html lang="en">' in english
    assert "<h1>Not logged in</h1>" in english


def test_choice_of_issuers_and_their_absence_are_in_the_language_of_the_browser(server, ehr, settings):
    german = new_browser(server)
    german.headers["Accept-Language"] = "de"
    try:
        (server.home / "login.toml").write_text(f'{settings}\n[issuers.other]\nopenid = "{ehr.url}"\nclient_id = "vigil"\n')
        assert "<h1>Anmelden</h1>" in german.get("/login").text
        (server.home / "login.toml").write_text("idle_minutes = 15\n")
        assert "Hier ist kein Anmeldedienst verbunden." in german.get("/login").text
    finally:
        (server.home / "login.toml").write_text(settings)


def test_home_of_an_earlier_version_gets_the_table(sessions, tmp_path):
    """Its first revision had the used assertions only."""
    (tmp_path / "former").mkdir()
    with closing(sqlite3.connect(tmp_path / "former" / "connections.db")) as connection, connection:
        connection.execute("CREATE TABLE used_assertions (digest BLOB NOT NULL PRIMARY KEY, until BIGINT NOT NULL)")
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    pending = pending_migrations(tmp_path / "former", connection_tables.SCHEMA)
    assert "connections.db: create the sessions of people who have logged in." in pending
    migrated = open_database(tmp_path / "former", connection_tables.SCHEMA)
    columns = [sa.inspect(engine).get_columns("sessions") for engine in (migrated, sessions._engine)]
    assert [str(column) for column in columns[0]] == [str(column) for column in columns[1]]
    assert Sessions(migrated).create(session())


@pytest.fixture
def logged_in(browser, ehr):
    assert return_from(browser, ehr).status_code == 303
    return browser


def test_session_opens_no_route_of_the_api_or_of_fhir(logged_in):
    for path in ("/v1/alarms?ward=B4", "/v1/ward/patients?ward=B4", "/fhir/RiskAssessment?patient=x"):
        assert logged_in.get(path).status_code == 401
    assert logged_in.post("/v1/risk", json={"patient_id": "sick"}).status_code == 401


def test_token_opens_no_session(server):
    caller = server.caller()
    assert caller.get("/login/session").json()["code"] == "session_missing"


def test_logout_needs_the_token_of_the_session(logged_in, server, ehr):
    other = new_browser(server)
    return_from(other, ehr)
    strange = session_of(other).json()["csrf_token"]
    for more in ({}, {"data": {"csrf_token": strange}}, {"headers": {"X-CSRF-Token": ""}}, {"json": {"csrf_token": "x"}}):
        answer = logged_in.post("/login/logout", **more)
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_token_missing")
    own = session_of(logged_in).json()["csrf_token"]
    assert logged_in.cookies["__Host-vigil_session"] not in own
    answer = logged_in.post("/login/logout", data={"csrf_token": own})
    assert (answer.status_code, "You are logged out" in answer.text) == (200, True)
    assert '__Host-vigil_session=""' in answer.headers["set-cookie"]
    assert session_of(logged_in).status_code == 401
    assert session_of(other).status_code == 200
    assert logged_in.get("/login/logout").status_code == 405


def test_logout_ends_the_session_for_every_copy_of_the_cookie(logged_in):
    copy = logged_in.cookies["__Host-vigil_session"]
    logged_in.post("/login/logout", headers={"X-CSRF-Token": session_of(logged_in).json()["csrf_token"]})
    logged_in.cookies.clear()
    headers = {"Cookie": f"__Host-vigil_session={copy}", "Accept": "application/json"}
    assert logged_in.get("/login/session", headers=headers).status_code == 401


@pytest.fixture
def pages(server):
    """An application with pages, as they use sessions."""
    app = FastAPI(exception_handlers={LoginRequiredError: on_login_required, 403: on_problem})
    app.state.components = server.components

    @app.api_route("/page", methods=["GET", "POST"])
    async def page(caller: Annotated[Caller, Depends(caller_of_session)]):
        return {"sub": caller.sub, "wards": sorted(caller.wards), "expires_at": caller.expires_at}

    @app.get("/news")
    async def news(found: Annotated[OpenSession, Depends(watch_session)]):
        return found.caller.expires_at

    return TestClient(app, base_url=URL, follow_redirects=False)


def test_page_gets_the_caller_of_its_session(pages, logged_in):
    cookie = {"Cookie": f"__Host-vigil_session={logged_in.cookies['__Host-vigil_session']}"}
    answer = pages.get("/page", headers=cookie)
    assert answer.status_code == 200
    assert answer.json()["wards"] == ["B4"]
    assert pages.post("/page", headers=cookie).status_code == 403
    token = session_of(logged_in).json()["csrf_token"]
    assert pages.post("/page", headers=cookie, data={"csrf_token": token}).status_code == 200
    assert pages.post("/page", headers={**cookie, "X-CSRF-Token": token}).status_code == 200
    assert pages.get("/news", headers=cookie).json() == answer.json()["expires_at"]  # a stream ends with the session


def test_page_without_a_session_leads_to_the_login_and_back(pages):
    answer = pages.get("/page?sort=risk&ward=B%204", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fpage%3Fsort%3Drisk%26ward%3DB%25204")
    assert pages.get("/page", headers={"Accept": "application/json"}).json()["code"] == "session_missing"
    assert pages.post("/page", headers={"Accept": "text/html"}).status_code == 401


def test_session_ends_by_the_settings_of_now(logged_in, server, settings):
    with closing(sqlite3.connect(server.home / "connections.db")) as connection, connection:
        connection.execute(f"UPDATE sessions SET used_at = used_at - {10 * MINUTE}")
    assert session_of(logged_in).status_code == 200
    (server.home / "login.toml").write_text(settings.replace("idle_minutes = 15", "idle_minutes = 5"))
    try:
        assert session_of(logged_in).status_code == 401
    finally:
        (server.home / "login.toml").write_text(settings)


@pytest.fixture
def screen(browser, ehr):
    """The browser of a screen on a wall. That its account has every role of the record system gives it nothing."""
    ehr.claims = {"sub": "wall-b4", "fhirUser": None, "roles": ["intensivist"], "wards": ["ICU"]}
    assert return_from(browser, ehr).status_code == 303
    return browser


def let_pass(server, minutes):
    with closing(sqlite3.connect(server.home / "connections.db")) as connection, connection:
        times = ", ".join(f"{name} = {name} - {minutes * MINUTE}" for name in ("created_at", "used_at", "expires_at"))
        connection.execute(f"UPDATE sessions SET {times}")


def test_screen_on_a_wall_shows_its_wards_for_days_and_changes_nothing(screen, server):
    found = session_of(screen).json()
    assert (found["scopes"], found["wards"]) == (["alarms:read", "ward:read"], ["B4"])
    day = 24 * 60
    for _ in range(29):
        let_pass(server, day)
        assert session_of(screen).status_code == 200
    page = screen.get("/ward/B4")
    assert page.status_code == 200
    assert 'name="action"' not in page.text
    assert "/patient/" not in page.text
    assert screen.get("/ward/ICU").status_code == 404
    let_pass(server, day)
    assert session_of(screen).status_code == 401


def test_browser_of_a_screen_keeps_its_session_when_it_starts_again_and_that_of_a_person_does_not(browser, ehr):
    def cookie(answer):
        (own,) = [header for header in answer.headers.get_list("set-cookie") if header.startswith("__Host-vigil_session=")]
        return own

    assert "Max-Age" not in cookie(return_from(browser, ehr))
    ehr.claims = {"sub": "wall-b4", "fhirUser": None}
    assert "Max-Age=2592000;" in cookie(return_from(browser, ehr))  # 30 days


def test_page_that_logged_off_by_itself_waits_for_a_click(browser, ehr):
    answer = browser.get("/login/ended?next=/ward/B4?visits=2")
    assert answer.status_code == 200
    assert "Logged off" in answer.text
    assert 'href="/login?next=%2Fward%2FB4%3Fvisits%3D2"' in answer.text
    assert "refresh" not in answer.text
    assert browser.get("/login/ended").text.count('href="/login?next=%2F"') == 1
    for path in ("https://evil.example/", "//evil.example", "javascript:alert(1)"):
        refused = browser.get("/login/ended", params={"next": path})
        assert refused.status_code == 400
        assert "evil" not in refused.text
    assert browser.get("/login?next=/ward/B4").headers["location"].startswith(ehr.url)  # whoever opens a page goes straight on


@pytest.mark.parametrize("written", ['wards = ["B4", "ICU"]', None])
def test_screen_is_logged_off_once_it_is_one_no_longer(screen, server, settings, written):
    entry = '[issuers.ehr.screens.wall-b4]\nwards = ["B4"]\n'
    assert entry in settings
    let_pass(server, 13 * 60)  # longer than a person stays logged in
    changed = "" if written is None else entry.replace('wards = ["B4"]', written)
    (server.home / "login.toml").write_text(settings.replace(entry, changed))
    try:
        assert session_of(screen).status_code == 401
    finally:
        (server.home / "login.toml").write_text(settings)


@pytest.mark.usefixtures("logged_in")
def test_no_table_names_a_patient_or_holds_a_token(server):
    with closing(sqlite3.connect(server.home / "connections.db")) as connection:
        rows = json.dumps(connection.execute("SELECT sub, scopes, wards, context FROM sessions").fetchall())
    assert "Practitioner/17" in rows
    assert "sick" not in rows
    assert "secret-access-token" not in rows
