"""The attacks of an adversarial review, repeated: what was tried, and what came of it. docs/security.md holds the table.

Short forms run with the tests. What needs more than a server is in the tests of its module: models that run code, backups,
clocks, keys, sources.
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
import sqlalchemy as sa

from pipelines.operations.server import start_server, wait_for
from serving.api.turns import MOST_OF_ONE_CALLER
from serving.auth.local_tokens import local_token
from serving.http_limits import HEAD_SECONDS, MAX_HEAD_BYTES
from serving.records.database import reading
from serving.records.journal import READINGS, Journal
from tests.soak.home import TASK

_ENOUGH = 64 * MAX_HEAD_BYTES  # bytes of a head: whoever is let send so many is let send any number


@dataclass(frozen=True)
class Outcome:
    """What an attack did, and whether the server held."""

    tried: str
    found: str
    held: bool


class Attacked:
    """A server, and those who ask it: strangers, and callers with tokens."""

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
        return next(each for each in self.processes if "--backlog" in each.cmdline())

    def memory(self) -> float:
        """Of the API process, MB."""
        return self.api.memory_info().rss / 1e6

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=5)

    def caller(self, wards: list[str] | None = None, seconds: int = 3_600, subject: str = "attacker") -> httpx.Client:
        token = local_token(self.home, subject=subject, scopes=None, wards=wards, lifetime=timedelta(seconds=seconds))
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def alive(self) -> float:
        """Seconds until a stranger is told that the server lives."""
        began = time.monotonic()
        httpx.get(f"{self.url}/livez", timeout=10).raise_for_status()
        return time.monotonic() - began


@contextlib.contextmanager
def attacked(home: Path, answers: str = "/readyz") -> Iterator[Attacked]:
    """A server of a home, once it answers there."""
    url, server = start_server(home, TASK)
    try:
        wait_for(f"{url}{answers}", server)
        yield Attacked(url, home, server.pid)
    finally:
        server.terminate()
        server.wait(timeout=30)


def other_sockets(server: Attacked, _size: float) -> Outcome:
    """Commands for the supervisor, from another account of the machine."""
    found = [
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
    ports = len(set(found))
    said = f"{ports} listening port; {len(paths)} folders of UNIX sockets, {len(open_to_others)} of them open to others"
    return Outcome("listening sockets of all processes of the server", said, ports == 1 and not open_to_others)


def endless_headers(server: Attacked, _size: float) -> Outcome:
    """Headers without end, from a connection without a token."""
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
            while sent < _ENOUGH:
                connection.sendall(more)
                sent += len(more)
        answers.append(sent)
    grown = max(0.0, server.memory() - before)
    said = f"closed after {max(answers) / 1e3:,.0f} KB at most; memory +{grown:.0f} MB; /livez in {server.alive() * 1e3:.0f} ms"
    return Outcome(f"{', '.join(heads)} without end", said, max(answers) < _ENOUGH and grown < 50)


def silent_connections(server: Attacked, size: float) -> Outcome:
    """Connections that send nothing, or half a request, and are held."""
    number = max(600, round(2_000 * size))
    held, waits = [], []
    try:
        for n in range(number):
            held.append(server.connect())
            if n % 2:
                held[-1].sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n")
        waits = [server.alive() for _ in range(5)]
        time.sleep(HEAD_SECONDS + 2)
        open_still = sum(_is_open(connection) for connection in held)
    finally:
        for connection in held:
            connection.close()
    said = f"others are answered in {max(waits) * 1e3:.0f} ms at most; after {HEAD_SECONDS + 2:.0f} s {open_still} are open"
    return Outcome(f"{number:,} silent connections", said, max(waits) < 2 and not open_still)


def backlog_newest_first(server: Attacked, size: float) -> Outcome:
    """A gateway that empties the buffer of one patient, newest reading first."""
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
    said = (
        f"another patient's reading is scored after {max(waits):.1f} s at most, {statistics.median(waits):.1f} s as a rule; "
        f"the long one's risk: {answer.status_code} in {took:.1f} s"
    )
    tried = f"{number:,} readings of one patient, newest first, in {number // a_request} requests"
    return Outcome(tried, said, max(waits) < 10 and answer.status_code == 200)


def mapped_files(server: Attacked, _size: float) -> Outcome:
    """Files that are mapped into memory: where their disk is full, the kernel kills whoever writes to them."""
    mapped = {
        Path(region.path).name
        for process in server.processes[1:]
        for region in process.memory_maps()
        if region.path.startswith(str(server.home)) and not region.path.endswith(("-shm", ".so"))
    }
    said = "none but SQLite's, which has the disk's room before it maps" if not mapped else ", ".join(sorted(mapped))
    return Outcome("files of the home that are mapped into memory", said, not mapped)


def full_disk(_server: Attacked, _size: float) -> Outcome:
    """Readings until the disk of another home is full; needs root, who alone may mount a small one."""
    tried = "a home on a disk of 32 MB, readings until it is full"
    if os.geteuid() != 0:
        return Outcome(tried, "not tried: only root can mount a small disk", held=True)
    with tempfile.TemporaryDirectory(prefix="vigil-full-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs", folder]
        if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            return Outcome(tried, "not tried: no disk can be mounted here", held=True)
        try:
            return _filled(Path(folder) / "home", tried)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def _filled(home: Path, tried: str) -> Outcome:
    home.mkdir()
    ballast = home.parent / "ballast"
    ballast.write_bytes(bytes(12_000_000))
    with attacked(home, "/livez") as server, server.caller() as gateway:
        process, statuses, kept = server.api.pid, [], 0
        for first in range(0, 200_000, 500):
            now = datetime.now(UTC)
            batch = [
                _reading(f"p{n % 50}", f"f{first + n}", "heart_rate", 50 + n % 100, now - timedelta(seconds=first + n))
                for n in range(500)
            ]
            answer = gateway.post("/v1/observations", json={"observations": batch})
            kept += answer.json().get("accepted", 0)
            statuses.append(answer.status_code)
            if statuses[-3:] == [503] * 3:
                break
        answers = [gateway.post("/v1/risk", json={"patient_id": "p1"}).status_code for _ in range(5)]
        answers += [httpx.get(f"{server.url}{path}", timeout=10).status_code for path in ("/livez", "/metrics") * 5]
        answers.append(gateway.get("/v1/ward/patients", params={"ward": "A"}).status_code)
        same = server.api.pid == process
        ballast.unlink()
        began, back = time.monotonic(), 503
        while back != 200 and time.monotonic() - began < 30:
            time.sleep(0.2)
            body = {"observations": [_reading("p1", f"g{time.time_ns()}", "heart_rate", 70, datetime.now(UTC))]}
            back = gateway.post("/v1/observations", json=body).status_code
        took = time.monotonic() - began
        with reading(Journal(home).engine) as connection:
            stored = connection.execute(sa.select(sa.func.count()).select_from(READINGS)).scalar_one()
    counts = ", ".join(f"{answers.count(status)} x {status}" for status in sorted(set(answers)))
    said = (
        f"{kept:,} readings acknowledged, {stored - (back == 200):,} kept; then 503; risk, list and health meanwhile {counts}; "
        f"{'the same process' if same else 'ANOTHER PROCESS'}; back {took:.1f} s after there was room"
    )
    return Outcome(tried, said, same and back == 200 and stored >= kept and set(answers) <= {200, 503})


def two_wards_at_once(server: Attacked, size: float) -> Outcome:
    """Two wards register the same new patient at the same moment."""
    pairs, both = max(5, round(60 * size)), 0

    def register(ward: str, name: str) -> int:
        with server.caller([ward], subject=f"{ward} {name}") as caller:  # a new one each time: refusals are few a minute
            return caller.post("/v1/patients", json={"patients": [{"patient_id": name, "ward": ward}]}).status_code

    with ThreadPoolExecutor(2) as threads:
        for n in range(pairs):
            name = f"pair-{n}-{time.time_ns()}"
            asked = [threads.submit(register, ward, name) for ward in ("A", "B")]
            both += sorted(one.result() for one in asked) != [200, 403]
    return Outcome(f"{pairs} pairs", f"{both} of them without exactly one winner", both == 0)


def who_is_elsewhere(server: Attacked, _size: float) -> Outcome:
    """A caller of one ward asks in which requests somebody is of another."""
    with server.caller() as anybody, server.caller(["B"], subject=f"curious-{time.time_ns()}") as curious:
        anybody.post("/v1/patients", json={"patients": [{"patient_id": "of-a", "ward": "A"}]}).raise_for_status()
        now = datetime.now(UTC)
        sent = {"observations": [_reading("of-a", f"w{time.time_ns()}", "heart_rate", 70, now)]}
        anybody.post("/v1/observations", json=sent).raise_for_status()
        answers = []
        for place in range(40):
            patients = [{"patient_id": f"nobody-{n}", "ward": "B"} for n in range(20)]
            patients[place % 20]["patient_id"] = "of-a"
            answer = curious.post("/v1/patients", json={"patients": patients})
            answers.append((answer.status_code, answer.text))
    texts = {text for status, text in answers if status == 403}
    limited = sum(status == 429 for status, _ in answers)
    said = f"{len(texts)} different refusals, of whom is none; from the {len(answers) - limited + 1}th on 429"
    return Outcome("40 requests of 20 candidates, one of them elsewhere", said, len(texts) == 1 and limited > 0)


def stream_after_expiry(server: Attacked, _size: float) -> Outcome:
    """A stream outlives its token while events keep coming."""
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
    said = f"last line {last - seconds:+.1f} s after the token's end, closed {ended - seconds:+.1f} s after it"
    return Outcome(f"a token of {seconds} s, and an event each 0.1 s", said, ended < seconds + 3)


def ready_flood(server: Attacked, size: float) -> Outcome:
    """Strangers ask whether the server is ready, and for metrics, over many connections."""
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
            waits.append(_sent(gateway, "calm"))
    counts = ", ".join(f"{statuses.count(status):,} x {status}" for status in sorted(set(statuses)))
    said = f"{counts}; a gateway beside them {statistics.median(waits) * 1e3:.0f} ms"
    return Outcome(f"40 connections for {seconds:.0f} s", said, set(statuses) == {200})


def one_asks_for_much(server: Attacked, size: float) -> Outcome:
    """One caller asks for 500 patients at a time over many connections, while another sends readings."""
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
            waits.append(_sent(gateway, "calm"))
    grown = (_size_of(server.home / "predictions.db") - before) / max(1, statuses.count(200)) / 1e3
    counts = ", ".join(f"{statuses.count(status):,} x {status}" for status in sorted(set(statuses)))
    said = f"{counts}; {grown:.1f} KB of log an answer; a gateway beside it {statistics.median(waits) * 1e3:.0f} ms"
    tried = f"40 connections of one caller for {seconds:.0f} s, each the same patient 500 times"
    return Outcome(tried, said, set(statuses) <= {200, 429} and statuses.count(200) >= MOST_OF_ONE_CALLER and grown < 100)


ATTACKS: dict[str, Callable[[Attacked, float], Outcome]] = {
    "H1, commands to the supervisor": other_sockets,
    "H2, headers without end": endless_headers,
    "H3, silent connections": silent_connections,
    "H4, one patient's backlog": backlog_newest_first,
    "H5, mapped files": mapped_files,
    "H5, a full disk": full_disk,
    "M1, two wards at once": two_wards_at_once,
    "M2, who is in other wards": who_is_elsewhere,
    "M3, streams after their token": stream_after_expiry,
    "M8 and L5, one who asks for much": one_asks_for_much,
    "L4, strangers ask for health": ready_flood,
}


def table(outcomes: dict[str, Outcome]) -> str:
    """In Markdown."""
    held = {True: "held", False: "**not held**"}
    rows = [f"| {name} | {each.tried} | {each.found} | {held[each.held]} |" for name, each in outcomes.items()]
    return "\n".join(["| attack | what was tried | what came of it | |", "| --- | --- | --- | --- |", *rows])


def _reading(patient: str, message: str, signal: str, value: float, at: datetime) -> dict[str, object]:
    return {"patient_id": patient, "message_id": message, "signal": signal, "value": value, "observed_at": at.isoformat()}


def _sent(gateway: httpx.Client, patient: str) -> float:
    """Seconds until a reading is acknowledged."""
    began = time.monotonic()
    body = {"observations": [_reading(patient, f"s{time.time_ns()}", "heart_rate", 70, datetime.now(UTC))]}
    gateway.post("/v1/observations", json=body).raise_for_status()
    time.sleep(0.05)
    return time.monotonic() - began - 0.05


def _seconds_to_risk(caller: httpx.Client, patient: str, most: float = 60.0) -> float:
    """From a reading sent to a risk of it on the ward's list."""
    sent, began = datetime.now(UTC), time.monotonic()
    body = {"observations": [_reading(patient, f"r{time.time_ns()}", "heart_rate", 70, sent)]}
    caller.post("/v1/observations", json=body).raise_for_status()
    while time.monotonic() - began < most:
        for each in caller.get("/v1/ward/patients", params={"ward": "attacked"}).json()["patients"]:
            if each["patient_id"] == patient and datetime.fromisoformat(each["as_of"]) >= sent:
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
    """Of a database, with what is not yet in its main file."""
    return sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())


def run(home: Path, size: float = 1.0) -> dict[str, Outcome]:
    """All attacks on one server, in turn."""
    with attacked(home) as server:
        return {name: attack(server, size) for name, attack in ATTACKS.items()}
