"""The supervisor: a process that cannot start ends the server with one line, others are restarted; the port is bound once."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from tests.soak.home import TASK
from vigil.pipelines.environment import LOOPBACK
from vigil.pipelines.home import Home
from vigil.pipelines.operations.server import ServerError, bind_socket, start_server, wait_for
from vigil.serving.service import Rescoring
from vigil.serving.supervisor import raise_open_file_limit

SERVE = [sys.executable, "-c", "from vigil.pipelines.cli.main import app; app()", "serve", "--home"]


def serve(home, *options):
    return subprocess.run(
        [*SERVE, home, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_process_that_cannot_start_ends_the_server_with_one_line(tmp_path):
    (tmp_path / "auth").mkdir()
    (tmp_path / "auth" / "token_key.pem").write_text("no key")
    with bind_socket() as free:
        port = free.getsockname()[1]
    result = serve(tmp_path, "--port", str(port))
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("vigil: ")]
    assert "vigil: the prediction API cannot start: token_key.pem: not an unencrypted private key" in lines[0]
    assert lines[-1] == "vigil: the server has ended because one of its processes cannot start"
    assert "Traceback" not in result.stdout + result.stderr


def test_unusable_database_ends_the_server_with_one_line(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"no database, but some text that is longer than nothing")
    with bind_socket() as free:
        port = free.getsockname()[1]
    result = serve(tmp_path, "--port", str(port))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("vigil: journal.db: cannot be used (DatabaseError); is it locked or damaged")
    assert result.stderr.count("\n") == 1


def test_port_in_use_ends_the_server_with_one_line(tmp_path):
    with bind_socket() as other:
        other.listen()
        port = other.getsockname()[1]
        result = serve(tmp_path, "--port", str(port))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"vigil: --port {port}: taken, perhaps by another vigil serve; stop that process, or choose another --port\n"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_bind_refuses_an_address_of_another_machine(host):
    with pytest.raises(ServerError, match=f"--host {host}"):
        bind_socket(host)


def test_bind_accepts_a_host_name_of_this_machine():
    with bind_socket("localhost") as listener:
        assert listener.getsockname()[0] in {LOOPBACK, "::1"}


def test_killed_processes_are_restarted_and_stop_with_the_supervisor(tmp_path):
    url, server = start_server(Home(tmp_path), TASK)
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
    bind_socket(port=int(url.rpartition(":")[2])).close()  # no process holds the port any more
    assert "Traceback" not in (tmp_path / "logs" / "serve.log").read_text()


def test_open_file_limit_is_raised():
    pid = os.fork()
    if pid == 0:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        raise_open_file_limit()
        os._exit(0 if resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256 or hard <= 256 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_damaged_registry_does_not_stop_the_server(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"SQLite format 3\0" + b"\0" * 50)
    with bind_socket() as free:
        port = free.getsockname()[1]
    command = [*SERVE, str(tmp_path), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            wait_for(f"http://{LOOPBACK}:{port}/livez", server)
        finally:
            server.terminate()
        output, _ = server.communicate(timeout=30)
    assert "no model, so risks are NEWS2 until there is one" in output
    assert "Traceback" not in output


def test_rescorer_process_exits_when_its_thread_fails(monkeypatch):
    exit_statuses = []

    class FailingRescorer:
        def run(self, *, stopped):
            raise OSError(22, f"of a patient, {stopped}")

    rescoring = object.__new__(Rescoring.inner)
    rescoring.components, rescoring.stopped = SimpleNamespace(rescorer=FailingRescorer()), threading.Event()
    monkeypatch.setattr("vigil.serving.service.os._exit", exit_statuses.append)
    rescoring._run()
    assert exit_statuses == [1]
