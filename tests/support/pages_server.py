"""A real server of the pages, which can be lost and found again: it keeps its port."""

import subprocess

import psutil

from vigil.pipelines.home import DEFAULT_TASK, Home
from vigil.pipelines.operations.server import address, bind_socket, server_command, wait_for


class PagesServer:
    """A prediction server at which people of this machine log in as whom they choose.

    Attributes:
        home: path of the home that it serves.
        url: by which browsers reach it.
    """

    def __init__(self, home):
        self.home = home
        with bind_socket() as listener:
            self._port, self.url = listener.getsockname()[1], address(listener)
            self._process = self._start(listener)

    def _start(self, listener):
        log = self.home / "logs" / "serve.log"
        log.parent.mkdir(exist_ok=True)
        command, environment = server_command(listener, Home(self.home), DEFAULT_TASK, local_login=True)
        with log.open("a") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, pass_fds=[listener.fileno()])
        wait_for(f"{self.url}/readyz", process)
        return process

    def start(self):
        """Start again on the same port."""
        with bind_socket(port=self._port) as listener:
            self._process = self._start(listener)

    def stop(self):
        """Stop; connections end."""
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def freeze(self):
        """Let connections stay open, and nothing come through them any more."""
        for process in self._processes():
            process.suspend()

    def thaw(self):
        """Go on."""
        for process in self._processes():
            process.resume()

    def _processes(self):
        supervisor = psutil.Process(self._process.pid)
        return [*supervisor.children(recursive=True), supervisor]
