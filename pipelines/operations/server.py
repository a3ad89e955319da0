"""Start, wait for and stop the prediction server, a process of its own."""

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

from vigil.features.errors import VigilError
from vigil.features.pseudonyms import open_pseudonyms
from vigil.pipelines.environment import LOOPBACK, server_environment, server_url
from vigil.pipelines.home import Home
from vigil.serving.login.links import create_link, is_loopback_url
from vigil.serving.login.settings import LoginSettingsFile
from vigil.serving.settings import LOCAL_LOGIN_VARIABLE, SOCKET_VARIABLE

SERVICE: Final = "vigil.serving.service:Vigil"

_STOP_SECONDS: Final = 5  # for requests under way; streams of events do not end by themselves
_START_SECONDS: Final = 600  # a busy machine may take minutes to load the libraries of two processes


class ServerError(VigilError):
    """A prediction server that did not start or did not answer."""


@dataclass(frozen=True)
class Tls:
    """TLS files of a server, PEM.

    Attributes:
        certificate: with its chain.
        key: its private key.
    """

    certificate: Path
    key: Path


def bind_socket(host: str = LOOPBACK, port: int = 0) -> socket.socket:
    """Bind a socket that a server will inherit, so that no other process can take the port meanwhile.

    Args:
        host: address or name of this machine.
        port: 0 for any free port.

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
                f"--port {port}: taken, perhaps by another vigil serve; stop that process, or choose another --port"
            ) from None
        raise ServerError(
            f"--host {host}, --port {port}: cannot be listened on ({error.strerror}); expected an address of this machine, and "
            "a port that this user may open"
        ) from None
    listener.set_inheritable(True)
    return listener


def server_command(
    listener: socket.socket,
    home: Home,
    task: str,
    tls: Tls | None = None,
    service: str = SERVICE,
    *,
    local_login: bool = False,
) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves a BentoML service on a bound socket, and the environment of the command."""
    host, port = listener.getsockname()[:2]
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", host, "--port", str(port)]
    command += ["--timeout-graceful-shutdown", str(_STOP_SECONDS)]
    if tls is not None:
        command += ["--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key)]
    environment = server_environment(home.path, task, address(listener, tls))
    environment |= {LOCAL_LOGIN_VARIABLE: "true"} if local_login else {}
    return command, {**environment, SOCKET_VARIABLE: str(listener.fileno())}


def address(listener: socket.socket, tls: Tls | None = None) -> str:
    """Return the URL of a server on a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"{'http' if tls is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"


def check_exposure(home: Home, host: str, tls: Tls | None) -> None:
    """Refuse to listen beyond this machine without encryption, or with pseudonyms that hide no patient.

    Raises:
        ServerError: a TLS file is missing, or the home must not be served at that address.
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
    if open_pseudonyms(home.path).is_open:
        raise ServerError(
            f"--host {host}: the pseudonyms of {home.path} are made with the published key, as its cohort is simulated or "
            "published; for real patients use another --home, which will have a secret key"
        )


def check_local_login(host: str, tls: Tls | None) -> None:
    """Refuse to let anyone choose who they are, unless the server is for this machine only.

    Raises:
        ServerError: it is for others, too.
    """
    if tls is not None or not _is_loopback(host) or not is_loopback_url(server_url(f"http://{LOOPBACK}")):
        raise ServerError(
            f"--local-login: expected a server for this machine only: --host {LOOPBACK}, without --certificate and VIGIL_URL. "
            "Anyone who reaches it could log in as anyone; for others connect an issuer in login.toml"
        )


def login_link(home: Home, listener: socket.socket, tls: Tls | None) -> str | None:
    """Return a link that logs in once; None: the server is not for this machine only, or has an issuer of logins.

    Raises:
        VigilError: the key of the home cannot be used.
    """
    url = address(listener, tls)
    if not is_loopback_url(url) or server_url(url) != url or LoginSettingsFile(home.path).content.issuers:
        return None
    return create_link(home.path, url)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def start_server(home: Home, task: str, service: str = SERVICE) -> tuple[str, "subprocess.Popen[bytes]"]:
    """Start a prediction server on a free loopback port; return its URL and the process that supervises it.

    The caller waits for it (:func:`wait_for`) and stops it. Its log is ``HOME/logs/serve.log``.
    """
    log = home.path / "logs" / "serve.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as output, bind_socket() as listener:
        command, environment = server_command(listener, home, task, service=service)
        server = subprocess.Popen(  # noqa: S603 - our own module
            command, env=environment, stdout=output, stderr=output, pass_fds=[listener.fileno()]
        )
        return f"http://{LOOPBACK}:{listener.getsockname()[1]}", server


@contextmanager
def running_server(home: Home, task: str) -> Iterator[str]:
    """Run a prediction server on a free loopback port, and yield its URL when it is ready.

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
    """Wait until ``/readyz`` (risks are renewed) or ``/livez`` of a server answers, for at most ten minutes.

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
