"""The processes of the server: one that cannot start ends the command with one line; the port is bound once."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from pipelines.environment import LOOPBACK
from pipelines.operations.server import ServerError, bound, start_server, wait_for
from serving.service import Rescoring
from serving.supervisor import allow_many_connections
from tests.soak.home import TASK

SERVE = [sys.executable, "-c", "from pipelines.cli.main import app; app()", "serve", "--home"]


def serve(home, *options):
    return subprocess.run(
        [*SERVE, home, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_process_that_cannot_start_ends_the_command_with_one_clear_line(tmp_path):
    (tmp_path / "auth").mkdir()
    (tmp_path / "auth" / "token_key.pem").write_text("no key")
    with bound() as free:
        port = free.getsockname()[1]
    found = serve(tmp_path, "--port", str(port))
    assert found.returncode == 2
    said = [line for line in found.stderr.splitlines() if line.startswith("vigil: ")]
    assert "vigil: the prediction API cannot start: token_key.pem: not an unencrypted private key" in said[0]
    assert said[-1] == "vigil: the server has ended, since a process of it cannot start"
    assert "Traceback" not in found.stdout + found.stderr


def test_a_file_of_the_home_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"no database, but some text that is longer than nothing")
    with bound() as free:
        port = free.getsockname()[1]
    found = serve(tmp_path, "--port", str(port))
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("vigil: journal.db: cannot be used (DatabaseError); is it locked or damaged")
    assert found.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with bound() as other:
        other.listen()
        port = other.getsockname()[1]
        found = serve(tmp_path, "--port", str(port))
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        f"vigil: --port {port}: taken, perhaps by another vigil serve; stop that one, or choose another --port\n"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_elsewhere_is_refused(host):
    with pytest.raises(ServerError, match=f"--host {host}"):
        bound(host)


def test_a_name_of_this_machine_is_an_address():
    with bound("localhost") as listener:
        assert listener.getsockname()[0] in {LOOPBACK, "::1"}


def test_what_has_run_is_started_again_and_stops_with_its_supervisor(tmp_path):
    url, server = start_server(tmp_path, TASK)
    try:
        wait_for(f"{url}/livez", server)
        workers = psutil.Process(server.pid).children()
        time.sleep(1)
        workers[0].send_signal(signal.SIGKILL)
        workers[1].send_signal(signal.SIGKILL)
        time.sleep(2)
        wait_for(f"{url}/livez", server)
        assert server.poll() is None
    finally:
        server.terminate()
        server.wait(timeout=30)
    time.sleep(0.5)
    bound(port=int(url.rpartition(":")[2])).close()  # nobody is left who holds the port
    assert "Traceback" not in (tmp_path / "logs" / "serve.log").read_text()


def test_more_files_may_be_open_than_debian_allows():
    pid = os.fork()
    if pid == 0:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
        allow_many_connections()
        os._exit(0 if resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256 or most <= 256 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("content", [b"garbage", b"SQLite format 3\0" + b"\0" * 50])
def test_a_registry_that_is_no_database_stops_no_server(tmp_path, content):
    (tmp_path / "mlflow.db").write_bytes(content)
    with bound() as free:
        port = free.getsockname()[1]
    command = [*SERVE, str(tmp_path), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            wait_for(f"http://{LOOPBACK}:{port}/livez", server)
        finally:
            server.terminate()
        said, _ = server.communicate(timeout=30)
    assert "no model, so risks are NEWS2 until there is one" in said
    assert "Traceback" not in said


def test_a_process_whose_rescorer_ends_is_ended(monkeypatch):
    ended = []

    class Rescorer:
        def run(self, *, stopped):
            raise OSError(22, f"of a patient, {stopped}")

    rescoring = object.__new__(Rescoring.inner)
    rescoring.rescorer, rescoring.stopped = Rescorer(), threading.Event()
    monkeypatch.setattr("serving.service.os._exit", ended.append)
    rescoring._run()
    assert ended == [1]
