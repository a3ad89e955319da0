"""The attacks of a security review, repeated on a server. docs/security.md holds the table of their results.

Short forms run with the tests. Attacks that need more than a server are in the tests of their module: models that run code,
backups, clocks, keys and sources.
"""

import contextlib
import os
import socket
import stat
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil

from tests.soak.home import TASK
from tests.soak.invariants import rows
from vigil.pipelines.home import Home
from vigil.pipelines.operations.server import start_server, wait_for
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.http_limits import HEAD_TIMEOUT_SECONDS, MAX_HEAD_BYTES
from vigil.serving.records import journal
from vigil.serving.records.journal_tables import OBSERVATIONS

_MAX_SENT = 64 * MAX_HEAD_BYTES  # bytes of a head; a server that accepts so many has no limit


@dataclass(frozen=True)
class Outcome:
    """The attempt and the result of an attack, and whether the server held."""

    attempt: str
    result: str
    held: bool


class Attacked:
    """A server under attack, with clients that have a token and clients that have none."""

    def __init__(self, url: str, home: Path, supervisor: int) -> None:
        self.url, self.home, self.supervisor = url, home, supervisor
        self.host, port = url.removeprefix("http://").split(":")
        self.port = int(port)

    @property
    def processes(self) -> list[psutil.Process]:
        supervisor = psutil.Process(self.supervisor)
        return [supervisor, *supervisor.children(recursive=True)]

    @property
    def api(self) -> psutil.Process:
        return next(process for process in self.processes if "--backlog" in process.cmdline())

    def memory(self) -> float:
        """Return the resident memory of the API process, in MB."""
        return self.api.memory_info().rss / 1e6

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=5)

    def caller(self, wards: list[str] | None = None, seconds: int = 3_600, subject: str = "attacker") -> httpx.Client:
        token = create_local_token(self.home, subject=subject, scopes=None, wards=wards, lifetime=timedelta(seconds=seconds))
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def time_livez(self) -> float:
        """Return the seconds that ``/livez`` takes for a client without a token."""
        began = time.monotonic()
        httpx.get(f"{self.url}/livez", timeout=10).raise_for_status()
        return time.monotonic() - began


@contextlib.contextmanager
def attacked(home: Path, probe: str = "/readyz") -> Iterator[Attacked]:
    """Run a server of a home, and yield it once it answers at the path ``probe``."""
    url, server = start_server(Home(home), TASK)
    try:
        wait_for(f"{url}{probe}", server)
        yield Attacked(url, home, server.pid)
    finally:
        server.terminate()
        server.wait(timeout=30)


def other_sockets(server: Attacked, _size: float) -> Outcome:
    """Look for sockets at which another account of the machine could give commands to the supervisor."""
    listening = [
        (connection.laddr.ip, connection.laddr.port)
        for process in server.processes
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    paths = {
        Path(connection.laddr).parent
        for process in server.processes
        for connection in process.net_connections(kind="unix")
        if connection.laddr and connection.laddr.startswith("/")
    }
    open_to_others = [path for path in paths if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    ports = len(set(listening))
    result = f"{ports} listening port; {len(paths)} folders of UNIX sockets, {len(open_to_others)} of them open to others"
    return Outcome("listening sockets of all processes of the server", result, ports == 1 and not open_to_others)


def endless_headers(server: Attacked, _size: float) -> Outcome:
    """Send headers without end, from a connection without a token."""
    before, answers = server.memory(), []
    heads = {
        "lines": (b"GET /livez HTTP/1.1\r\n", b"x: " + b"a" * 1_000 + b"\r\n"),
        "one value": (b"GET /livez HTTP/1.1\r\nx: ", b"a" * 1_000),
        "an address": (b"GET /", b"a" * 1_000),
        "empty lines": (b"GET /livez HTTP/1.1\r\n", b"a:b\r\n" * 200),
    }
    for begin, more in heads.values():
        with server.connect() as connection, contextlib.suppress(OSError):
            connection.sendall(begin)
            sent = 0
            connection.settimeout(0.5)
            while sent < _MAX_SENT:
                connection.sendall(more * (MAX_HEAD_BYTES // len(more) + 1))
                sent += MAX_HEAD_BYTES
                with contextlib.suppress(TimeoutError):  # a busy server gets the time to read what the kernel holds
                    if not connection.recv(65_536):
                        break
        answers.append(sent)
    grown = max(0.0, server.memory() - before)
    livez = 1e3 * server.time_livez()
    result = f"closed after at most {max(answers) / 1e3:,.0f} KB; memory +{grown:.0f} MB; /livez in {livez:.0f} ms"
    return Outcome(f"{', '.join(heads)} without end", result, max(answers) < _MAX_SENT and grown < 50)


def silent_connections(server: Attacked, size: float) -> Outcome:
    """Open connections that send nothing or half a request."""
    number = max(600, round(2_000 * size))
    connections, waits = [], []
    try:
        for n in range(number):
            connections.append(server.connect())
            if n % 2:
                connections[-1].sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        waits = [server.time_livez() for _ in range(5)]
        time.sleep(HEAD_TIMEOUT_SECONDS + 2)
        open_still = sum(_is_open(connection) for connection in connections)
    finally:
        for connection in connections:
            connection.close()
    seconds = HEAD_TIMEOUT_SECONDS + 2
    result = f"other clients wait {max(waits) * 1e3:.0f} ms at most; {open_still} connections open after {seconds:.0f} s"
    return Outcome(f"{number:,} silent connections", result, max(waits) < 2 and not open_still)


def backlog_newest_first(server: Attacked, size: float) -> Outcome:
    """Send the backlog of one patient from a gateway, newest reading first."""
    number, a_request = max(5_000, round(100_000 * size)), 5_000
    now, waits = datetime.now(UTC), []
    with server.caller() as gateway, server.caller(subject="other") as other:
        ward = {"ward": "attacked"}
        both = [{"patient_id": name, **ward} for name in ("long", "short")]
        gateway.post("/v1/patients", json={"patients": both}).raise_for_status()
        for first in range(0, number, a_request):
            batch = [
                _reading("long", f"l{n}", "heart_rate", 60 + n % 40, now - timedelta(seconds=n))
                for n in range(first, first + a_request)
            ]
            gateway.post("/v1/observations", json={"observations": batch}).raise_for_status()
            waits.append(_seconds_to_risk(other, "short"))
        began = time.monotonic()
        answer = gateway.post("/v1/risk", json={"patient_id": "long"})
        took = time.monotonic() - began
    result = (
        f"another patient's reading is scored after at most {max(waits):.1f} s, "
        f"{statistics.median(waits):.1f} s in the median; "
        f"the risk of the patient with the backlog: {answer.status_code} in {took:.1f} s"
    )
    attempt = f"{number:,} readings of one patient, newest first, in {number // a_request} requests"
    return Outcome(attempt, result, max(waits) < 10 and answer.status_code == 200)


def mapped_files(server: Attacked, _size: float) -> Outcome:
    """Look for files that are mapped into memory. On a full disk the kernel kills a process that writes to such a file."""
    mapped = {
        Path(region.path).name
        for process in server.processes[1:]
        for region in process.memory_maps()
        if region.path.startswith(str(server.home)) and not region.path.endswith(("-shm", ".so"))
    }
    result = "only those of SQLite, which reserves disk space before it maps" if not mapped else ", ".join(sorted(mapped))
    return Outcome("files of the home that are mapped into memory", result, not mapped)


def full_disk(_server: Attacked, _size: float) -> Outcome:
    """Send readings until the disk of another home is full. This needs root, to mount a small disk."""
    attempt = "a home on a disk of 32 MB, readings until it is full"
    if os.geteuid() != 0:
        return Outcome(attempt, "not attempted: only root can mount a small disk", held=True)
    with tempfile.TemporaryDirectory(prefix="vigil-full-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs", folder]
        if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            return Outcome(attempt, "not attempted: no disk can be mounted on this machine", held=True)
        try:
            return _fill(Path(folder) / "home", attempt)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def _fill(home: Path, attempt: str) -> Outcome:
    home.mkdir()
    ballast = home.parent / "ballast"
    ballast.write_bytes(bytes(12_000_000))
    with attacked(home, "/livez") as server, server.caller() as gateway:
        process, statuses, acknowledged = server.api.pid, [], 0
        for first in range(0, 200_000, 500):
            now = datetime.now(UTC)
            batch = [
                _reading(f"p{n % 50}", f"f{first + n}", "heart_rate", 50 + n % 100, now - timedelta(seconds=first + n))
                for n in range(500)
            ]
            answer = gateway.post("/v1/observations", json={"observations": batch})
            acknowledged += answer.json().get("accepted", 0)
            statuses.append(answer.status_code)
            if statuses[-3:] == [503] * 3:
                break
        answers = [gateway.post("/v1/risk", json={"patient_id": "p1"}).status_code for _ in range(5)]
        answers += [httpx.get(f"{server.url}{path}", timeout=10).status_code for path in ("/livez", "/metrics") * 5]
        answers.append(gateway.get("/v1/ward/patients", params={"ward": "A"}).status_code)
        is_same_process = server.api.pid == process
        ballast.unlink()
        began, back = time.monotonic(), 503
        while back != 200 and time.monotonic() - began < 30:
            time.sleep(0.2)
            body = {"observations": [_reading("p1", f"g{time.time_ns()}", "heart_rate", 70, datetime.now(UTC))]}
            back = gateway.post("/v1/observations", json=body).status_code
        took = time.monotonic() - began
        stored = len(rows(home, journal.SCHEMA, OBSERVATIONS)[0])
    counts = ", ".join(f"{answers.count(status)} x {status}" for status in sorted(set(answers)))
    result = (
        f"{acknowledged:,} readings acknowledged, {stored - (back == 200):,} stored, then 503; "
        f"meanwhile risk, list and health {counts}; {'the same process' if is_same_process else 'ANOTHER PROCESS'}; "
        f"accepts readings again {took:.1f} s after space was freed"
    )
    return Outcome(attempt, result, is_same_process and back == 200 and stored >= acknowledged and set(answers) <= {200, 503})


def two_wards_at_once(server: Attacked, size: float) -> Outcome:
    """Let two wards register the same new patient at the same time."""
    pairs, wrong = max(5, round(60 * size)), 0

    def register(ward: str, name: str) -> int:
        with server.caller(
            [ward], subject=f"{ward} {name}"
        ) as caller:  # a new caller each time, since the refusals of one caller are limited
            return caller.post("/v1/patients", json={"patients": [{"patient_id": name, "ward": ward}]}).status_code

    with ThreadPoolExecutor(2) as threads:
        for n in range(pairs):
            name = f"pair-{n}-{time.time_ns()}"
            requests = [threads.submit(register, ward, name) for ward in ("A", "B")]
            wrong += sorted(request.result() for request in requests) != [200, 403]
    return Outcome(f"{pairs} pairs of requests", f"{wrong} pairs without exactly one success", wrong == 0)


def patients_of_other_wards(server: Attacked, _size: float) -> Outcome:
    """Let a caller of one ward try to learn which patients belong to another ward."""
    with server.caller() as unrestricted, server.caller(["B"], subject=f"curious-{time.time_ns()}") as curious:
        unrestricted.post("/v1/patients", json={"patients": [{"patient_id": "of-a", "ward": "A"}]}).raise_for_status()
        now = datetime.now(UTC)
        sent = {"observations": [_reading("of-a", f"w{time.time_ns()}", "heart_rate", 70, now)]}
        unrestricted.post("/v1/observations", json=sent).raise_for_status()
        answers = []
        for position in range(40):
            patients = [{"patient_id": f"unknown-{n}", "ward": "B"} for n in range(20)]
            patients[position % 20]["patient_id"] = "of-a"
            answer = curious.post("/v1/patients", json={"patients": patients})
            answers.append((answer.status_code, answer.text))
    texts = {text for status, text in answers if status == 403}
    limited = sum(status == 429 for status, _ in answers)
    result = f"{len(texts)} different refusals, none names a patient; 429 from the {len(answers) - limited + 1}th request on"
    return Outcome("40 requests of 20 candidates, one of them in another ward", result, len(texts) == 1 and limited > 0)


def stream_after_expiry(server: Attacked, _size: float) -> Outcome:
    """Follow a stream beyond the expiry of its token while events arrive."""
    seconds = 4
    with server.caller() as gateway, server.caller(seconds=seconds, subject="follower") as follower:
        gateway.post("/v1/patients", json={"patients": [{"patient_id": "busy", "ward": "busy"}]}).raise_for_status()
        stop, began, last = threading.Event(), time.monotonic(), 0.0

        def send() -> None:
            n = 0
            while not stop.is_set():
                n += 1
                value = 60 if n % 2 else 150
                body = {"observations": [_reading("busy", f"b{time.time_ns()}", "heart_rate", value, datetime.now(UTC))]}
                with contextlib.suppress(httpx.HTTPError):
                    gateway.post("/v1/observations", json=body)
                time.sleep(0.1)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            with follower.stream("GET", "/v1/ward/events", params={"ward": "busy"}) as stream:
                for _ in stream.iter_lines():
                    last = time.monotonic() - began
                    if last > seconds + 15:
                        break
        except httpx.HTTPError:
            pass
        ended = time.monotonic() - began
        stop.set()
        sender.join()
    result = f"last line {last - seconds:+.1f} s after expiry, closed {ended - seconds:+.1f} s after expiry"
    return Outcome(f"a token of {seconds} s, and an event every 0.1 s", result, ended < seconds + 3)


def ready_flood(server: Attacked, size: float) -> Outcome:
    """Request readiness and metrics over many connections without a token."""
    seconds = max(3.0, 12 * size)
    statuses: list[int] = []
    end = time.monotonic() + seconds

    def ask(path: str) -> None:
        with httpx.Client(timeout=15) as client:
            while time.monotonic() < end:
                statuses.append(client.get(f"{server.url}{path}").status_code)

    waits = []
    with ThreadPoolExecutor(41) as threads, server.caller(subject="gateway") as gateway:
        for n in range(40):
            threads.submit(ask, "/readyz" if n % 2 else "/metrics")
        while time.monotonic() < end:
            waits.append(_time_reading(gateway, "calm"))
    counts = ", ".join(f"{statuses.count(status):,} x {status}" for status in sorted(set(statuses)))
    result = f"{counts}; a gateway meanwhile {statistics.median(waits) * 1e3:.0f} ms"
    return Outcome(f"40 connections for {seconds:.0f} s", result, set(statuses) == {200})


def expensive_requests(server: Attacked, size: float) -> Outcome:
    """Request 500 risks at a time as one caller over many connections, while another caller sends readings."""
    seconds = max(3.0, 12 * size)
    body = {"patient_ids": ["sim-000017"] * 500}
    end, statuses = time.monotonic() + seconds, []

    def ask() -> None:
        with server.caller(subject="greedy") as client:
            while time.monotonic() < end:
                statuses.append(client.post("/v1/risks", json=body).status_code)

    before = _size_of(server.home / "predictions.db")
    waits = []
    with ThreadPoolExecutor(40) as threads, server.caller(subject="gateway") as gateway:
        for _ in range(40):
            threads.submit(ask)
        while time.monotonic() < end:
            waits.append(_time_reading(gateway, "calm"))
    grown = (_size_of(server.home / "predictions.db") - before) / max(1, statuses.count(200)) / 1e3
    counts = ", ".join(f"{statuses.count(status):,} x {status}" for status in sorted(set(statuses)))
    result = f"{counts}; {grown:.1f} KB of log per answer; a gateway meanwhile {statistics.median(waits) * 1e3:.0f} ms"
    attempt = f"40 connections of one caller for {seconds:.0f} s, each the same patient 500 times"
    # 429 is for one who asks for too much; a slow machine has too much to do for anyone, and says so by 503.
    return Outcome(attempt, result, set(statuses) <= {200, 429, 503} and statuses.count(200) > 0 and grown < 100)


ATTACKS: dict[str, Callable[[Attacked, float], Outcome]] = {
    "H1, commands to the supervisor": other_sockets,
    "H2, headers without end": endless_headers,
    "H3, silent connections": silent_connections,
    "H4, backlog of one patient": backlog_newest_first,
    "H5, mapped files": mapped_files,
    "H5, a full disk": full_disk,
    "M1, two wards at once": two_wards_at_once,
    "M2, patients of other wards": patients_of_other_wards,
    "M3, streams beyond their token": stream_after_expiry,
    "M8 and L5, expensive requests of one caller": expensive_requests,
    "L4, health requests without a token": ready_flood,
}


def table(outcomes: dict[str, Outcome]) -> str:
    """Return the outcomes as a Markdown table."""
    held = {True: "held", False: "**not held**"}
    rows = [f"| {name} | {outcome.attempt} | {outcome.result} | {held[outcome.held]} |" for name, outcome in outcomes.items()]
    return "\n".join(["| attack | attempt | result | |", "| --- | --- | --- | --- |", *rows])


def _reading(patient: str, message: str, signal: str, value: float, at: datetime) -> dict[str, object]:
    return {"patient_id": patient, "message_id": message, "signal": signal, "value": value, "observed_at": at.isoformat()}


def _time_reading(gateway: httpx.Client, patient: str) -> float:
    """Send a reading, and return the seconds until it is acknowledged."""
    began = time.monotonic()
    body = {"observations": [_reading(patient, f"s{time.time_ns()}", "heart_rate", 70, datetime.now(UTC))]}
    gateway.post("/v1/observations", json=body).raise_for_status()
    time.sleep(0.05)
    return time.monotonic() - began - 0.05


def _seconds_to_risk(caller: httpx.Client, patient: str, most: float = 60.0) -> float:
    """Send a reading, and return the seconds until its risk is on the ward's list."""
    sent, began = datetime.now(UTC), time.monotonic()
    body = {"observations": [_reading(patient, f"r{time.time_ns()}", "heart_rate", 70, sent)]}
    caller.post("/v1/observations", json=body).raise_for_status()
    while time.monotonic() - began < most:
        for row in caller.get("/v1/ward/patients", params={"ward": "attacked"}).json()["patients"]:
            if row["patient_id"] == patient and datetime.fromisoformat(row["as_of"]) >= sent:
                return time.monotonic() - began
        time.sleep(0.2)
    return most


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _size_of(path: Path) -> int:
    """Return the bytes of a database, with its write-ahead log."""
    return sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())


def run(home: Path, size: float = 1.0) -> dict[str, Outcome]:
    """Run all attacks on one server, one after the other."""
    with attacked(home) as server:
        return {name: attack(server, size) for name, attack in ATTACKS.items()}
