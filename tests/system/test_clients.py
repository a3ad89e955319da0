"""The example clients as a developer runs them, against the small ward's server, over a connection that is cut on them."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support import ROOT
from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.pseudonyms import open_pseudonyms
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.records.journal import Journal
from vigil.serving.records.ward_state import WardState

CLIENTS = ROOT / "docs" / "clients"


@pytest.fixture(scope="module")
def home(served_home):
    return served_home


class Wire:
    """Between client and server: passes everything on, but loses the first answer to readings, and cuts a stream of events.

    Attributes:
        asked: the requests that passed, head and whatever came with it.
    """

    def __init__(self, server, cut_after):
        self._to = urlsplit(server).hostname, urlsplit(server).port
        self._cut_after = cut_after
        self._lost = self._cut = False
        self.asked = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._to)
            threading.Thread(target=self._there, args=(client, server), daemon=True).start()
            threading.Thread(target=self._back, args=(client, server), daemon=True).start()

    def _there(self, client, server):
        try:
            while data := client.recv(65536):
                if data.startswith((b"GET ", b"POST ")):
                    self.asked.append(data.decode())
                server.sendall(data)
        except OSError:
            pass
        _close(client, server)

    def _back(self, client, server):
        came = b""
        try:
            while data := server.recv(65536):
                came += data
                if b"/v1/observations" in self.asked[-1].encode() and not self._lost:
                    self._lost = True
                    break
                client.sendall(data)
                if self._cut_after in came and not self._cut:
                    self._cut = True
                    break
        except OSError:
            pass
        _close(client, server)


def _close(*connections):
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # the other thread's recv ends, too
        connection.close()


@pytest.fixture
def token(home):
    return create_local_token(home, subject="gateway", scopes=None, wards=None, lifetime=timedelta(hours=1))


def run(*command, **environment):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment or None)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def run_python(url, token, ward):
    arguments = ["--url", url, "--ward", ward, "--seconds", "40"]
    return run(sys.executable, str(CLIENTS / "vigil_client.py"), *arguments, **os.environ, VIGIL_TOKEN=token)


def patient_of(printed):
    return re.match(r"patient (\S+) in ward", printed).group(1)


def events_of(printed):
    return [(int(number), kind) for number, kind in re.findall(r"^event (\d+) (\w+) ", printed, re.MULTILINE)]


def kept(home, identifier):
    """Signals of the readings that the journal holds of a patient, by name."""
    pseudonym = open_pseudonyms(home).subject_key(identifier)
    with Journal(home).snapshot() as journal:
        return sorted(journal.observations(0, UNBOUNDED, pseudonym)["signal"])


WARD = "usual"  # a ward of the usual settings: what sounds there is NEWS2 of 7 or more
SENT = ["body_temperature", "heart_rate", "heart_rate", "respiratory_rate", "systolic_bp"]  # one heart rate came late


def test_the_client_walks_through_the_api(server, home, token):
    printed = run_python(server, token, WARD)
    who = patient_of(printed)
    assert "sent: accepted 4, duplicate 0, quarantined 1" in printed
    assert "implausible; value: expected 20 to 100 %" in printed
    assert "sent: accepted 0, duplicate 4, quarantined 0" in printed
    assert kept(home, who) == SENT  # once, although sent twice
    assert re.search(
        r"^risk as of 20\S+: high, decided by .*; NEWS2 9 to \d+ \(news2_7_or_more, news2_single_3\)$", printed, re.MULTILINE
    )
    assert re.search(rf"^ward: {who} .* alarm acknowledged$", printed, re.MULTILINE)
    alarm_id = re.search(r"^alarm (\S+) overridden by gateway: other: an example$", printed, re.MULTILINE).group(1)
    alarm = WardState(home).alarm(alarm_id)
    assert (alarm.status, alarm.acted_by, alarm.reason) == ("overridden", "gateway", "other: an example")
    assert (alarm.cause, alarm.reasons) == ("news2", ["news2_7_or_more", "news2_single_3"])
    assert [action.action for action in alarm.actions] == ["acknowledged", "overridden"]


def test_the_client_loses_nothing_where_answers_and_connections_are_lost(server, home, token):
    wire = Wire(server, cut_after=b"event: alarm\n")
    try:
        printed = run_python(wire.url, token, WARD)
    finally:
        wire.close()
    who = patient_of(printed)
    posted = [asked for asked in wire.asked if asked.startswith("POST /v1/observations ")]
    assert len(posted) == 4  # the first, it again, and two on purpose
    assert "sent: accepted 0, duplicate 4, quarantined 1" in printed  # the answer that said accepted was lost
    assert kept(home, who) == SENT
    followed = [asked for asked in wire.asked if asked.startswith("GET /v1/ward/events")]
    assert len(followed) == 2
    first, second = (int(re.search(r"last-event-id: (\d+)", asked, re.IGNORECASE).group(1)) for asked in followed)
    assert first == 0
    events = events_of(printed)
    assert second in [number for number, _ in events]  # where it had been
    happened = [(event.number, event.kind) for event in WardState(home).events(WARD, 0, 1000)]
    assert [happened[place] for place in range(len(events))] == events  # each of them, once, in order
    assert "alarm" in [kind for _, kind in events]
    assert events[-1][1] == "acknowledged"


def test_a_refusal_is_said_and_not_repeated(server, home):
    token = create_local_token(home, subject="nurse", scopes=["risk:read"], wards=None, lifetime=timedelta(hours=1))
    wire = Wire(server, cut_after=b"\0never")
    done = subprocess.run(
        [sys.executable, str(CLIENTS / "vigil_client.py"), "--url", wire.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "VIGIL_TOKEN": token},
    )
    wire.close()
    assert done.returncode == 1
    assert "403 out_of_scope: token: expected the scope patients:write" in done.stderr
    assert len(wire.asked) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not at hand")
def test_the_walkthrough_with_curl(server, home, token):
    given = {"URL": server, "VIGIL_TOKEN": token, "WARD": WARD, "PATH": "/usr/bin:/bin"}
    printed = run("bash", str(CLIENTS / "walkthrough.sh"), **given)
    parts = {title: said for title, _, said in (part.partition("\n") for part in printed.split("\n== ")[1:])}
    answers = {title: json.loads(said) for title, said in parts.items() if said.startswith("{")}
    by_start = {title.split(":")[0].split(",")[0]: answer for title, answer in answers.items()}
    who = by_start["A summary for a teleconsultation"]["patient_id"]
    assert by_start["Register the patient"] == {"registered": 1}
    sent = by_start["Send readings"]
    assert (sent["accepted"], sent["duplicate"], sent["quarantined"]) == (3, 0, 1)
    assert sent["results"][3]["reason"] == "implausible"
    again = by_start["Send the same messages again"]
    assert (again["accepted"], again["duplicate"]) == (0, 3)
    assert kept(home, who) == ["heart_rate", "respiratory_rate", "systolic_bp"]
    assert [bool(item["risk"]) for item in by_start["The risks of several patients"]["items"]] == [True, False]
    happened = parts["Past events of the ward, then new ones for five seconds"]
    assert happened.startswith(": listening")
    assert "\nevent: alarm\n" in happened
    assert "event:" not in parts["Events of the ward since the last one received"]
    assert by_start["Acknowledge the alarm"]["status"] == "acknowledged"
    overridden = by_start["Override the alarm"]
    assert (overridden["status"], overridden["reason"]) == ("overridden", "other: an example")
    assert WardState(home).alarm(overridden["alarm_id"]).status == "overridden"
    for line in (CLIENTS / "walkthrough.sh").read_text().splitlines():
        assert not re.search(r"--data '|--header \S*\$TOKEN", line)  # neither is in the list of processes


def test_the_gateway_of_an_invented_ward_sends_patients_to_look_at(server, token):
    arguments = ["--url", server, "--ward", "invented", "--minutes", "0"]
    printed = run(sys.executable, str(CLIENTS / "ward_gateway.py"), *arguments, **os.environ, VIGIL_TOKEN=token)
    assert "8 patients in ward invented; invented bed 3 will deteriorate" in printed
    headers = {"Authorization": f"Bearer {token}"}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = httpx.get(f"{server}/v1/ward/patients?ward=invented", headers=headers, timeout=30).json()
        if len(answer["patients"]) == 8 and all(one["basis"] == "model" for one in answer["patients"]):
            break
        time.sleep(0.5)
    assert {patient["patient_id"] for patient in answer["patients"]} == {f"invented bed {number}" for number in range(1, 9)}
    assert all(patient["basis"] == "model" for patient in answer["patients"])
