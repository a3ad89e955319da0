"""What docs/deploy offers is what runs: units, alert rules, and a proxy with the limits that it promises."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import ROOT
from vigil.pipelines.cli.main import app
from vigil.pipelines.cli.options import EXIT_1_MEANINGS, exit_table
from vigil.pipelines.operations.server import bind_socket
from vigil.serving.settings import settings_table

DEPLOY = ROOT / "docs" / "deploy"
PAGE = DEPLOY.with_suffix(".md").read_text()


def program(name):
    """Where a program is; without it the test is skipped, but not in CI."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        if os.environ.get("VIGIL_COHORTS_REQUIRED"):
            pytest.fail(f"{name} is required here, and is not at hand")
        pytest.skip(f"{name} is not at hand")
    return found


def said_by(*command, **more):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=60, **more)


def test_each_alert_sounds_when_it_should_and_only_then():
    found = said_by(program("promtool"), "test", "rules", DEPLOY / "alerts_test.yml")
    assert found.returncode == 0, found.stdout + found.stderr
    rules = set(re.findall(r"alert: (\w+)", (DEPLOY / "alerts.yml").read_text()))
    tested = re.findall(r"alertname: (\w+)", (DEPLOY / "alerts_test.yml").read_text())
    assert all(tested.count(rule) == 2 for rule in rules)  # once where all is well, once where it is not
    assert set(tested) == rules


def test_prometheus_takes_its_configuration():
    found = said_by(program("promtool"), "check", "config", DEPLOY / "prometheus.yml")
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_unit_is_one_that_systemd_takes(tmp_path):
    units = sorted((DEPLOY / "systemd").iterdir())
    assert len(units) == 7
    for unit in units:
        text = unit.read_text().replace("/opt/vigil/.venv/bin/vigil", sys.executable)
        (tmp_path / unit.name).write_text(re.sub("^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE))
    found = said_by(program("systemd-analyze"), "verify", *sorted(tmp_path.iterdir()))
    assert (found.returncode, found.stderr) == (0, "")


class Behind(BaseHTTPRequestHandler):
    """Stands for the server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/v1/ward/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for number in range(3):
                self.wfile.write(f"id: {number}\n\n".encode())
                self.wfile.flush()
                time.sleep(0.5)
            self.close_connection = True
            return
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = str(len(body)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


def certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    (folder / "chain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """The port of nginx with our configuration, but for its ports and paths."""
    nginx, folder = program("nginx"), tmp_path_factory.mktemp("nginx")
    behind = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    certificate(folder)
    with bind_socket() as free:
        port = free.getsockname()[1]
    text = (DEPLOY / "nginx.conf").read_text()
    for ours, there in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("127.0.0.1:3000", f"127.0.0.1:{behind.server_port}"),
        ("/etc/nginx/tls", str(folder)),
        ("/run/nginx.pid", str(folder / "pid")),
        ("/var/log/nginx/vigil.log", str(folder / "access.log")),
        ("/var/log/nginx/vigil-error.log", str(folder / "vigil-error.log")),
        ("limit_conn connections 100;", "limit_conn connections 10;"),
        ("client_header_timeout 10s", "client_header_timeout 2s"),
        ("client_body_timeout 10s", "client_body_timeout 4s"),
    ):
        assert ours in text
        text = text.replace(ours, there)
    temporary = "".join(f"{name}_temp_path {folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = text.replace("http {\n", f"http {{\n{temporary}", 1)
    user = "user root;\n" if os.geteuid() == 0 else ""  # the folder is ours alone
    (folder / "nginx.conf").write_text(f"{user}daemon off;\nerror_log {folder / 'error.log'};\n{text}")
    with subprocess.Popen([nginx, "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.PIPE) as server:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, server.stderr.read()
                time.sleep(0.1)
        yield port, folder
        server.terminate()
    behind.shutdown()


@pytest.fixture
def client(proxy):
    with httpx.Client(base_url=f"https://127.0.0.1:{proxy[0]}", verify=False, timeout=10) as client:
        yield client


def secure(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=12))


def test_the_proxy_passes_on_what_is_within_its_limits(client):
    assert client.get("/livez").status_code == 200
    assert client.post("/v1/observations", content=b"a" * 900_000).text == "900000"
    assert client.post("/v1/observations", content=b"a" * 2_000_000).status_code == 413
    assert client.get("/metrics").status_code == 404
    assert client.get("/livez", headers={"a": "b" * 60_000}).status_code in {400, 431}


def test_bundles_pass_and_the_log_holds_no_id_and_no_query(proxy, client):
    assert client.post("/fhir", content=b"a" * 5_000_000).text == "5000000"
    client.post("/fhir/Patient/canary-id?identifier=canary-query", content=b"1")
    client.get("/fhir/metadata?canary-query")
    client.get("/login/callback?code=canary-code")
    assert client.post("/v1/observations?canary-query", content=b"a" * 2_000_000).status_code == 413  # an error of this request
    lines = "".join((proxy[1] / name).read_text() for name in ("access.log", "error.log", "vigil-error.log"))
    assert "POST /fhir/Patient/* " in lines
    assert "GET /fhir/metadata " in lines
    assert "canary" not in lines


def test_events_come_one_by_one(client):
    began = time.monotonic()
    with client.stream("GET", "/v1/ward/events") as stream:
        first = next(stream.iter_lines())
        assert time.monotonic() - began < 0.45
        assert first == "id: 0"


HALF_A_BODY = b"POST /v1/risk HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"


@pytest.mark.parametrize("sent", [b"GET /livez HTTP/1.1\r\nhost: x\r\n", HALF_A_BODY])
def test_who_sends_half_a_request_is_closed(proxy, sent):
    with secure(proxy[0]) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        connection.recv(1_000)
        assert time.monotonic() - began < 7


def test_one_address_has_so_many_connections_and_no_more(proxy):
    held = []
    try:
        for _ in range(15):
            held.append(secure(proxy[0]))
            held[-1].sendall(HALF_A_BODY)
        time.sleep(0.3)
        with secure(proxy[0]) as one_more:
            one_more.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert one_more.recv(100).startswith(b"HTTP/1.1 429 ")
    finally:
        for connection in held:
            connection.close()


def test_the_page_shows_every_exit_status_as_it_is():
    assert exit_table() in PAGE
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    for group in app.registered_groups:
        below = group.typer_instance.registered_commands
        commands |= {group.name, *(f"{group.name} {command.callback.__name__}" for command in below)}
    assert set(EXIT_1_MEANINGS) <= commands


def test_the_page_shows_every_setting_as_it_is():
    assert settings_table() in PAGE


def test_the_page_names_every_file():
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    assert [path.name for path in files if path.name not in PAGE] == []
