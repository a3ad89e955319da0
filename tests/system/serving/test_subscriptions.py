"""Subscriptions on a real server: every route passes its middleware, and what is killed at any point tells all, in order."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import httpx
import psutil
import pytest

from tests.soak.home import TASK
from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from tests.support.receiver import ALARM, receiving, register, subscription
from vigil.pipelines.home import Home
from vigil.pipelines.operations.server import start_server, wait_for
from vigil.serving.auth.local_tokens import create_local_token

PATH = "/fhir/Subscription"
# A deliverer that is killed after the endpoint has taken an event, and before that is stored.
DIES_BEFORE_PROGRESS = """
import os, signal, sys, time
from pathlib import Path
from vigil.serving.composition import open_deliverer
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.subscriptions import Subscriptions
from vigil.serving.scoring.champion import Champion
from vigil.serving.settings import Settings

store = Subscriptions.set_state

def set_state(self, subscription, **changes):
    if changes.get("delivered") == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return store(self, subscription, **changes)

Subscriptions.set_state = set_state
home = Path(sys.argv[1])
open_deliverer(Settings(home=home), Metrics(), Champion(home, "deterioration")).start()
time.sleep(60)
"""


@pytest.fixture
def receiver():
    with receiving() as endpoint:
        yield endpoint


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_deliverer_that_dies_before_progress_is_stored_sends_again_by_the_same_number(tmp_path, receiver):
    register(tmp_path, receiver.url)
    with running_in_process(tmp_path) as server:
        caller = server.caller(subject="ehr")
        created = caller.post(PATH, json=subscription(receiver.url, max_count=1)).json()
        for patient, values in (("a", SICK), ("b", SICK), ("a", WELL)):
            caller.post("/v1/observations", json=observations_body(patient, values)).raise_for_status()
            server.rescore()
        for number in (1, 3):
            died = subprocess.run(
                [sys.executable, "-c", DIES_BEFORE_PROGRESS, tmp_path, str(number)],
                timeout=60,
                check=False,
                env=dict(os.environ),
            )
            assert died.returncode == -signal.SIGKILL
            assert caller.get(f"{PATH}/{created['id']}/$status").status_code == 200
        assert receiver.numbers() == [1, 1, 2, 3]
        server.deliverer.start()
        receiver.wait(lambda _: receiver.numbers() == [1, 1, 2, 3, 3])
        focus = {number: set() for number in (1, 2, 3)}
        for told in receiver.received:
            for event in told.events:
                focus[int(event["event-number"])].add(event["focus"]["reference"].rpartition("/")[2])
        assert [len(each) for each in focus.values()] == [1, 1, 1]
        assert len(set.union(*focus.values())) == 3


def test_real_server_serves_every_route_and_survives_the_kill_of_its_rescorer(tmp_path, receiver):
    register(tmp_path, receiver.url)
    url, server = start_server(Home(tmp_path), TASK)
    try:
        wait_for(f"{url}/livez", server)
        token = create_local_token(tmp_path, subject="ehr", scopes=None, wards=None, lifetime=timedelta(hours=1))
        with httpx.Client(base_url=url, timeout=30, headers={"Authorization": f"Bearer {token}"}) as client:
            _use(client, receiver, psutil.Process(server.pid))
    finally:
        server.terminate()
        server.wait(timeout=30)
    log = (tmp_path / "logs" / "serve.log").read_text()
    assert not any(text in log for text in (receiver.url, "secret-7", "HTTP Request"))


def _use(client, receiver, supervisor):
    def send(patient, values=SICK):
        body = observations_body(patient, values)
        wait_until(lambda: client.post("/v1/observations", json=body).status_code == 200)

    answer = client.post(
        PATH, json=subscription(receiver.url, max_count=1, content="full-resource", header=["X-Key: secret-7"])
    )
    assert answer.status_code == 201, answer.text
    own = f"{PATH}/{answer.json()['id']}"
    wait_until(lambda: client.get(own).json()["status"] == "active")
    send("a")
    receiver.wait(lambda _: receiver.numbers() == [1], 60)
    (rescorer,) = [process for process in supervisor.children() if "rescorer" in process.cmdline()]
    killed = []

    def kill_in_the_middle(notification):
        if notification.events and not killed:
            killed.append(rescorer.pid)
            rescorer.kill()
        return 200

    receiver.answer = kill_in_the_middle
    send("b")
    send("c")
    receiver.wait(lambda _: receiver.numbers()[-1] == 3, 120)
    assert receiver.numbers() in ([1, 2, 2, 3], [1, 2, 2, 2, 3])
    assert killed == [rescorer.pid]
    resource = client.get(own).json()
    answers = [
        client.get(PATH, params={"status": "active"}),
        client.post(f"{PATH}/_search", data={"url": receiver.url}),
        client.get(f"{PATH}/$status"),
        client.post(f"{PATH}/$status", json={"resourceType": "Parameters"}),
        client.get(f"{own}/$status"),
        client.post(f"{own}/$status", json={"resourceType": "Parameters"}),
        client.get(f"{own}/$events", params={"eventsSinceNumber": 2}),
        client.post(f"{own}/$events", json={"resourceType": "Parameters"}),
        client.put(own, json=resource | {"status": "off"}),
        client.delete(own),
    ]
    assert [answer.status_code for answer in answers] == [200] * 9 + [204]
    assert client.get(own).status_code == 404
    assert client.post(PATH, json=subscription(receiver.url, topic=ALARM, content="all")).status_code == 422
    metrics = client.get("/metrics").text
    assert 'vigil_notifications_total{result="delivered"}' in metrics
    assert 'path="/fhir/Subscription/{id}/$events"' in metrics
