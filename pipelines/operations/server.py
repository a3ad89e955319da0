"""The prediction server as a process of its own: how it is called, started, waited for and stopped."""

import errno
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
from serving.settings import SOCKET_VARIABLE

SERVICE: Final = "serving.service:Vigil"

_START_SECONDS: Final = 120


class ServerError(VigilError):
    """The prediction server did not start or did not answer."""


@dataclass(frozen=True)
class Tls:
    """Files of a server's certificate (with its chain) and its private key, PEM."""

    certificate: Path
    key: Path


def bound(host: str = LOOPBACK, port: int = 0) -> socket.socket:
    """Bind a socket for a server, which inherits it: nobody else can take the port meanwhile.

    Args:
        host: address or name.
        port: 0: any that is free.

    Raises:
        ServerError: the port is taken, or the address is not of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise ServerError(f"--host {host}: no such address; expected one of this machine, such as {LOOPBACK}") from None
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ServerError(
                f"--port {port}: taken, perhaps by another vigil serve; stop that one, or choose another --port"
            ) from None
        raise ServerError(f"--host {host}, --port {port}: cannot be listened on ({error.strerror})") from None
    listener.set_inheritable(True)
    return listener


def server_command(
    listener: socket.socket, home: Path, task: str, tls: Tls | None = None, service: str = SERVICE
) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves a BentoML service on a bound socket, ours unless told otherwise, and its environment."""
    host, port = listener.getsockname()[:2]
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", host, "--port", str(port)]
    if tls is not None:
        command += ["--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key)]
    return command, {**server_environment(home, task), SOCKET_VARIABLE: str(listener.fileno())}


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
    log = home / "logs" / "serve.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as output, bound() as listener:
        command, environment = server_command(listener, home, task, service=service)
        server = subprocess.Popen(  # noqa: S603 - our own module
            command, env=environment, stdout=output, stderr=output, pass_fds=[listener.fileno()]
        )
        return f"http://{LOOPBACK}:{listener.getsockname()[1]}", server


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
