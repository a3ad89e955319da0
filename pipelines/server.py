"""The prediction server as a process of its own: how it is called, started, waited for and stopped."""

import ipaddress
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.error import URLError

from features.errors import VigilError
from features.pseudonyms import open_pseudonyms
from pipelines.environment import LOOPBACK, server_environment

SERVICE: Final = "serving.service:Vigil"

_START_SECONDS: Final = 120


class ServerError(VigilError):
    """The prediction server did not start or did not answer."""


@dataclass(frozen=True)
class Tls:
    """Files of a server's certificate (with its chain) and its private key, PEM."""

    certificate: Path
    key: Path


def server_command(port: int, host: str = LOOPBACK, tls: Tls | None = None, service: str = SERVICE) -> list[str]:
    """The command that serves a BentoML service, ours unless told otherwise."""
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", host, "--port", str(port)]
    return command if tls is None else [*command, "--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key)]


def check_exposure(home: Path, host: str, tls: Tls | None) -> None:
    """What may be offered where: beyond this machine only what is encrypted, and only patients who are hidden.

    Raises:
        ServerError: it may not.
    """
    for option, path in () if tls is None else (("--certificate", tls.certificate), ("--key", tls.key)):
        if not path.is_file():
            raise ServerError(f"{option} {path}: no such file; expected a PEM file")
    if _is_loopback(host):
        return
    if tls is None:
        raise ServerError(
            f"--host {host}: without TLS the server listens on the loopback interface only; give --certificate and --key, or "
            f"let a proxy that speaks TLS forward to {LOOPBACK}"
        )
    if open_pseudonyms(home).is_open:
        raise ServerError(
            f"--host {host}: the pseudonyms of {home} are made with the key that everybody knows, as its cohort is simulated "
            "or published; for real patients use another --home, which will have a key of its own"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def start_server(home: Path, task: str, service: str = SERVICE) -> tuple[str, "subprocess.Popen[bytes]"]:
    """Start a prediction server on a free loopback port: its URL, and the process that supervises it.

    Whoever asks waits for it (:func:`wait_for`) and stops it. Its log is ``HOME/logs/serve.log``.
    """
    port = _free_port()
    log = home / "logs" / "serve.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as output:
        server = subprocess.Popen(  # noqa: S603 - our own module
            server_command(port, service=service), env=server_environment(home, task), stdout=output, stderr=output
        )
    return f"http://{LOOPBACK}:{port}", server


@contextmanager
def running_server(home: Path, task: str) -> Iterator[str]:
    """A prediction server on a free loopback port, ready; yields its URL.

    Raises:
        ServerError: it stopped, or was not ready in time.
    """
    url, server = start_server(home, task)
    try:
        wait_for(f"{url}/readyz", server)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Until ``/readyz`` (risks are renewed), or ``/livez``, of a server answers.

    Raises:
        ServerError: it stopped, or did not answer in time.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerError(f"the prediction server stopped with exit status {server.returncode}; see logs/serve.log")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise ServerError(f"the prediction server did not answer within {_START_SECONDS} s; see logs/serve.log")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
