"""The prediction server as a process of its own: how it is called, started, waited for and stopped."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError

from features.errors import VigilError
from pipelines.environment import LOOPBACK, server_environment

_START_SECONDS: Final = 120


class ServerError(VigilError):
    """The prediction server did not start or did not answer."""


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
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
