"""The supervisor of the server's processes: circus, as BentoML starts it, with two changes.

By default circus accepts commands over TCP ports of the loopback interface, from every user of the machine. A command can start
any program as the server's user. Here circus listens on sockets in a folder that only its owner can open.

By default circus restarts a process however often it fails. Here the server ends if a process fails at its first start.
"""

import os
import resource
import shutil
import socket
import sys
import tempfile
import time
from typing import Any, Final, NoReturn

from bentoml._internal.utils.circus import Arbiter
from circus.exc import ConflictError  # type: ignore[import-untyped]
from circus.sockets import CircusSocket  # type: ignore[import-untyped]

from vigil.serving.settings import Settings

_API_SOCKET: Final = "_bento_api_server"  # BentoML's name for the socket of the API
_EX_CONFIG: Final = 78  # exit status of sysexits.h: a configuration error
# BentoML checks its processes every 10 s. No patient is monitored while the rescorer is down, so this is shorter.
_CHECK_SECONDS: Final = 1
_START_SECONDS: Final = 20  # a process that fails within this time has not started
# More than a server needs. A higher limit slows down programs that go through all possible descriptors.
_MAX_OPEN_FILES: Final = 65_536


def create_supervisor(watchers: list[Any], *, sockets: list[CircusSocket], **_: object) -> "Supervisor":
    """Create the supervisor of the given processes. It replaces BentoML's ``create_standalone_arbiter``.

    Args:
        watchers: circus watchers; each starts one process and restarts it.
        sockets: sockets that the processes listen on.
    """
    raise_open_file_limit()
    descriptor = Settings().socket
    if descriptor is not None:
        sockets = [_BoundSocket(each, descriptor) if each.name == _API_SOCKET else each for each in sockets]
    folder = tempfile.mkdtemp(prefix="vigil-")  # mode 0700
    supervisor = Supervisor(
        watchers,
        endpoint=f"ipc://{folder}/commands",
        pubsub_endpoint=f"ipc://{folder}/events",
        check_delay=_CHECK_SECONDS,
        sockets=sockets,
    )
    supervisor.exit_stack.callback(shutil.rmtree, folder, ignore_errors=True)
    for watcher in watchers:
        watcher.hooks |= {"after_spawn": supervisor.after_spawn, "after_reap": supervisor.after_reap}
    return supervisor


def raise_open_file_limit() -> None:
    """Raise this process's limit of open files, 1,024 under Debian and systemd, to at most 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


def exit_cannot_start(process: str, because: str) -> NoReturn:
    """End this process with one line on standard error: it cannot start, and a restart would not help.

    Args:
        process: its name, for people.
        because: why it cannot start.
    """
    sys.stderr.write(f"vigil: the {process} cannot start: {because}\n")
    sys.stderr.flush()
    os._exit(_EX_CONFIG)


class Supervisor(Arbiter):  # type: ignore[misc]
    """Supervisor that restarts processes, and ends the server if a process fails at its first start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._first_spawned_at: dict[str, float] = {}  # by watcher
        self._have_ended: set[str] = set()  # watchers with a process that has ended at least once
        self._start_has_failed = False

    def after_spawn(self, watcher: Any, **_: object) -> bool:
        """Note when the first process of a watcher was started. Returns True: circus lets the process run."""
        self._first_spawned_at.setdefault(watcher.name, time.monotonic())
        return True

    def after_reap(self, watcher: Any, exit_code: int, **_: object) -> None:
        """Stop the server if the first process of a watcher has failed soon after its start."""
        seconds = time.monotonic() - self._first_spawned_at[watcher.name]
        has_failed = exit_code == _EX_CONFIG or (exit_code > 0 and seconds < _START_SECONDS)
        if watcher.name not in self._have_ended and has_failed:
            self._start_has_failed = True
            self.loop.add_callback(self._stop_when_possible)
        self._have_ended.add(watcher.name)

    def _stop_when_possible(self) -> None:
        try:
            self.stop()
        except ConflictError:  # circus is checking its processes; try again
            self.loop.call_later(0.1, self._stop_when_possible)

    def start(self, cb: Any = None) -> None:
        """Run until stopped. If a process cannot start, exit with status 2."""
        super().start(cb)
        if self._start_has_failed:
            self.exit_stack.close()
            sys.stderr.write("vigil: the server has ended because one of its processes cannot start\n")
            sys.exit(2)


class _BoundSocket(CircusSocket):  # type: ignore[misc]
    """A socket that ``vigil serve`` has bound already, so that no other program can take its port before the start."""

    def __init__(self, template: CircusSocket, descriptor: int) -> None:
        socket.socket.__init__(self, fileno=descriptor)
        self.name, self.socktype, self.backlog = template.name, template.socktype, template.backlog
        self.path = self.interface = self.umask = None
        self.is_unix = self.so_reuseport = self.replace = self.blocking = False
        self.host, self.port = self.getsockname()[:2]
        self.set_inheritable(True)

    def bind_and_listen(self) -> None:
        """Listen. The socket is bound already."""
        self.setblocking(False)
        self.listen(self.backlog)
