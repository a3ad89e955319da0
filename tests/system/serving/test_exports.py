"""Exports of a real server: over its own paths, in a process of its own, and whatever of it is killed."""

import gzip
import json
import time
from contextlib import contextmanager
from datetime import timedelta

import httpx
import psutil
import pytest

from tests.support.filled_ward import fill_ward
from vigil.pipelines.home import DEFAULT_TASK, Home
from vigil.pipelines.operations.server import start_server, wait_for
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.auth.tokens import SCOPES
from vigil.serving.fhir.exports.follower import MODULE

ASYNC = {"Prefer": "respond-async"}
SECONDS = 120


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    home = tmp_path_factory.mktemp("exported")
    return home, fill_ward(home, patients=5, minutes=1_000, by_clients=False)


@contextmanager
def serving(home):
    """Yield a client of a server of a home, and the server; at the end kill every process of it."""
    url, server = start_server(Home(home), DEFAULT_TASK)
    try:
        wait_for(f"{url}/livez", server)
        token = create_local_token(home, subject="tests", scopes=tuple(SCOPES), wards=None, lifetime=timedelta(hours=1))
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
            yield client, server
    finally:
        kill_all(server)


def kill_all(server):
    """Kill the supervisor first, so that it starts nothing again."""
    if server.poll() is None:
        workers = psutil.Process(server.pid).children(recursive=True)
        for process in (psutil.Process(server.pid), *workers):
            process.kill()
        server.wait()
        psutil.wait_procs(workers, timeout=20)


def writer_of(server):
    """Return the process that writes an export, once it does."""
    for _ in range(SECONDS * 20):
        for process in psutil.Process(server.pid).children(recursive=True):
            try:
                if MODULE in process.cmdline():
                    return process
            except psutil.Error:
                continue
        time.sleep(0.05)
    raise AssertionError("no process writes an export")


def wait_until_written(client, path):
    """Ask after an export until it is complete, and return its manifest."""
    for _ in range(SECONDS * 4):
        answer = client.get(path)
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            return answer.json()
        assert int(answer.headers["Retry-After"]) >= 1
        time.sleep(0.25)
    raise AssertionError("the export takes too long")


def wait_until_running(client, path):
    while (answer := client.get(path)).headers.get("X-Progress") == "waiting":
        time.sleep(0.02)
    assert answer.status_code == 202, "the export was complete before it could be interrupted"


def count_lines(client, manifest, kind):
    files = [httpx.URL(file["url"]).path for file in manifest["output"] if file["type"] == kind]
    return sum(len({json.loads(line)["id"] for line in client.get(file).text.splitlines()}) for file in files)


def test_an_export_is_complete_whatever_is_killed(filled):
    home, readings = filled
    with serving(home) as (client, server):
        (group,) = [entry["resource"] for entry in client.get("/fhir/Group").json()["entry"]]
        answer = client.get(f"/fhir/Group/{group['id']}/$export", headers=ASYNC)
        location = answer.headers["Content-Location"]
        assert (answer.status_code, location.startswith(str(client.base_url))) == (202, True)
        wait_until_running(client, location)
        writer = writer_of(server)
        assert writer.nice() == 10
        writer.kill()
        assert count_lines(client, wait_until_written(client, location), "Observation") == readings
        second = client.get("/fhir/$export", headers=ASYNC).headers["Content-Location"]
        wait_until_running(client, second)
        kill_all(server)
    path = httpx.URL(second).path
    with serving(home) as (client, server):
        manifest = wait_until_written(client, path)
        assert count_lines(client, manifest, "Observation") == readings
        assert count_lines(client, manifest, "Patient") == 5
        assert client.get(httpx.URL(location).path).status_code == 200
        file = next(httpx.URL(file["url"]).path for file in manifest["output"] if file["type"] == "Observation")
        with client.stream("GET", file, headers={"Accept-Encoding": "gzip"}) as gzipped:
            assert gzipped.headers["content-encoding"] == "gzip"
            assert len(gzip.decompress(b"".join(gzipped.iter_raw())).splitlines()) == readings
        for method, ending, status in (("DELETE", "", 202), ("GET", "", 404), ("GET", "/Patient.1.ndjson", 404)):
            assert client.request(method, path + ending).status_code == status
        assert "MRN-" not in (home / "logs" / "serve.log").read_text()
