"""Predict: held-out patients through the online path, and one of them over HTTP, as a care platform would ask."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError

from models.cohort import split_of
from pipelines.cohort_store import CohortStore
from pipelines.environment import server_environment
from pipelines.progress import track, working
from serving.schemas import MAX_PATIENTS, RiskAnswer
from serving.scoring import RiskScorer

LOOPBACK: Final = "127.0.0.1"
DEFAULT_PORT: Final = 3000
_START_SECONDS: Final = 120


class ServerError(RuntimeError):
    """The prediction server did not start or did not answer."""


def predict_held_out(home: Path, scorer: RiskScorer) -> list[RiskAnswer]:
    """Score every held-out patient from the online store, as of the clock's now; each is logged."""
    patients = [subject for subject in CohortStore(home).read("stays")["subject_id"] if split_of(subject) == "held_out"]
    chunks = [patients[first : first + MAX_PATIENTS] for first in range(0, len(patients), MAX_PATIENTS)]
    answers: list[RiskAnswer] = []
    for chunk in track(chunks, "predict", len(chunks)):
        for item in scorer.by_id(chunk):
            if item.risk is None:
                raise ServerError(f"a held-out patient could not be scored: {item.problem}")
            answers.append(item.risk)
    return answers


def predict_over_http(home: Path, task: str, patient_id: str) -> dict[str, Any]:
    """Start the prediction server on a free port, ask it for one patient's risk, and stop it."""
    with working("one prediction over HTTP"), running_server(home, task) as url:
        body = json.dumps({"patient_id": patient_id}).encode()
        request = urllib.request.Request(f"{url}/v1/risk", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
    return found


def server_command(port: int) -> list[str]:
    """The command that serves :class:`serving.service.Vigil` on the loopback interface."""
    module = "serving.service:Vigil"
    return [sys.executable, "-m", "bentoml", "serve", module, "--host", LOOPBACK, "--port", str(port)]


@contextmanager
def running_server(home: Path, task: str) -> Iterator[str]:
    """A prediction server on a free loopback port, ready; yields its URL. Its log is ``HOME/logs/serve.log``.

    Raises:
        ServerError: it stopped, or was not ready in time.
    """
    port = _free_port()
    url = f"http://{LOOPBACK}:{port}"
    log = home / "logs" / "serve.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as output:
        server = subprocess.Popen(  # noqa: S603 - our own module
            server_command(port), env=server_environment(home, task), stdout=output, stderr=output
        )
        try:
            _wait_until_ready(url, server, log)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerError(f"the prediction server stopped with exit status {server.returncode}; see {log}")
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise ServerError(f"the prediction server was not ready within {_START_SECONDS} s; see {log}")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
