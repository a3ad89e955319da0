"""The processes of the server, under the supervisor that BentoML starts (circus): what of it is ours to say.

By itself it takes commands from anybody on this machine, over TCP ports of the loopback interface; a command may name any
program, which then runs as the server's user. Here it listens in a folder that is its owner's alone. It also starts a process
again however often that fails; here the first start decides.
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

from serving.settings import Settings

_API_SOCKET: Final = "_bento_api_server"  # BentoML's name of it
_CANNOT_START: Final = 78  # EX_CONFIG of sysexits.h
# BentoML looks every 10 s whether its processes live; while the rescorer does not, nobody is watched.
_LOOK_SECONDS: Final = 1
_START_SECONDS: Final = 20  # a process that fails within has not started
# More than a server ever needs; what goes through all possible descriptors takes long with a million of them.
_MOST_DESCRIPTORS: Final = 65_536


def arbiter(watchers: list[Any], *, sockets: list[CircusSocket], **_: object) -> "Supervisor":
    """Return the supervisor of these processes; stands in for BentoML's ``create_standalone_arbiter``.

    Args:
        watchers: each starts one process and starts it again.
        sockets: that processes listen on.
    """
    allow_many_connections()
    bound = Settings().socket
    if bound is not None:
        sockets = [_Bound(listened, bound) if listened.name == _API_SOCKET else listened for listened in sockets]
    folder = tempfile.mkdtemp(prefix="vigil-")  # mode 0700
    found = Supervisor(
        watchers,
        endpoint=f"ipc://{folder}/commands",
        pubsub_endpoint=f"ipc://{folder}/events",
        check_delay=_LOOK_SECONDS,
        sockets=sockets,
    )
    found.exit_stack.callback(shutil.rmtree, folder, ignore_errors=True)
    for watcher in watchers:
        watcher.hooks |= {"after_spawn": found.spawned, "after_reap": found.reaped}
    return found


def allow_many_connections() -> None:
    """Raise the limit of open files, which is 1,024 under Debian and systemd, as far as we may."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _MOST_DESCRIPTORS)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def cannot_start(process: str, because: str) -> NoReturn:
    """End this process: it cannot start, and starting it again would not help."""
    sys.stderr.write(f"vigil: the {process} cannot start: {because}\n")
    sys.stderr.flush()
    os._exit(_CANNOT_START)


class Supervisor(Arbiter):  # type: ignore[misc]
    """Starts processes again that ended, but for those that fail the first time: then the whole server ends."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._spawned: dict[str, float] = {}  # when the first process of each watcher was started
        self._have_run: set[str] = set()
        self._has_failed = False

    def spawned(self, watcher: Any, **_: object) -> bool:
        """A process was started."""
        self._spawned.setdefault(watcher.name, time.monotonic())
        return True

    def reaped(self, watcher: Any, exit_code: int, **_: object) -> None:
        """A process has ended. If it was the first of its kind and ended by itself at once, it cannot start."""
        lived = time.monotonic() - self._spawned[watcher.name]
        if watcher.name not in self._have_run and (exit_code == _CANNOT_START or (exit_code > 0 and lived < _START_SECONDS)):
            self._has_failed = True
            self.loop.add_callback(self._end)
        self._have_run.add(watcher.name)

    def _end(self) -> None:
        try:
            self.stop()
        except ConflictError:  # it looks after its processes just now
            self.loop.call_later(0.1, self._end)

    def start(self, cb: Any = None) -> None:
        """Run until stopped, or until a process cannot start: exit status 2."""
        super().start(cb)
        if self._has_failed:
            self.exit_stack.close()
            sys.stderr.write("vigil: the server has ended, since a process of it cannot start\n")
            sys.exit(2)


class _Bound(CircusSocket):  # type: ignore[misc]
    """A socket that is bound already: nobody can take its port between the choice of it and the start."""

    def __init__(self, like: CircusSocket, descriptor: int) -> None:
        socket.socket.__init__(self, fileno=descriptor)
        self.name, self.socktype, self.backlog = like.name, like.socktype, like.backlog
        self.path = self.interface = self.umask = None
        self.is_unix = self.so_reuseport = self.replace = self.blocking = False
        self.host, self.port = self.getsockname()[:2]
        self.set_inheritable(True)

    def bind_and_listen(self) -> None:
        self.setblocking(False)
        self.listen(self.backlog)
